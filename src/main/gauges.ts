/** What the process as a whole tells `/metrics`: measured every few seconds, since nobody scrapes more often. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks"
import { freeBytes } from "../platform/DataFolder.ts"

const EVERY = "5 seconds"
const LAG_RESOLUTION_MS = 20

const memory = Metric.gauge("darda_memory_bytes", { description: "Memory that the process holds" })
const diskFree = Metric.gauge("darda_disk_free_bytes", { description: "Free space of the data folder's disk" })
const behind = Metric.gauge("darda_read_models_behind_events", {
  description: "Events of the log that the read models have not applied, when last compared"
})
const behindSeconds = Metric.gauge("darda_read_models_behind_seconds", {
  description: "How long ago the read models had applied everything; 0 when they have"
})
const heap = Metric.gauge("darda_heap_bytes", { description: "Memory that JavaScript's values take" })
const loopLag = Metric.gauge("darda_event_loop_lag_milliseconds", {
  description: "By how much the event loop was late, at worst, since the last measurement"
})
const collection = Metric.counter("darda_gc_milliseconds_total", {
  description: "Time that the collection of garbage took",
  incremental: true
})
const processor = Metric.counter("darda_cpu_milliseconds_total", {
  description: "Time of processors that the process took, all threads together",
  incremental: true
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
export const measureLag = (lag: () => number): Measure => {
  let levelAt = performance.now()
  return (context) => {
    const events = lag()
    if (events === 0) levelAt = performance.now()
    behind.updateUnsafe(events, context)
    behindSeconds.updateUnsafe(events === 0 ? 0 : (performance.now() - levelAt) / 1_000, context)
  }
}

/** The event loop, the heap and the processor. Until the scope closes. */
const measureProcess = Effect.acquireRelease(
  Effect.sync(() => {
    const delays = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS })
    delays.enable()
    let collecting = 0
    const observer = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) collecting += duration
    })
    observer.observe({ entryTypes: ["gc"] })
    let used = process.cpuUsage()
    const measure: Measure = (context) => {
      const { heapUsed, rss } = process.memoryUsage()
      memory.updateUnsafe(rss, context)
      heap.updateUnsafe(heapUsed, context)
      // It measures the time between two ticks, the tick itself included.
      loopLag.updateUnsafe(Math.max(0, delays.max / 1e6 - LAG_RESOLUTION_MS), context)
      delays.reset()
      collection.updateUnsafe(collecting, context)
      collecting = 0
      const { system, user } = process.cpuUsage(used)
      used = process.cpuUsage()
      processor.updateUnsafe((system + user) / 1_000, context)
    }
    return { measure, stop: () => (delays.disable(), observer.disconnect()) }
  }),
  ({ stop }) => Effect.sync(stop)
)

/** Measures for ever: the process itself, and what else there is. */
export const measure = (measures: ReadonlyArray<Measure>): Effect.Effect<never> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const own = yield* measureProcess
    return yield* Effect.sync(() => {
      own.measure(context)
      for (const one of measures) one(context)
    }).pipe(Effect.andThen(Effect.sleep(EVERY)), Effect.forever)
  }).pipe(Effect.scoped)
