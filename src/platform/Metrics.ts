import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/**
 * What is measured, for Prometheus at `/metrics`. Labels have few values, fixed in the code: never a user, a conversation or a
 * message.
 */
const metrics = {
  connections: Metric.gauge("darda_connections", { description: "Open WebSocket connections" }),
  connects: Metric.counter("darda_connects_total", { description: "WebSocket connections opened", incremental: true }),
  commits: Metric.counter("darda_commits_total", { description: "Commits to the event log", incremental: true }),
  commands: Metric.counter("darda_commands_total", { description: "Commands decided", incremental: true }),
  events: Metric.counter("darda_events_total", { description: "Events appended to the log", incremental: true }),
  commitRetries: Metric.counter("darda_commit_retries_total", {
    description: "Commits that were tried again, or whose partitions were lost",
    incremental: true
  }),
  commitMillis: Metric.histogram("darda_commit_milliseconds", {
    description: "Time of one commit",
    boundaries: Metric.exponentialBoundaries({ start: 0.5, factor: 2, count: 14 })
  }),
  batch: Metric.histogram("darda_commands_per_commit", {
    description: "Commands in one commit",
    boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 10 })
  }),
  logRetries: Metric.counter("darda_log_retries_total", {
    description: "Transactions that MongoDB had tried again: conflicts, elections, lost answers",
    incremental: true
  }),
  relayWaiting: Metric.gauge("darda_relay_waiting_commits", { description: "Commits that wait for the relay" }),
  projectionLag: Metric.gauge("darda_projection_lag_events", {
    description: "Events of the log that the read models do not hold yet"
  }),
  streamLosses: Metric.counter("darda_stream_losses_total", {
    description: "Times that this node's stream was lost, and all of its connections attached again",
    incremental: true
  }),
  outboxLeft: Metric.counter("darda_outbox_recovered_total", {
    description: "Outbox entries relayed from the log because whoever wrote them did not",
    incremental: true
  }),
  busReconnects: Metric.counter("darda_bus_reconnects_total", {
    description: "Connections to RabbitMQ that were lost",
    incremental: true
  }),
  busBlocked: Metric.gauge("darda_bus_blocked", {
    description: "Connections on which RabbitMQ takes nothing more, for want of memory or disk"
  }),
  busUnconfirmed: Metric.gauge("darda_bus_unconfirmed_batches", {
    description: "Batches that are published to RabbitMQ, or wait for that, and are not confirmed"
  }),
  busReceived: Metric.gauge("darda_bus_received_batches", {
    description: "Batches that RabbitMQ delivered and nobody has taken yet"
  }),
  deadLetters: Metric.counter("darda_dead_letters_total", {
    description: "Messages in RabbitMQ that could not be read and were put aside",
    incremental: true
  })
} as const

/** Writes to the metrics of a process, without an effect per value. */
export interface MetricsWriter {
  /** Adds to a counter, sets a gauge, or records a value. */
  readonly update: (metric: keyof typeof metrics, value: number) => void
  /** Adds to a gauge that several parts of a process share. */
  readonly add: (metric: keyof typeof metrics, value: number) => void
  /** Counts a closed connection by its code. */
  readonly closed: (code: number) => void
}

const closes = Metric.counter("darda_closes_total", {
  description: "WebSocket connections closed, by code",
  incremental: true
})

/** The writer of the metrics registry of the current context. */
export const metricsWriter: Effect.Effect<MetricsWriter> = Effect.map(Effect.context<never>(), (context) => {
  const byCode = new Map<number, typeof closes>()
  return {
    update: (metric, value) => metrics[metric].updateUnsafe(value, context),
    add: (metric, value) => metrics[metric].modifyUnsafe(value, context),
    closed: (code) => {
      let labelled = byCode.get(code)
      if (labelled === undefined) byCode.set(code, (labelled = Metric.withAttributes(closes, { code: String(code) })))
      labelled.updateUnsafe(1, context)
    }
  }
})
