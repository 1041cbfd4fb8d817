import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { atLeast, type Vector, zeroVector } from "../domain/partition.ts"
import type { EventReader, LogUnavailable } from "../write-side/EventLog.ts"
import { fill } from "./fill.ts"
import type { Counts, ReadModels, ReadModelsUnavailable } from "./ReadModels.ts"

/** How far a replay is. */
export interface ReplayProgress {
  /** Events applied so far. */
  readonly done: number
  /** Events in the log when it was last looked at. */
  readonly total: number
  /** Events a second since the start. */
  readonly perSecond: number
}

export interface ReplayResult {
  readonly events: number
  readonly millis: number
  readonly checkpoints: Vector
  /** What was there and what took its place. */
  readonly before: Counts
  readonly after: Counts
  /** Whether both held the same part of the log, so that the counts must be equal; false when the old read models were behind and stayed so. */
  readonly comparable: boolean
}

export interface ReplayOptions {
  readonly log: EventReader
  readonly readModels: ReadModels["Service"]
  /** Called after every page of 1,000 events. */
  readonly onProgress?: (progress: ReplayProgress) => Effect.Effect<void>
}

/** Events by which the copy may be behind when the live read models are stopped for the last of them. */
const LAST_EVENTS = 2_000
/** Looks at the heads of a log that grows all the while. */
const ROUNDS = 100
/** How long the old read models are given to be where the new ones are, so that the two can be compared. */
const COMPARE_MS = 5_000

export const sum = (vector: Vector): number => vector.reduce((total, position) => total + position, 0)

/**
 * Rebuilds all read models from the log's first event, beside the live ones, which go on working and are replaced in one step at the end. Whatever fails on
 * the way, or a crash, leaves the live ones as they were. Nothing is sent to anyone.
 */
export const replay = Effect.fn("ReadSide.replay")(function* ({
  log,
  onProgress,
  readModels
}: ReplayOptions): Effect.fn.Return<ReplayResult, LogUnavailable | ReadModelsUnavailable, Scope.Scope> {
  const started = yield* Clock.currentTimeMillis
  const shadow = yield* readModels.shadow
  let checkpoints = zeroVector(log.partitions)
  const fillTo = Effect.fnUntraced(function* (target: Vector) {
    const total = sum(target)
    checkpoints = yield* fill({
      log,
      from: checkpoints,
      target,
      apply: shadow.apply,
      onApplied:
        onProgress &&
        ((reached) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const done = sum(reached)
            return onProgress({
              done,
              total: Math.max(total, done),
              perSecond: Math.round((done * 1_000) / Math.max(1, now - started))
            })
          }))
    })
  })
  for (let round = 0; round < ROUNDS; round++) {
    const heads = yield* log.heads
    if (sum(heads) - sum(checkpoints) <= LAST_EVENTS) break
    yield* fillTo(heads)
  }
  yield* readModels.reached(checkpoints, COMPARE_MS)
  let comparable = false
  const counts = yield* shadow.replaceLive(
    Effect.fnUntraced(function* (live) {
      yield* fillTo(live)
      comparable = atLeast(live, checkpoints) && atLeast(checkpoints, live)
    })
  )
  const ended = yield* Clock.currentTimeMillis
  return { events: sum(checkpoints), millis: ended - started, checkpoints, ...counts, comparable }
}, Effect.scoped)
