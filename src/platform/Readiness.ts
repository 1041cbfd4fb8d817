import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** How long one check may take; an engine that answers later does not answer. */
const CHECK_WITHIN = "2 seconds"

/** Why a process is not ready. `name` is that of the check. */
export interface NotReady {
  readonly name: string
  readonly reason: string
}

/** Answers what is wrong, for a person; undefined when all is well. */
export type Check = Effect.Effect<string | undefined>

/** Whether this process should be given work: its engines answer, and it is not about to leave. */
export class Readiness extends Context.Service<
  Readiness,
  {
    /** Adds a check, until the scope closes. Names are few and fixed in the code. */
    readonly register: (name: string, check: Check) => Effect.Effect<void, never, Scope.Scope>
    /** From now on not ready, because this process is about to leave. */
    readonly drain: Effect.Effect<void>
    /** What is in the way; empty when ready. Takes at most 2 s, and never fails: a check that breaks is a reason. */
    readonly reasons: Effect.Effect<ReadonlyArray<NotReady>>
  }
>()("darda/platform/Readiness") {
  static readonly layer: Layer.Layer<Readiness> = Layer.sync(Readiness, () => {
    const checks = new Map<string, Check>()
    let draining = false
    const reasonOf = ([name, check]: readonly [string, Check]): Effect.Effect<NotReady | undefined> =>
      check.pipe(
        Effect.timeoutOrElse({ duration: CHECK_WITHIN, orElse: () => Effect.succeed(`no answer in ${CHECK_WITHIN}`) }),
        Effect.catchDefect((defect) => Effect.succeed(`the check failed: ${String(defect)}`)),
        Effect.map((reason) => (reason === undefined ? undefined : { name, reason }))
      )
    return Readiness.of({
      register: (name, check) =>
        Effect.acquireRelease(
          Effect.sync(() => checks.set(name, check)),
          () => Effect.sync(() => checks.delete(name))
        ),
      drain: Effect.sync(() => {
        draining = true
      }),
      reasons: Effect.suspend(() =>
        Effect.map(Effect.forEach([...checks], reasonOf, { concurrency: "unbounded" }), (found) => [
          ...(draining ? [{ name: "drain", reason: "this server is going away" }] : []),
          ...found.filter((reason) => reason !== undefined)
        ])
      )
    })
  })
}
