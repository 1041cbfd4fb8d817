import { constant, type Substitution } from "./substitutions.ts"

/** Limits so small that a history of some dozen steps reaches them: what happens at them is behaviour like any other. */
export const tight: ReadonlyArray<Substitution> = [
  constant("src/edge/Outgoing.ts", "QUEUE_FRAMES", 24),
  constant("src/edge/Feed.ts", "PULL_EVENTS", 3),
  constant("src/edge/Feed.ts", "REMEMBERED", 1),
  constant("src/edge/Connection.ts", "INBOX_FRAMES", 3),
  constant("src/edge/Connection.ts", "REQUESTS", 1),
  constant("src/edge/Edge.ts", "STREAM_BATCH", 3),
  // As if there were hundreds who attach again.
  constant("src/edge/reattach.ts", "SPREAD_EACH_MS", 2_000),
  constant("src/domain/protocol/limits.ts", "REPLAY_PER_CONVERSATION", 6),
  constant("src/domain/protocol/limits.ts", "REPLAY_TOTAL", 10),
  constant("src/domain/conversation.ts", "NAMED_RECEIPTS_MAX", 2),
  constant("src/domain/conversation.ts", "BIG_MEMBERS", 1),
  constant("src/write-side/StateCache.ts", "MAX_CONVERSATIONS", 1),
  constant("src/write-side/CommandPublisher.ts", "BATCH_COMMANDS", 4),
  constant("src/write-side/EventBusMemory.ts", "MAX_EVENTS", 12),
  constant("src/write-side/Relay.ts", "WAITING_COMMITS", 2),
  constant("src/write-side/Relay.ts", "SWEEP_ENTRIES", 2),
  constant("src/write-side/Relay.ts", "READ_EVENTS", 3),
  constant("src/write-side/Relay.ts", "OWED_COUNTS", 2),
  constant("src/read-side/Projector.ts", "TAKE_BATCHES", 2),
  constant("src/read-side/fill.ts", "PAGE_EVENTS", 4),
  constant("src/read-side/QueriesLive.ts", "INBOX_PAGE", 2),
  constant("src/read-side/fromLog.ts", "SCAN_PAGE", 3),
  constant("src/read-side/missed.ts", "FIRST_LOOK", 2),
  constant("src/platform/RouterMemory.ts", "STREAM_ITEMS", 30)
]
