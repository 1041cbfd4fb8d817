import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { atLeast, type Vector, zeroVector } from "../domain/partition.ts"
import type { ReadModelsUnavailable } from "./ReadModels.ts"
import { unavailable } from "./ReadModelsRedisApply.ts"
import { type Pointer, pointerOf } from "./ReadModelsRedisRows.ts"

/** How often the checkpoints are read while somebody waits for those of another process. */
const POLL_MS = 10
/** Whoever waits less than this is answered by the next reading. */
const BRIEF_MS = 2 * POLL_MS
/** Longer than any query lasts that was told of checkpoints before they went back. */
const GRACE_MS = 5_000

/**
 * How far the live set is, as this process knows it: by its own writes at once, by what its reads find in passing, and by asking while somebody waits.
 *
 * Checkpoints go back when Redis is emptied, and grow again with the rebuilding. A query that was told "reached" before that must not take for an answer what is read
 * meanwhile, even if all is there again when it looks a second time. So a read that finds less than was ever told fails, and what was told is forgotten only
 * when nobody can remember it any more.
 */
export interface RedisProgress {
  readonly current: () => Vector
  /** What has been told so far: to be taken before something is asked, and given to the next two with its answer. */
  readonly told: () => Vector
  /** A pointer that was found or written. */
  readonly found: (partition: number, pointer: Pointer, told: Vector) => void
  /** The pointer that a read of the partition came with: fails when it is behind what was told before it was asked. */
  readonly read: (partition: number, text: string, told: Vector) => Effect.Effect<void, ReadModelsUnavailable>
  readonly reached: (vector: Vector, timeoutMs: number) => Effect.Effect<boolean, ReadModelsUnavailable>
}

interface Waiter {
  readonly vector: Vector
  readonly brief: boolean
  readonly resume: (answer: Effect.Effect<boolean, ReadModelsUnavailable>) => void
}

/** `ask` reads the pointers of all partitions; `wentBack` is called for each partition whose checkpoint did. */
export const makeRedisProgress = Effect.fnUntraced(function* (
  partitions: number,
  ask: Effect.Effect<ReadonlyArray<Pointer>, ReadModelsUnavailable>,
  wentBack: () => void
): Effect.fn.Return<RedisProgress, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const current: Array<number> = [...zeroVector(partitions)]
  const told = [...current]
  /** Since when a partition is behind what was told; 0: it is not. */
  const backSince = [...current]
  const waiting = new Set<Waiter>()
  let someone = Deferred.makeUnsafe<void>()
  let moved = false

  const found = (partition: number, { checkpoint }: Pointer, before: Vector): void => {
    if (checkpoint >= told[partition]!) {
      told[partition] = checkpoint
      backSince[partition] = 0
    } else if (checkpoint >= before[partition]!) {
      // An answer from before the newest one.
      return
    } else {
      const now = clock.currentTimeMillisUnsafe()
      if (backSince[partition] === 0) backSince[partition] = now
      else if (now - backSince[partition]! > GRACE_MS) {
        told[partition] = checkpoint
        backSince[partition] = 0
      }
      if (checkpoint < current[partition]!) wentBack()
    }
    if (current[partition] === checkpoint) return
    current[partition] = checkpoint
    if (moved || waiting.size === 0) return
    moved = true
    // Once for all partitions of a batch.
    queueMicrotask(wake)
  }
  const wake = (): void => {
    moved = false
    for (const waiter of waiting) {
      if (!atLeast(current, waiter.vector)) continue
      waiting.delete(waiter)
      waiter.resume(Effect.succeed(true))
    }
  }

  const poll = Effect.gen(function* () {
    if (waiting.size === 0) yield* Deferred.await(someone)
    const before = [...waiting]
    const known = [...told]
    const pointers = yield* Effect.result(ask)
    if (pointers._tag === "Failure") {
      for (const waiter of before) {
        if (waiting.delete(waiter)) waiter.resume(Effect.fail(pointers.failure))
      }
    } else {
      for (const [partition, pointer] of pointers.success.entries()) found(partition, pointer, known)
      wake()
      for (const waiter of before) {
        if (waiter.brief && waiting.delete(waiter)) waiter.resume(Effect.succeed(false))
      }
    }
    yield* Effect.sleep(POLL_MS)
  })
  yield* Effect.forkScoped(Effect.forever(poll))

  return {
    current: () => [...current],
    found,
    told: () => [...told],
    read: (partition, text, before) =>
      Effect.suspend(() => {
        const pointer = pointerOf(text)
        found(partition, pointer, before)
        return pointer.checkpoint < before[partition]!
          ? Effect.fail(unavailable("read", "they were emptied, and are rebuilt from the log"))
          : Effect.void
      }),
    reached: (vector, timeoutMs) =>
      Effect.suspend(() => {
        if (atLeast(current, vector)) return Effect.succeed(true)
        const brief = timeoutMs < BRIEF_MS
        const wait = Effect.callback<boolean, ReadModelsUnavailable>((resume) => {
          const waiter: Waiter = { vector, brief, resume }
          waiting.add(waiter)
          Deferred.doneUnsafe(someone, Effect.void)
          someone = Deferred.makeUnsafe()
          return Effect.sync(() => void waiting.delete(waiter))
        })
        return brief ? wait : Effect.timeoutOrElse(wait, { duration: timeoutMs, orElse: () => Effect.succeed(false) })
      })
  }
})
