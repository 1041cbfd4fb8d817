/** Work that goes on for as long as the process: tried again when an engine fails, and the end of the process when it is a bug. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/** The process cannot go on; whatever started it may start it again. */
export class Fatal extends Schema.TaggedError<Fatal>()("Fatal", { message: Schema.String }) {}

/** Where the end of the process is announced. */
export class Ending extends Context.Service<Ending, Deferred.Deferred<never, Fatal>>()("darda/main/Ending") {
  static readonly layer: Layer.Layer<Ending> = Layer.effect(Ending, Deferred.make<never, Fatal>())
  /** Waits for the end; fails with why. */
  static readonly await: Effect.Effect<never, Fatal, Ending> = Effect.flatMap(Ending, Deferred.await)
}

/** Ends the process. */
export const fatal = (message: string): Effect.Effect<void, never, Ending> =>
  Effect.flatMap(Ending, (ending) => Deferred.fail(ending, new Fatal({ message })))

const AGAIN = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(Schedule.jittered)

/** Runs something that never ends, until the scope closes. Its failures are logged and it starts over; a bug ends the process. */
export const background = <E extends { readonly message: string }, R>(
  name: string,
  work: Effect.Effect<never, E, R>
): Effect.Effect<void, never, R | Ending | Scope.Scope> =>
  work.pipe(
    Effect.tapError((error) => Effect.logWarning(`The ${name} starts over: ${error.message}`)),
    Effect.retry(AGAIN),
    Effect.tapCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Effect.andThen(
            Effect.logError(`The ${name} ended by a bug`, cause),
            fatal(`the ${name} ended by a bug, which the log shows; please report it`)
          )
    ),
    Effect.forkScoped,
    Effect.asVoid
  )
