import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ReceiptChange } from "../domain/conversation.ts"
import type { TimelineEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { ReplyBody } from "../domain/protocol/server-frames.ts"
import type { PageRequest } from "./ReadModels.ts"

/** A query that has no answer, with the protocol's code. */
export class QueryRefused extends Schema.TaggedError<QueryRefused>()("QueryRefused", {
  code: Schema.Literals(["bad_request", "not_found", "unavailable"]),
  message: Schema.String
}) {}

/** Users in one question for their standing. */
export const STANDING_USERS = 200

/** What a connection missed in one conversation. */
export type MissedConversation =
  /** Replay every event after `after`, up to `head`. */
  | { readonly _tag: "Replay"; readonly conv: ConversationId; readonly after: Seq; readonly head: Seq }
  /** Too much to send, or a client that is ahead of the log. */
  | { readonly _tag: "Reset"; readonly conv: ConversationId; readonly head: Seq }
  /** No longer a member. */
  | { readonly _tag: "Gone"; readonly conv: ConversationId }

/** A receipt that may have been lost on its way. */
export interface MissedReceipt {
  readonly receipt: ReceiptChange
  readonly users: ReadonlyArray<UserId>
}

export interface MissedRequest {
  readonly user: UserId
  /** What the device was given; undefined when its cursor is unknown: then every conversation is a `Reset`. */
  readonly since: Vector | undefined
  /** What the device says that it has of single conversations. At most 500. */
  readonly seqs: Readonly<Record<ConversationId, Seq>>
  /** Everything up to here must be in the answer. */
  readonly barrier: Vector
}

/**
 * What may be asked, by whom, and answered from the read models; from the log where they are behind or away.
 *
 * `atLeast` is what the asking node has seen of the log: an answer includes everything up to it.
 */
export class Queries extends Context.Service<
  Queries,
  {
    /** `not_found` for those who are not members; empty for a direct conversation of one's own without messages. */
    readonly history: (
      user: UserId,
      request: PageRequest & { readonly conv: ConversationId },
      atLeast: Vector
    ) => Effect.Effect<ReplyBody["history"], QueryRefused>
    /** Raw events after `after`; `limit` 1 to 200; at most 256 KiB, then `more`. */
    readonly sync: (
      user: UserId,
      request: { readonly conv: ConversationId; readonly after: Seq; readonly limit: number },
      atLeast: Vector
    ) => Effect.Effect<ReplyBody["sync"], QueryRefused>
    readonly convs: (
      user: UserId,
      request: { readonly after?: string; readonly limit: number },
      atLeast: Vector
    ) => Effect.Effect<ReplyBody["convs"], QueryRefused>
    readonly roster: (
      user: UserId,
      request: { readonly conv: ConversationId; readonly after?: UserId; readonly limit: number },
      atLeast: Vector
    ) => Effect.Effect<ReplyBody["roster"], QueryRefused>
    /** What an attaching connection missed. */
    readonly missed: (request: MissedRequest) => Effect.Effect<ReadonlyArray<MissedConversation>, QueryRefused>
    /**
     * Events of a conversation for a connection that repairs a hole: after `after`, at most `limit`, in seq order, always from the log. Access is
     * the caller's: it only asks for what was addressed to it.
     */
    readonly pull: (
      conv: ConversationId,
      after: Seq,
      limit: number
    ) => Effect.Effect<ReadonlyArray<TimelineEvent>, QueryRefused>
    /** The members of a conversation, for signals; undefined when this user is not one of them. At most 10,000. */
    readonly audience: (
      user: UserId,
      conv: ConversationId,
      atLeast: Vector
    ) => Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused>
    /**
     * The big conversations of a user. Where the log has to answer, all groups that they are in: how many members each has is too much to find out then, and nobody is
     * harmed by being taken for interested.
     */
    readonly bigConversations: (
      user: UserId,
      atLeast: Vector
    ) => Effect.Effect<ReadonlyArray<ConversationId>, QueryRefused>
    /** Which of these users, {@link STANDING_USERS} at most, are members of a conversation, and a head that was there while all of those were. */
    readonly standing: (
      conv: ConversationId,
      users: ReadonlyArray<UserId>,
      atLeast: Vector
    ) => Effect.Effect<{ readonly members: ReadonlyArray<UserId>; readonly head: Seq }, QueryRefused>
    /** What was marked after a vector and up to another one, as it is now, with the members who are told of it. Of the first 10,000 events in between. */
    readonly receipts: (since: Vector, until: Vector) => Effect.Effect<ReadonlyArray<MissedReceipt>, QueryRefused>
    /** Those of these users, 200 at most, who are in a conversation that this user is in; the user too, where named. */
    readonly acquainted: (
      user: UserId,
      users: ReadonlyArray<UserId>,
      atLeast: Vector
    ) => Effect.Effect<ReadonlyArray<UserId>, QueryRefused>
  }
>()("darda/read-side/Queries") {}
