import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

const requests = Metric.counter("darda_http_requests_total", {
  description: "HTTP requests answered, by method and status",
  incremental: true
})
const duration = Metric.histogram("darda_http_request_milliseconds", {
  description: "Time from a request's head to its answer",
  boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 14 })
})

const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "OPTIONS"])

/** Counts an answered request. Labels have few values: methods that nobody serves are one. */
export const metricsOfHttp: Effect.Effect<(method: string, status: number, millis: number) => void> = Effect.map(
  Effect.context<never>(),
  (context) => {
    const labelled = new Map<string, typeof requests>()
    return (method, status, millis) => {
      const name = METHODS.has(method) ? method : "other"
      const key = `${name} ${status}`
      let counter = labelled.get(key)
      if (counter === undefined) {
        labelled.set(key, (counter = Metric.withAttributes(requests, { method: name, status: String(status) })))
      }
      counter.updateUnsafe(1, context)
      duration.updateUnsafe(millis, context)
    }
  }
)
