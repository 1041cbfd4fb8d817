import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** How long one check may take; longer than this is an engine that does not answer. */
const CHECK_WITHIN = "1 second"

/** Asks an engine whether it answers: fails, with an error whose `message` is for a person, when it does not. */
export type Check = Effect.Effect<unknown, { readonly message: string }>

/** Whether this process should be sent new clients: its engines answer and it is not on its way out. */
export class Readiness extends Context.Service<
  Readiness,
  {
    /** Why not, one sentence each; empty when ready. Answers within about a second whatever the engines do. */
    readonly reasons: Effect.Effect<ReadonlyArray<string>>
    /** From now on it is not ready; there is no way back. */
    readonly drain: Effect.Effect<void>
  }
>()("darda/platform/Readiness") {
  /** Ready while these checks, each with the name of what it asks, all succeed. */
  static readonly layer = (checks: Readonly<Record<string, Check>>): Layer.Layer<Readiness> =>
    Layer.sync(Readiness, () => {
      let draining = false
      const results = Effect.forEach(Object.entries(checks), ([name, check]) => reasonOf(name, check), {
        concurrency: "unbounded"
      })
      return Readiness.of({
        reasons: Effect.map(results, (found) => [
          ...(draining ? ["This server is draining."] : []),
          ...found.filter((reason) => reason !== undefined)
        ]),
        drain: Effect.sync(() => {
          draining = true
        })
      })
    })
}

const reasonOf = (name: string, check: Check): Effect.Effect<string | undefined> =>
  check.pipe(
    Effect.as(undefined),
    Effect.timeoutOrElse({ duration: CHECK_WITHIN, orElse: () => Effect.succeed(`${name}: no answer within ${CHECK_WITHIN}.`) }),
    Effect.catch((error) => Effect.succeed(`${name}: ${error.message}`)),
    Effect.catchCause((cause) => Effect.succeed(`${name}: ${Cause.pretty(cause).split("\n", 1)[0] ?? "failed"}`))
  )
