import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import { type Conversation, type Member } from "../domain/conversation.ts"
import { isTimeline, type StoredEvent, type TimelineEvent } from "../domain/events.ts"
import { isDm, type ConversationId } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"
import { makeWorker, type WorkerClient, type WorkerError } from "../platform/worker/WorkerClient.ts"
import {
  AlreadyInLog,
  type AppendBatch,
  EventLog,
  Fenced,
  LogUnavailable,
  LogUnusable,
  type Membership,
  type OutboxEntry,
  type PartitionHead
} from "./EventLog.ts"
import { decodeEvent, encodeEvent, growthOf, targetOf } from "./EventLogRecords.ts"
import { ID_BASE } from "./EventLogSqliteFile.ts"
import type { FlatEvents, ReaderMethods } from "./EventLogSqliteReader.worker.ts"
import type { FlatBatch, FlatConversation, FlatHead, WriterMethods } from "./EventLogSqliteWriter.worker.ts"

export interface SqliteLogOptions {
  /** Made when it is missing; its folder must exist. */
  readonly file: string
  /** Must be what the file was made with. */
  readonly partitions: number
}

/** Pages written, by estimate, after which the write-ahead log is moved into the file: 16 MiB. */
const CHECKPOINT_PAGES = 4_096

/**
 * The event log in one SQLite file, written by one thread and read by another. For one process at a time, though a second one does no harm
 * beyond slowing both.
 */
export const layerSqlite = (options: SqliteLogOptions): Layer.Layer<EventLog, LogUnusable> =>
  Layer.effect(
    EventLog,
    Effect.gen(function* () {
      // The order matters: the writer makes the file, and is the last to close it.
      const writer = yield* makeWorker<WriterMethods>({
        url: new URL("./EventLogSqliteWriter.worker.ts", import.meta.url),
        name: "log writer",
        data: options
      })
      const reader = yield* makeWorker<ReaderMethods>({
        url: new URL("./EventLogSqliteReader.worker.ts", import.meta.url),
        name: "log reader",
        data: options
      })
      return make(options, writer, reader, yield* reader.call("id"))
    }).pipe(
      Effect.mapError((error) => new LogUnusable({ where: options.file, code: error.code, reason: error.reason }))
    )
  )

const make = (
  { partitions }: SqliteLogOptions,
  writer: WorkerClient<WriterMethods>,
  reader: WorkerClient<ReaderMethods>,
  id: string
): EventLog["Service"] => {
  const partition = (conv: ConversationId): number => partitionOf(conv, partitions)
  let written = 0
  const checkpoint = reader.call("checkpoint").pipe(
    Effect.catch((error) => Effect.logWarning(error.message)),
    Effect.forkDetach
  )

  return {
    id,
    partitions,
    heads: ask("heads", reader.call("heads")),
    read: (of, after, limit) => ask("read", reader.call("read", of, after, limit), (rows) => events(of, rows)),
    timeline: (conv, { after = 0, before = Number.MAX_SAFE_INTEGER, limit, take }) =>
      ask("timeline", reader.call("timeline", conv, partition(conv), after, before, limit, take === "newest"), (rows) =>
        timeline(partition(conv), rows)
      ),
    amendments: (conv, targets) =>
      ask("amendments", reader.call("amendments", conv, partition(conv), targets), (rows) =>
        timeline(partition(conv), rows)
      ),
    conversation: (conv) =>
      ask("conversation", reader.call("conversation", conv), (found) => found && conversation(conv, found)),
    memberships: (user, after, limit) =>
      ask("memberships", reader.call("memberships", user, after, limit), memberships),
    claim: (claimed, owner) => ask("claim", writer.call("claim", claimed, owner), (heads) => heads.map(partitionHead)),
    prepare: (request) =>
      ask(
        "prepare",
        writer.call("prepare", {
          conversations: request.conversations,
          cids: request.cids.flatMap(({ by, cid, conv }) => [conv, partition(conv), by, cid]),
          targets: request.targets.flatMap(({ conv, seq }) => [conv, partition(conv), seq]),
          openers: request.openers,
          openedSince: request.openedSince
        }),
        (answers) => ({
          ...answers,
          conversations: answers.conversations.map(
            (found, i) => found && conversation(request.conversations[i]!, found)
          )
        })
      ),
    append: Effect.fnUntraced(function* (batch) {
      const flat = flatten(batch, partitions)
      const refusal = yield* ask("append", writer.call("append", flat))
      if (refusal !== undefined) {
        return yield* refusal._tag === "Fenced" ? new Fenced(refusal) : new AlreadyInLog(refusal)
      }
      written += pagesOf(flat)
      if (written < CHECKPOINT_PAGES) return
      written = 0
      yield* checkpoint
    }),
    outbox: ({ limit, partition, until }) =>
      ask("outbox", writer.call("outbox", until, limit, partition), outboxEntries),
    relayed: (entries) =>
      entries.length === 0 ? Effect.void : ask("relayed", writer.call("relayed", outboxKeys(entries)))
  }
}

