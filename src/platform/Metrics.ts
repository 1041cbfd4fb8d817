import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { CLOSE } from "../domain/protocol/close-codes.ts"

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
  readModelsContended: Metric.counter("darda_read_models_contended_total", {
    description: "Writes to the read models in Redis that another process was ahead of",
    incremental: true
  }),
  readModelsWentBack: Metric.counter("darda_read_models_went_back_total", {
    description:
      "Partitions of the read models that were found further back than before: Redis was emptied, or they were reset",
    incremental: true
  }),
  olderRead: Metric.counter("darda_older_messages_read_total", {
    description: "Times that messages older than what Redis keeps were read from the log",
    incremental: true
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
  busRetries: Metric.counter("darda_bus_retries_total", {
    description: "Batches of commands that were published to RabbitMQ again, because they were not confirmed",
    incremental: true
  }),
  redisReconnects: Metric.counter("darda_redis_reconnects_total", {
    description: "Connections to Redis that were lost",
    incremental: true
  }),
  queryRetries: Metric.counter("darda_query_retries_total", {
    description: "Queries that one read process did not answer, so that another was asked",
    incremental: true
  }),
  breakersOpen: Metric.gauge("darda_query_breakers_open", {
    description: "Read processes that are not asked, or only tried, because they failed five times in a row"
  }),
  deadLetters: Metric.counter("darda_dead_letters_total", {
    description: "Messages in RabbitMQ that could not be read and were put aside",
    incremental: true
  }),
  framesIn: Metric.counter("darda_frames_received_total", {
    description: "Frames that connections sent",
    incremental: true
  }),
  framesOut: Metric.counter("darda_frames_sent_total", {
    description: "Objects that were queued for connections",
    incremental: true
  }),
  bytesIn: Metric.counter("darda_received_bytes_total", {
    description: "Characters of the frames that connections sent",
    incremental: true
  }),
  bytesOut: Metric.counter("darda_sent_bytes_total", {
    description: "Bytes that were queued for connections",
    incremental: true
  }),
  persistMillis: Metric.histogram("darda_accepted_to_persisted_milliseconds", {
    description: "Time from a command's acceptance by an edge to its answer there",
    boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 15 })
  }),
  deliverMillis: Metric.histogram("darda_persisted_to_delivered_milliseconds", {
    description: "Time from an event's decision to its delivery by an edge, by the clocks of both processes",
    boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 15 })
  }),
  attachMillis: Metric.histogram("darda_attach_milliseconds", {
    description: "Time from a hello to its welcome",
    boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 15 })
  }),
  resumed: Metric.histogram("darda_resumed_conversations", {
    description: "Conversations in which a client that resumed had missed something",
    boundaries: [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]
  }),
  holes: Metric.counter("darda_holes_total", {
    description: "Events that did not follow on, so that what lay between was read first",
    incremental: true
  }),
  hedgedSent: Metric.counter("darda_hedged_sent_total", {
    description: "Commands that were said to be sent, because the log took long",
    incremental: true
  }),
  hedgedLive: Metric.counter("darda_hedged_live_total", {
    description: "Messages that went out before they were persisted, because the log stood still",
    incremental: true
  }),
  hedgedUnlive: Metric.counter("darda_hedged_unlive_total", {
    description: "Messages that went out before they were persisted, and were then refused",
    incremental: true
  }),
  cacheHits: Metric.counter("darda_conversation_hits_total", {
    description: "Conversations that the committer had in memory",
    incremental: true
  }),
  cacheMisses: Metric.counter("darda_conversation_misses_total", {
    description: "Conversations that the committer read from the log",
    incremental: true
  }),
  outboxOverdue: Metric.gauge("darda_outbox_overdue_entries", {
    description:
      "Entries of the outbox older than 2 s, in the last sweep; it looks at some and not all where there are many"
  }),
  outboxAge: Metric.gauge("darda_outbox_oldest_seconds", {
    description: "Age of the oldest entry of the outbox in the last sweep; 0 when none is older than 2 s"
  })
} as const

const counters = Object.values(metrics).filter((metric) => metric.type === "Counter")

/** Writes to the metrics of a process, without an effect per value. */
export interface MetricsWriter {
  /** Adds to a counter, sets a gauge, or records a value. */
  readonly update: (metric: keyof typeof metrics, value: number) => void
  /** Adds to a gauge that several parts of a process share. */
  readonly add: (metric: keyof typeof metrics, value: number) => void
  /** Counts a closed connection by its code. */
  readonly closed: (code: number) => void
  /** Counts who was not let in, before the handshake of a WebSocket. */
  readonly refused: (reason: (typeof REFUSALS)[number]) => void
}

const REFUSALS = ["address", "draining", "full", "rate"] as const
const refusals = Metric.counter("darda_connects_refused_total", {
  description: "WebSocket connections refused before their handshake, by reason",
  incremental: true
})

const closes = Metric.counter("darda_closes_total", {
  description: "WebSocket connections closed, by code",
  incremental: true
})

/** The writer of the metrics registry of the current context. */
export const metricsWriter: Effect.Effect<MetricsWriter> = Effect.map(Effect.context<never>(), (context) => {
  const byCode = new Map<number, typeof closes>()
  // One that is not there yet and one that stands at 0 would look the same to whoever watches.
  for (const counter of counters) counter.updateUnsafe(0, context)
  const closed = (code: number, count: number): void => {
    let labelled = byCode.get(code)
    if (labelled === undefined) byCode.set(code, (labelled = Metric.withAttributes(closes, { code: String(code) })))
    labelled.updateUnsafe(count, context)
  }
  for (const { code } of Object.values(CLOSE)) closed(code, 0)
  const byReason = new Map(REFUSALS.map((reason) => [reason, Metric.withAttributes(refusals, { reason })]))
  for (const counter of byReason.values()) counter.updateUnsafe(0, context)
  return {
    update: (metric, value) => metrics[metric].updateUnsafe(value, context),
    add: (metric, value) => metrics[metric].modifyUnsafe(value, context),
    closed: (code) => closed(code, 1),
    refused: (reason) => byReason.get(reason)!.updateUnsafe(1, context)
  }
})
