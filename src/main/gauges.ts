/** What the process as a whole tells `/metrics`: measured every few seconds, since nobody scrapes more often. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { freeBytes } from "../platform/DataFolder.ts"

const EVERY = "5 seconds"

const memory = Metric.gauge("darda_memory_bytes", { description: "Memory that the process holds" })
const diskFree = Metric.gauge("darda_disk_free_bytes", { description: "Free space of the data folder's disk" })
const behind = Metric.gauge("darda_read_models_behind_events", {
  description: "Events of the log that the read models have not applied, when last compared"
})

/** One measurement. */
type Measure = (context: Context.Context<never>) => void

/** Free space of the disk that holds this folder. */
export const measureDisk =
  (folder: string): Measure =>
  (context) => {
    try {
      diskFree.updateUnsafe(freeBytes(folder), context)
    } catch {
      // A folder that is gone for a moment is for others to notice.
    }
  }

/** By how much the read models are behind. */
export const measureLag =
  (lag: () => number): Measure =>
  (context) =>
    behind.updateUnsafe(lag(), context)

/** Measures for ever: the process's memory, and what else there is. */
export const measure = (measures: ReadonlyArray<Measure>): Effect.Effect<never> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    return yield* Effect.sync(() => {
      memory.updateUnsafe(process.memoryUsage.rss(), context)
      for (const one of measures) one(context)
    }).pipe(Effect.andThen(Effect.sleep(EVERY)), Effect.forever)
  })