/** Makes a call, and builds the answer from what came over. A record that this version cannot read is a failure like any other. */
const ask: {
  <A>(operation: string, call: Effect.Effect<A, WorkerError>): Effect.Effect<A, LogUnavailable>
  <A, B>(
    operation: string,
    call: Effect.Effect<A, WorkerError>,
    build: (answer: A) => B
  ): Effect.Effect<B, LogUnavailable>
} = <A, B>(operation: string, call: Effect.Effect<A, WorkerError>, build?: (answer: A) => B) =>
  Effect.matchEffect(call, {
    onFailure: (error) => new LogUnavailable({ operation, reason: error.reason, cause: error }),
    onSuccess: (answer): Effect.Effect<A | B, LogUnavailable> => {
      if (build === undefined) return Effect.succeed(answer)
      try {
        return Effect.succeed(build(answer))
      } catch (cause) {
        return new LogUnavailable({ operation, reason: cause instanceof Error ? cause.message : String(cause), cause })
      }
    }
  })

const flatten = (batch: AppendBatch, partitions: number): FlatBatch => {
  const grown = growthOf(batch, partitions)
  const runs: Array<number> = []
  const counters: Array<number | string> = []
  const records: Array<number | string> = []
  const openings: Array<string | number> = []
  for (const { counters: moved, epoch, events, partition, position } of batch.runs) {
    runs.push(partition, epoch, position, events.length)
    for (const edge of Object.keys(moved)) counters.push(partition, edge, moved[edge]!)
    for (const event of events) {
      records.push(partition * ID_BASE + event.position, encodeEvent(event))
      if (event.seq === 1 && event.type === "message" && isDm(event.conv)) openings.push(event.by, event.at, event.conv)
    }
  }
  const conversations: Array<string | number | null> = []
  const additions: Array<number | string> = []
  for (const { at, conv, position, seq, title } of batch.conversations) {
    const growth = grown.get(conv)
    if (growth === undefined) continue
    conversations.push(
      conv,
      title ?? null,
      seq,
      at,
      position,
      growth.before.seq,
      growth.before.position,
      growth.events.length
    )
    for (const event of growth.events)
      additions.push(event.partition, event.position, event.by, event.cid, targetOf(event))
  }
  const members: Array<string | number> = []
  for (const { admin, conv, delivered, left, seen, since, user } of batch.members) {
    members.push(conv, user, admin ? 1 : 0, since, delivered, seen, left)
  }
  return {
    at: batch.at,
    runs,
    counters,
    events: records,
    conversations,
    additions,
    members,
    openings,
    relayed: outboxKeys(batch.relayed)
  }
}

/** An estimate: small events share pages, everything else touches one of its own. */
const pagesOf = (flat: FlatBatch): number =>
  8 + flat.events.length / 16 + flat.conversations.length / 8 + flat.members.length / 7 + flat.runs.length / 4

const events = (partition: number, rows: FlatEvents): ReadonlyArray<StoredEvent> => {
  const found: Array<StoredEvent> = []
  for (let i = 0; i < rows.length; i += 2) found.push(decodeEvent(partition, rows[i] as number, rows[i + 1] as string))
  return found
}

const timeline = (partition: number, rows: FlatEvents): ReadonlyArray<TimelineEvent> =>
  events(partition, rows).filter(isTimeline)

const conversation = (conv: ConversationId, [title, seq, at, position, ...rest]: FlatConversation): Conversation => {
  const members = HashMap.mutate(HashMap.empty<string, Member>(), (map) => {
    for (let i = 0; i < rest.length; i += 5) {
      const [user, admin, since, delivered, seen] = rest.slice(i, i + 5) as [string, number, number, number, number]
      HashMap.set(map, user, { user, admin: admin === 1, since, delivered, seen })
    }
  })
  return { conv, kind: isDm(conv) ? "dm" : "group", ...(title === null ? {} : { title }), seq, at, position, members }
}

const memberships = (rows: ReadonlyArray<string | number>): ReadonlyArray<Membership> => {
  const found: Array<Membership> = []
  for (let i = 0; i < rows.length; i += 4) {
    const [conv, seq, position, left] = rows.slice(i, i + 4) as [string, number, number, number]
    found.push({ conv, seq, position, left })
  }
  return found
}

const partitionHead = ([partition, position, epoch, ...rest]: FlatHead): PartitionHead => {
  const counters: Record<string, number> = {}
  for (let i = 0; i < rest.length; i += 2) counters[rest[i] as string] = rest[i + 1] as number
  return { partition, position, epoch, counters }
}

const outboxEntries = (rows: ReadonlyArray<number>): ReadonlyArray<OutboxEntry> => {
  const entries: Array<OutboxEntry> = []
  for (let i = 0; i < rows.length; i += 4) {
    const [partition, from, to, at] = rows.slice(i, i + 4) as [number, number, number, number]
    entries.push({ partition, from, to, at })
  }
  return entries
}

const outboxKeys = (entries: ReadonlyArray<OutboxEntry>): ReadonlyArray<number> =>
  entries.flatMap(({ at, from, partition }) => [at, partition, from])
