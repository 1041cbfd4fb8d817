/** What the process as a whole tells `/metrics`: measured every few seconds, since nobody scrapes more often. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { freeBytes } from "../platform/DataFolder.ts"
import { Projector } from "../read-side/Projector.ts"

const EVERY = "5 seconds"

const memory = Metric.gauge("darda_memory_bytes", { description: "Memory that the process holds" })
const diskFree = Metric.gauge("darda_disk_free_bytes", { description: "Free space of the data folder's disk" })
const behind = Metric.gauge("darda_read_models_behind_events", {
  description: "Events of the log that the read models have not applied, when last compared"
})

/** Measures for ever. */
export const measure = (folder: string): Effect.Effect<never, never, Projector> =>
  Effect.gen(function* () {
    const projector = yield* Projector
    const context = yield* Effect.context<never>()
    return yield* Effect.sync(() => {
      memory.updateUnsafe(process.memoryUsage.rss(), context)
      behind.updateUnsafe(projector.lag(), context)
      try {
        diskFree.updateUnsafe(freeBytes(folder), context)
      } catch {
        // A folder that is gone for a moment is for others to notice.
      }
    }).pipe(Effect.andThen(Effect.sleep(EVERY)), Effect.forever)
  })
