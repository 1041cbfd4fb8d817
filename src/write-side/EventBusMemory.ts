import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { EventBus, type Published } from "./EventBus.ts"

/** Events that wait at most: some seconds of a busy server, and some 20 MB of short messages. */
const MAX_EVENTS = 20_000

/** A bus in memory. It outlives the processes that use it, so that a simulation can crash and restart them; those who take share one queue. */
export interface MemoryEventBus {
  readonly publish: (batch: Published) => void
  /** What waits, oldest first, at most `max` batches. */
  readonly poll: (max: number) => ReadonlyArray<Published>
  readonly take: (max: number) => Effect.Effect<ReadonlyArray<Published>>
  /** Events that wait. */
  readonly waiting: () => number
  /** Events dropped since the start because nobody took them. */
  readonly dropped: () => number
}

/**
 * An empty bus that holds up to `maxEvents`. When more are published the oldest batches are dropped, and never the publisher kept waiting:
 * whoever takes the next ones sees the hole and reads the log.
 */
export const makeMemoryEventBus = (maxEvents = MAX_EVENTS): MemoryEventBus => {
  let batches: Array<Published> = []
  let first = 0
  let waiting = 0
  let dropped = 0
  const filled = Latch.makeUnsafe(false)

  const shift = (): Published => {
    const batch = batches[first++]!
    waiting -= batch.events.length
    if (first > 1_024 && first * 2 > batches.length) {
      batches = batches.slice(first)
      first = 0
    }
    return batch
  }
  const poll = (max: number): ReadonlyArray<Published> => {
    const taken: Array<Published> = []
    while (taken.length < max && first < batches.length) taken.push(shift())
    if (first === batches.length) {
      batches = []
      first = 0
      filled.closeUnsafe()
    }
    return taken
  }
  return {
    publish: (batch) => {
      if (batch.events.length === 0) return
      batches.push(batch)
      waiting += batch.events.length
      while (waiting > maxEvents && batches.length - first > 1) dropped += shift().events.length
      filled.openUnsafe()
    },
    poll,
    // Taken in one synchronous step, so that an interrupted taker takes nothing with it.
    take: (max) =>
      Effect.suspend(function attempt(): Effect.Effect<ReadonlyArray<Published>> {
        const taken = poll(max)
        return taken.length > 0 ? Effect.succeed(taken) : Effect.andThen(filled.await, Effect.suspend(attempt))
      }),
    waiting: () => waiting,
    dropped: () => dropped
  }
}

/** The bus within one process, or within the processes of a simulation. */
export const layerMemory = (bus: MemoryEventBus): Layer.Layer<EventBus> =>
  Layer.sync(EventBus, () => EventBus.of({ publish: (batch) => Effect.sync(() => bus.publish(batch)), take: bus.take }))
