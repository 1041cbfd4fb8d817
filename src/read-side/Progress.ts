import * as Effect from "effect/Effect"
import { atLeast, type Vector } from "../domain/partition.ts"

/** The checkpoints of a set of read models, and those who wait for them. */
export interface Progress {
  readonly current: () => Vector
  /** Sets the checkpoints, also backwards after a reset, and wakes whom they suffice. */
  readonly set: (checkpoints: Vector) => void
  /** True as soon as the checkpoints are at or past `vector`, false after `timeoutMs`. */
  readonly reached: (vector: Vector, timeoutMs: number) => Effect.Effect<boolean>
}

/** Waiting costs one entry in a set, which goes when the wait ends; every wait ends with its timeout. */
export const makeProgress = (initial: Vector): Progress => {
  let current = initial
  const waiting = new Set<{ readonly vector: Vector; readonly wake: () => void }>()
  return {
    current: () => current,
    set: (checkpoints) => {
      current = checkpoints
      for (const waiter of waiting) {
        if (!atLeast(checkpoints, waiter.vector)) continue
        waiting.delete(waiter)
        waiter.wake()
      }
    },
    reached: (vector, timeoutMs) =>
      Effect.suspend(() => {
        if (atLeast(current, vector)) return Effect.succeed(true)
        return Effect.callback<boolean>((resume) => {
          const waiter = { vector, wake: () => resume(Effect.succeed(true)) }
          waiting.add(waiter)
          return Effect.sync(() => void waiting.delete(waiter))
        }).pipe(Effect.timeoutOrElse({ duration: timeoutMs, orElse: () => Effect.succeed(false) }))
      })
  }
}
