/** What each role does without being asked. Each start answers what the role does when the process is asked to leave. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Edge, newId } from "../edge/Edge.ts"
import { dmConversation } from "../domain/ids.ts"
import { Readiness } from "../platform/Readiness.ts"
import type { SettingsValues } from "../platform/Settings.ts"
import { Projector } from "../read-side/Projector.ts"
import { ReadModels } from "../read-side/ReadModels.ts"
import { runCommitter } from "../write-side/Committer.ts"
import { EventLog, LogHeads } from "../write-side/EventLog.ts"
import { Relay } from "../write-side/Relay.ts"
import { background } from "./background.ts"

/** A conversation to ask for, when all that counts is that there is an answer. */
export const ANY = dmConversation("a", "b")

/** How long a leaving relay tells what was committed; what is left then is found in the outbox by the next owner. */
const TELL_WITHIN = "5 seconds"

/** A role that was started, and what it does before the process ends. */
export interface Started {
  readonly leave: Effect.Effect<void>
}

/** What a check found, as readiness wants it. */
export const saying = (
  check: Effect.Effect<unknown, { readonly message: string }>
): Effect.Effect<string | undefined> =>
  check.pipe(
    Effect.as(undefined),
    Effect.catch((error) => Effect.succeed(error.message))
  )

/** Commits and relays. Leaving, it gives its partitions back first, and then tells what it had committed. */
export const startWrite = Effect.fnUntraced(function* (settings: SettingsValues) {
  const log = yield* EventLog
  const relay = yield* Relay
  const readiness = yield* Readiness
  yield* readiness.register("event log", saying(log.heads))
  yield* background("relay", relay.run)
  const committing = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(committing, Exit.void))
  yield* background(
    "committer",
    Effect.scoped(runCommitter({ owner: newId(), newDmsPerHour: settings.limitNewDmsPerHour }))
  ).pipe(Scope.provide(committing))
  const leave = Effect.andThen(
    Scope.close(committing, Exit.void),
    Effect.timeoutOrElse(relay.drain, { duration: TELL_WITHIN, orElse: () => Effect.void })
  )
  return { leave } satisfies Started
})

/** Projects, and answers queries. */
export const startRead = Effect.gen(function* () {
  const log = yield* EventLog
  const readModels = yield* ReadModels
  const projector = yield* Projector
  const readiness = yield* Readiness
  yield* readiness.register("event log", saying(log.heads))
  yield* readiness.register("read models", saying(readModels.access(ANY, "a")))
  yield* background("projector", projector.run)
  return { leave: Effect.void } satisfies Started
})

/** Serves connections. Leaving, it sends its clients elsewhere. */
export const startEdge = Effect.fnUntraced(function* (settings: SettingsValues) {
  const log = yield* LogHeads
  const edge = yield* Edge
  const readiness = yield* Readiness
  yield* readiness.register("heads of the log", saying(log.heads))
  yield* background("edge", edge.run)
  const leave = Effect.andThen(
    Effect.suspend(() => Effect.logInfo(`Stopping: ${edge.node.size} connections are asked to leave`)),
    edge.drain(settings.drainSeconds)
  )
  return { leave } satisfies Started
})
