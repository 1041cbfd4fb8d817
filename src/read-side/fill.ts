import * as Effect from "effect/Effect"
import type { Vector } from "../domain/partition.ts"
import type { EventReader, LogUnavailable } from "../write-side/EventLog.ts"
import type { Run } from "./ReadModels.ts"

/** Events read from the log at once, and applied at once. */
export const PAGE_EVENTS = 1_000

/**
 * Reads the log from `from` to `target` and applies it, a page being read while the one before is applied. Answers where it got: less than the target
 * when the log ends before it, or when what was applied did not go on from what was read. A partition that is found further than was read of it is being filled
 * by another process, and left to it.
 */
export const fill = Effect.fnUntraced(function* <E>(options: {
  readonly log: EventReader
  readonly from: Vector
  readonly target: Vector
  /** Answers the checkpoints. */
  readonly apply: (runs: ReadonlyArray<Run>) => Effect.Effect<Vector, E>
  readonly onApplied?: ((checkpoints: Vector) => Effect.Effect<void>) | undefined
}): Effect.fn.Return<Vector, E | LogUnavailable> {
  const { apply, log, onApplied, target } = options
  let checkpoints = options.from
  const at = [...options.from]
  const page = Effect.fnUntraced(function* () {
    const runs: Array<Run> = []
    let room = PAGE_EVENTS
    for (let partition = 0; partition < target.length && room > 0; partition++) {
      const missing = target[partition]! - at[partition]!
      if (missing <= 0) continue
      const events = yield* log.read(partition, at[partition]!, Math.min(missing, room))
      if (events.length === 0) continue
      at[partition]! += events.length
      room -= events.length
      runs.push({ partition, events })
    }
    return runs
  })
  let runs = yield* page()
  while (runs.length > 0) {
    const ends = runs.map(({ events, partition }) => ({ partition, end: events.at(-1)!.position }))
    const [applied, next] = yield* Effect.all([apply(runs), page()], { concurrency: 2 })
    checkpoints = applied
    if (onApplied !== undefined) yield* onApplied(checkpoints)
    if (ends.some(({ end, partition }) => applied[partition]! < end)) return checkpoints
    const others = new Set(ends.flatMap(({ end, partition }) => (applied[partition]! > end ? [partition] : [])))
    for (const partition of others) at[partition] = target[partition]!
    runs = next.filter(({ partition }) => !others.has(partition))
  }
  return checkpoints
})
