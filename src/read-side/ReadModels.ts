import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
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

/** Messages in seq order. `more`: there are further ones in the direction of the request (for `around` and newest: older ones). */
export interface Page {
  readonly messages: ReadonlyArray<FoldedMessage>
  readonly head: Seq
  readonly more: boolean
  /** In conversations of up to 50 members. */
  readonly receipts?: Readonly<Record<UserId, Watermarks>>
}

/** One conversation in a user's inbox. */
export interface InboxEntry {
  readonly conv: ConversationId
  readonly head: Seq
  /** Of the newest timeline event. */
  readonly position: number
  /** The position of the event that removed the user, 0 while they are a member. */
  readonly left: number
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
     * Applies consecutive events of one partition: those at or below the checkpoint are repeats and skipped; nothing is applied from the first
     * hole on. Answers the checkpoint afterwards.
     */
    readonly apply: (partition: number, events: ReadonlyArray<StoredEvent>) => Effect.Effect<number, ReadModelsUnavailable>
    /** Whether this user is a member now. For a direct conversation without messages: undefined, as for everything unknown. */
    readonly isMember: (conv: ConversationId, user: UserId) => Effect.Effect<boolean | undefined, ReadModelsUnavailable>
    /** A page of folded messages; undefined when the conversation is unknown here. */
    readonly page: (conv: ConversationId, request: PageRequest) => Effect.Effect<Page | undefined, ReadModelsUnavailable>
    /** Members in the order of user ids, after `after`. `limit` 1 to 256. */
    readonly roster: (
      conv: ConversationId,
      after: UserId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Member>, ReadModelsUnavailable>
    /** A user's conversations by newest activity first, below `before` (position and conv of the last one seen). `limit` 1 to 200. */
    readonly conversations: (
      user: UserId,
      before: { readonly at: number; readonly conv: ConversationId } | undefined,
      limit: number
    ) => Effect.Effect<
      ReadonlyArray<{ readonly item: ConversationItem; readonly at: number }>,
      ReadModelsUnavailable
    >
    /** Conversations of a user in which anything happened past `vector`, removals included; at most `limit`, by conv after `after`. */
    readonly inbox: (
      user: UserId,
      vector: Vector,
      after: ConversationId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<InboxEntry>, ReadModelsUnavailable>
  }
>()("darda/read-side/ReadModels") {}
