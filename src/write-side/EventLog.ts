import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Conversation, Member } from "../domain/conversation.ts"
import type { Prior } from "../domain/decide.ts"
import type { StoredEvent, TimelineEvent } from "../domain/events.ts"
import type { ClientId, ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"

/** The engine did not answer, or could not (a full disk, a lost connection). Nothing was lost; the same call may be made again. */
export class LogUnavailable extends Schema.TaggedError<LogUnavailable>()("LogUnavailable", {
  operation: Schema.String,
  reason: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The event log did not answer (${this.operation}): ${this.reason.replace(/\.+$/, "")}.`
  }
}

/** The log cannot be opened as it is: damaged, another version's, another number of partitions, no rights. It was left untouched. */
export class LogUnusable extends Schema.TaggedError<LogUnusable>()("LogUnusable", {
  /** The file or the address. */
  where: Schema.String,
  /** What programs tell the cases apart by; the SQLite adapter's are those of `SqliteCode`. */
  code: Schema.String,
  /** What is wrong and what to do. */
  reason: Schema.String
}) {
  override get message(): string {
    return `The event log cannot be used: ${this.reason}`
  }
}

/** Another committer has taken these partitions over; this one must stop writing to them. Nothing of the batch was written. */
export class Fenced extends Schema.TaggedError<Fenced>()("Fenced", { partitions: Schema.Array(Schema.Int) }) {
  override get message(): string {
    return `Another committer owns partition ${this.partitions.join(", ")} now.`
  }
}

/**
 * A (conversation, sender, cid) or (conversation, seq) that is taken already, or a conversation that is not as the batch assumes. Nothing
 * of the batch was written; look the ids up and decide again.
 */
export class AlreadyInLog extends Schema.TaggedError<AlreadyInLog>()("AlreadyInLog", { detail: Schema.String }) {
  override get message(): string {
    return `The batch is not new to the log: ${this.detail}`
  }
}

/** The head of a partition: moved in the same transaction as its events, and by that the fence between committers. */
export interface PartitionHead {
  readonly partition: number
  /** The last position in the log, 0 before the first. */
  readonly position: number
  /** Raised by every {@link EventLog} `claim`. */
  readonly epoch: number
  /** The last command batch taken from each edge, by the edge's boot id. The adapter keeps the 256 most recently moved. */
  readonly counters: Readonly<Record<string, number>>
}

/** The events of one partition within a batch. Their positions are `position + 1`, `position + 2`, … */
export interface PartitionRun {
  readonly partition: number
  /** The epoch that this committer was given by `claim`. */
  readonly epoch: number
  /** The head as this committer knows it; another value in the log means another committer has written. */
  readonly position: number
  /** May be empty, when only counters move. */
  readonly events: ReadonlyArray<StoredEvent>
  /** Counters that moved. */
  readonly counters: Readonly<Record<string, number>>
}

/** A member's document: `left` is the position of the event that removed them, 0 for a member. */
export interface MemberRow extends Member {
  readonly conv: ConversationId
  readonly left: number
}

/** An entry of the outbox: the events of one commit in one partition that are still to be relayed. */
export interface OutboxEntry {
  readonly partition: number
  /** First position. */
  readonly from: number
  /** Last position. */
  readonly to: number
  /** When it was written, in milliseconds. */
  readonly at: number
}

/** Everything that one commit writes: all of it, or nothing. */
export interface AppendBatch {
  readonly runs: ReadonlyArray<PartitionRun>
  /** Conversations whose head changed, as they are after the batch. */
  readonly conversations: ReadonlyArray<Conversation>
  /** Member documents that changed, as they are after the batch. */
  readonly members: ReadonlyArray<MemberRow>
  /** Outbox entries that have been relayed since, to be removed along the way. */
  readonly relayed: ReadonlyArray<OutboxEntry>
  /** The time of the commit, for the new outbox entries: one for each run that has events. */
  readonly at: number
}

/** What the command side must know before it can decide a batch. */
export interface PrepareRequest {
  readonly conversations: ReadonlyArray<ConversationId>
  readonly cids: ReadonlyArray<{ readonly conv: ConversationId; readonly by: UserId; readonly cid: ClientId }>
  /** Messages that commands refer to. */
  readonly targets: ReadonlyArray<{ readonly conv: ConversationId; readonly seq: Seq }>
  /** Users whose new direct conversations are to be counted, and since when (milliseconds). */
  readonly openers: ReadonlyArray<UserId>
  readonly openedSince: number
}

/** The answers, each list in the order of its question; undefined where the log holds nothing. */
export interface Prepared {
  readonly conversations: ReadonlyArray<Conversation | undefined>
  readonly priors: ReadonlyArray<Prior | undefined>
  /** The author of the message; undefined also when the event there is not a message. */
  readonly authors: ReadonlyArray<UserId | undefined>
  /** Direct conversations whose first message this user sent since `openedSince`. */
  readonly opened: ReadonlyArray<number>
}

/** A slice of a conversation's timeline. `after` and `before` exclude the seq given. */
export interface Slice {
  readonly after?: Seq
  readonly before?: Seq
  readonly limit: number
  /** `newest`: the last `limit` events within the bounds; `oldest`: the first. Both are answered in seq order. */
  readonly take: "oldest" | "newest"
}

/** One conversation of a user, from the log itself. `left` is 0 while they are a member. */
export interface Membership {
  readonly conv: ConversationId
  readonly seq: Seq
  readonly position: number
  readonly left: number
}

/** The part of the log that is read by others: by position, and by conversation. */
export interface EventReader {
  /** Made once with the log; a cursor of another log is unknown here. */
  readonly id: string
  readonly partitions: number
  /** The last position of every partition: everything up to it is committed and visible. */
  readonly heads: Effect.Effect<Vector, LogUnavailable>
  /** Events of a partition after a position, in order, at most `limit` (1 to 10,000). */
  readonly read: (
    partition: number,
    after: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredEvent>, LogUnavailable>
  /** A slice of a conversation's timeline, in seq order. `limit` 1 to 10,000. */
  readonly timeline: (conv: ConversationId, slice: Slice) => Effect.Effect<ReadonlyArray<TimelineEvent>, LogUnavailable>
  /** The edits, deletions and reactions that refer to any of these messages, in seq order. At most 1,000 targets. */
  readonly amendments: (
    conv: ConversationId,
    targets: ReadonlyArray<Seq>
  ) => Effect.Effect<ReadonlyArray<TimelineEvent>, LogUnavailable>
  /** A conversation with its members, or undefined when nothing happened in it yet. */
  readonly conversation: (conv: ConversationId) => Effect.Effect<Conversation | undefined, LogUnavailable>
  /** Every conversation that a user is or was a member of, in the order of ids, after `after`, at most `limit`. */
  readonly memberships: (
    user: UserId,
    after: ConversationId,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Membership>, LogUnavailable>
}

/**
 * The one source of truth: events, conversation heads, members, partition heads and outbox, written in one transaction.
 *
 * What `append` has answered is durable (fsynced, or held by a majority with its journal), and visible to every later read. Positions
 * of a partition are contiguous and become visible in order. Every method may be interrupted; an `append` that was interrupted
 * or failed with `LogUnavailable` may have been written or not, or may still be; after the next `claim` it never is, and the heads
 * that `claim` answers tell.
 */
export class EventLog extends Context.Service<
  EventLog,
  EventReader & {
    /** Takes partitions over: raises their epochs, so that whoever held them before is fenced. */
    readonly claim: (
      partitions: ReadonlyArray<number>,
      owner: string
    ) => Effect.Effect<ReadonlyArray<PartitionHead>, LogUnavailable>
    /** Looks up what deciding a batch needs, in one round trip. */
    readonly prepare: (request: PrepareRequest) => Effect.Effect<Prepared, LogUnavailable>
    /**
     * Appends a batch in one transaction. At most 10,000 events. A batch that is wrong in itself (positions or seqs that do not follow on
     * one another, a conversation without its head) is a defect.
     */
    readonly append: (batch: AppendBatch) => Effect.Effect<void, LogUnavailable | Fenced | AlreadyInLog>
    /** Outbox entries written at or before `until` (milliseconds), oldest first, at most `limit`; of one partition or of all. */
    readonly outbox: (options: {
      readonly until: number
      readonly limit: number
      readonly partition?: number
    }) => Effect.Effect<ReadonlyArray<OutboxEntry>, LogUnavailable>
    /** Removes entries that have been relayed. Unknown entries are ignored. */
    readonly relayed: (entries: ReadonlyArray<OutboxEntry>) => Effect.Effect<void, LogUnavailable>
  }
>()("darda/write-side/EventLog") {}

/** What an edge needs of the log: whose positions it speaks of, and how far it is. From the log itself, or from a process that reads it. */
export class LogHeads extends Context.Service<LogHeads, Pick<EventReader, "id" | "partitions" | "heads">>()(
  "darda/write-side/LogHeads"
) {
  /** Of the log in this process. */
  static readonly layer: Layer.Layer<LogHeads, never, EventLog> = Layer.effect(LogHeads, EventLog)
}
