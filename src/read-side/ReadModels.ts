import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { StoredEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { ConversationItem, FoldedMessage, Member, Watermarks } from "../domain/protocol/server-frames.ts"

/** The engine of the read models did not answer. Nothing is lost by it: they are rebuilt from the log. */
export class ReadModelsUnavailable extends Schema.TaggedError<ReadModelsUnavailable>()("ReadModelsUnavailable", {
  operation: Schema.String,
  reason: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The read models did not answer (${this.operation}): ${this.reason}`
  }
}

/** Which messages of a conversation: the newest when none of the three is given. `limit` 1 to 200. */
export interface PageRequest {
  readonly before?: Seq
  readonly after?: Seq
  readonly around?: Seq
  readonly limit: number
}

/**
 * Messages in seq order, as many as `limit` and the size of a reply allow, at least one if there is any. `more`: there are further ones
 * in the direction of the request (for `around` and newest: older ones).
 */
export interface Page {
  readonly messages: ReadonlyArray<FoldedMessage>
  readonly head: Seq
  readonly more: boolean
  /** In conversations of up to 50 members. */
  readonly receipts?: Readonly<Record<UserId, Watermarks>>
}

/** What one user may know of one conversation before reading it. */
export interface Access {
  /** Whether they are a member now. */
  readonly member: boolean
  readonly head: Seq
}

/** One conversation in a user's inbox. */
export interface InboxEntry {
  readonly conv: ConversationId
  readonly head: Seq
  /** Of the newest timeline event. */
  readonly position: number
  /** The position of the event that removed the user, 0 while they are a member. */
  readonly left: number
  /** How many members it has. */
  readonly members: number
}

/** Where a page of conversations ended. */
export interface ConversationsBefore {
  readonly at: number
  readonly conv: ConversationId
}

/** A page of a user's conversations. `at`: of the newest timeline event. */
export interface Conversations {
  readonly items: ReadonlyArray<{ readonly item: ConversationItem; readonly at: number }>
  readonly more: boolean
}

/** Consecutive events of one partition. */
export interface Run {
  readonly partition: number
  readonly events: ReadonlyArray<StoredEvent>
}

/** How much there is: what is compared before a rebuilt set takes the place of the old one. */
export interface Counts {
  readonly conversations: number
  readonly members: number
  readonly messages: number
  readonly reactions: number
}

/** One row in the canonical form: equal states have equal rows in equal order, whatever the engine and however they came about. */
export interface DumpRow {
  /** Conversation, then `conversation`, or `member` and a user, or `message` and a seq of 16 digits. In the order of code units, part by part. */
  readonly key: ReadonlyArray<string>
  /** JSON with its fields always in the same order. */
  readonly value: string
}

/** Everything there is at one moment, while its scope is open. */
export interface Snapshot {
  readonly checkpoints: Vector
  /** Rows after a key, in order, at most `limit` (1 to 10,000); an empty answer is the end. */
  readonly rows: (
    after: ReadonlyArray<string> | undefined,
    limit: number
  ) => Effect.Effect<ReadonlyArray<DumpRow>, ReadModelsUnavailable>
}

/** A second, empty set of read models beside the live one. What its scope closes over is deleted, unless it took the live one's place. */
export interface Shadow {
  readonly checkpoints: Effect.Effect<Vector, ReadModelsUnavailable>
  readonly apply: (runs: ReadonlyArray<Run>) => Effect.Effect<Vector, ReadModelsUnavailable>
  readonly counts: Effect.Effect<Counts, ReadModelsUnavailable>
  readonly snapshot: Effect.Effect<Snapshot, ReadModelsUnavailable, Scope.Scope>
  /**
   * Stops the live set from moving, lets `last` bring this one to exactly the live checkpoints, and takes the live set's place in one step. If that fails or the
   * process dies on the way, the live set stays.
   */
  readonly replaceLive: <E>(
    last: (live: Vector) => Effect.Effect<void, E>
  ) => Effect.Effect<{ readonly before: Counts; readonly after: Counts }, ReadModelsUnavailable | E>
}

/**
 * Everything that is read is here, and can be thrown away: each partition's part is a fold of that partition's events, moved
 * together with its checkpoint in one transaction.
 */
export class ReadModels extends Context.Service<
  ReadModels,
  {
    /** The last position applied of every partition. */
    readonly checkpoints: Effect.Effect<Vector, ReadModelsUnavailable>
    /** Waits until the checkpoints are at or past `vector`; false when they are not after `timeoutMs`. */
    readonly reached: (vector: Vector, timeoutMs: number) => Effect.Effect<boolean, ReadModelsUnavailable>
    /**
     * Applies runs in one transaction: events at or below their partition's checkpoint are repeats and skipped; of a run nothing is applied from
     * its first hole on. Answers the checkpoints afterwards. At most 10,000 events.
     */
    readonly apply: (runs: ReadonlyArray<Run>) => Effect.Effect<Vector, ReadModelsUnavailable>
    /** Whether this user is a member now, and the head; undefined when nothing happened there yet, a direct conversation included. */
    readonly access: (conv: ConversationId, user: UserId) => Effect.Effect<Access | undefined, ReadModelsUnavailable>
    /** A page of folded messages; undefined when the conversation is unknown here. */
    readonly page: (
      conv: ConversationId,
      request: PageRequest
    ) => Effect.Effect<Page | undefined, ReadModelsUnavailable>
    /** Members in the order of user ids, after `after` (empty: from the first). `limit` 1 to 10,000. */
    readonly roster: (
      conv: ConversationId,
      after: UserId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Member>, ReadModelsUnavailable>
    /**
     * A user's conversations, those with the newest activity first (among equals by descending id), below `before`. As many as `limit` (1 to 200)
     * and the size of a reply allow, at least one if there is any.
     */
    readonly conversations: (
      user: UserId,
      before: ConversationsBefore | undefined,
      limit: number
    ) => Effect.Effect<Conversations, ReadModelsUnavailable>
    /** Conversations of a user in which anything happened past `vector`, removals included; at most `limit`, by conv after `after`. */
    readonly inbox: (
      user: UserId,
      vector: Vector,
      after: ConversationId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<InboxEntry>, ReadModelsUnavailable>
    readonly counts: Effect.Effect<Counts, ReadModelsUnavailable>
    readonly snapshot: Effect.Effect<Snapshot, ReadModelsUnavailable, Scope.Scope>
    /** One at a time: a second one waits for the first. */
    readonly shadow: Effect.Effect<Shadow, ReadModelsUnavailable, Scope.Scope>
    /** Forgets everything, so that the log is applied from its beginning. */
    readonly reset: Effect.Effect<void, ReadModelsUnavailable>
  }
>()("darda/read-side/ReadModels") {}
