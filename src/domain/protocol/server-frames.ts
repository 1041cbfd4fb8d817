/** What the server sends, as types only: the server makes these itself, so nothing has to be checked at run time. */
import type { ClientId, ConversationId, Seq, UserId } from "../ids.ts"

/** Milliseconds since 1970 UTC by the server's clock. */
export type Millis = number

/** Why a frame or request was refused. */
export type ErrorCode =
  | "bad_json"
  | "bad_request"
  | "unknown_op"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "too_large"
  | "rate_limited"
  | "busy"
  | "unavailable"
  | "internal"

/** The limits of this server. `frameBytes`: of a frame; `bodyChars`: Unicode code points; `inFlight`: sends not yet persisted. */
export interface Limits {
  readonly frameBytes: number
  readonly bodyChars: number
  readonly inFlight: number
  readonly perSecond: number
}

/** The `data` of each type of timeline event. */
export interface EventData {
  readonly created: { readonly kind: "group"; readonly title?: string; readonly members: readonly UserId[] }
  readonly message: { readonly kind: string; readonly body: string; readonly replyTo?: Seq }
  readonly edited: { readonly target: Seq; readonly body: string }
  readonly deleted: { readonly target: Seq }
  readonly reaction: { readonly target: Seq; readonly emoji: string; readonly on: boolean }
  readonly members: { readonly added?: readonly UserId[]; readonly removed?: readonly UserId[] }
  readonly title: { readonly title: string }
}

/** The types of timeline events. */
export type EventType = keyof EventData

/** One timeline event of type `T`. */
export interface TimelineEventOf<T extends EventType> {
  readonly conv: ConversationId
  readonly seq: Seq
  readonly type: T
  readonly by: UserId
  readonly at: Millis
  readonly cid: ClientId
  readonly data: EventData[T]
}

/** A timeline event; `type` tells which `data` it has. */
export type TimelineEvent = { [T in EventType]: TimelineEventOf<T> }[EventType]

/** A message with its edits, deletion and reactions folded in. A deleted one has no `body`. */
export interface FoldedMessage {
  readonly conv: ConversationId
  readonly seq: Seq
  readonly by: UserId
  readonly at: Millis
  readonly cid: ClientId
  readonly kind: string
  readonly body?: string
  readonly replyTo?: Seq
  readonly editedAt?: Millis
  readonly deleted?: true
  readonly reactions?: Readonly<Record<string, readonly UserId[]>>
}

/** How far one member has got in a conversation. */
export interface Watermarks {
  readonly delivered: Seq | 0
  readonly seen: Seq | 0
}

/** One line of the conversation list. `members` up to 50; `unread` counts messages by others after `seen`. */
export interface ConversationItem {
  readonly conv: ConversationId
  readonly kind: "dm" | "group"
  readonly title?: string
  readonly members?: readonly UserId[]
  readonly head: Seq | 0
  readonly seen: Seq | 0
  readonly unread: number
  readonly last?: FoldedMessage
}

/** One member of a conversation. `since`: when they came in. */
export interface Member {
  readonly user: UserId
  readonly admin: boolean
  readonly since: Millis
}

/** Whether a user has a connection, and when the last one ended. */
export interface PresenceState {
  readonly online: boolean
  readonly lastSeen?: Millis
}

/** What each request is answered with, next to `t` and `rid`. */
export interface ReplyBody {
  readonly create: { readonly conv: ConversationId; readonly seq: Seq; readonly at: Millis }
  readonly members: { readonly seq: Seq; readonly at: Millis }
  readonly leave: { readonly seq: Seq; readonly at: Millis }
  readonly title: { readonly seq: Seq; readonly at: Millis }
  readonly roster: { readonly members: readonly Member[]; readonly next?: UserId }
  readonly sync: { readonly events: readonly TimelineEvent[]; readonly head: Seq | 0; readonly more: boolean }
  readonly history: {
    readonly messages: readonly FoldedMessage[]
    readonly head: Seq | 0
    readonly more: boolean
    readonly receipts?: Readonly<Record<UserId, Watermarks>>
  }
  readonly convs: { readonly items: readonly ConversationItem[]; readonly next?: string }
  readonly presence: { readonly users: Readonly<Record<UserId, PresenceState>> }
  readonly refresh: { readonly expiresAt: Millis }
}

/** The requests that are answered by a `reply`. */
export type RequestOp = keyof ReplyBody

/** The first answer to `hello`. `cursor` on a resume is the client's own: what it missed follows. */
export interface Welcome {
  readonly t: "welcome"
  readonly sid: string
  readonly user: UserId
  readonly cursor: string
  readonly recovered: boolean
  readonly now: Millis
  readonly limits: Limits
}

/** The command is durable in the broker: `persisted` or `err` will follow. */
export interface AckSent {
  readonly t: "ack"
  readonly cid: ClientId
  readonly conv: ConversationId
  readonly state: "sent"
}

/** The command's event is in the log, committed by a majority. `dup`: it was there already. */
export interface AckPersisted {
  readonly t: "ack"
  readonly cid: ClientId
  readonly conv: ConversationId
  readonly state: "persisted"
  readonly seq: Seq
  readonly at: Millis
  readonly dup?: true
}

/** The answer to `send`, `edit`, `delete` and `react`. */
export type Ack = AckSent | AckPersisted

/** A timeline event as a frame. */
export type EventFrame = { readonly t: "event" } & TimelineEvent

/** Everything up to `cursor` has been given to this connection. */
export interface CursorFrame {
  readonly t: "cursor"
  readonly cursor: string
}

/** A message that is durable in the broker and not yet in the log. */
export interface Live {
  readonly t: "live"
  readonly conv: ConversationId
  readonly cid: ClientId
  readonly by: UserId
  readonly at: Millis
  readonly type: "message"
  readonly data: EventData["message"]
}

/** A `live` that the command side refused. */
export interface Unlive {
  readonly t: "unlive"
  readonly conv: ConversationId
  readonly cid: ClientId
  readonly by: UserId
  readonly code: ErrorCode
}

/** How far another member has got. */
export interface ReceiptOfUser {
  readonly t: "receipt"
  readonly conv: ConversationId
  readonly user: UserId
  readonly delivered?: Seq
  readonly seen?: Seq
}

/** In groups over 50: how many members have got as far as `seq`. */
export interface ReceiptCounts {
  readonly t: "receipt"
  readonly conv: ConversationId
  readonly seq: Seq
  readonly deliveredCount: number
  readonly seenCount: number
}

/** A receipt of one member, or the counts of a large group. */
export type Receipt = ReceiptOfUser | ReceiptCounts

/** Another member types, or has stopped. */
export interface TypingFrame {
  readonly t: "typing"
  readonly conv: ConversationId
  readonly user: UserId
  readonly on: boolean
}

/** A watched user came or went. */
export interface PresenceFrame extends PresenceState {
  readonly t: "presence"
  readonly user: UserId
}

/** The answer to the request `Op`. */
export type ReplyOf<Op extends RequestOp> = { readonly t: "reply"; readonly rid: string } & ReplyBody[Op]

/** The answer to any request. */
export type Reply = { [Op in RequestOp]: ReplyOf<Op> }[RequestOp]

/** A refusal. `message` is for a person; `retryAfterMs` says when a retry makes sense. */
export interface Err {
  readonly t: "err"
  readonly rid?: string
  readonly cid?: ClientId
  readonly code: ErrorCode
  readonly message: string
  readonly retryable: boolean
  readonly retryAfterMs?: number
}

/** What was missed in `conv` is too much to send: drop it and read `history` or `sync`. */
export interface Reset {
  readonly t: "reset"
  readonly conv: ConversationId
  readonly head: Seq | 0
}

/** The user is no longer a member. */
export interface Gone {
  readonly t: "gone"
  readonly conv: ConversationId
}

/** The server goes away at `deadlineMs` from now: reconnect after a random time within the bounds. */
export interface Drain {
  readonly t: "drain"
  readonly reconnectAfterMs: { readonly min: number; readonly max: number }
  readonly deadlineMs: number
}

/** The answer to `ping`. */
export interface Pong {
  readonly t: "pong"
}

/** Everything the server sends. */
export type ServerFrame =
  | Welcome
  | Ack
  | EventFrame
  | CursorFrame
  | Live
  | Unlive
  | Receipt
  | TypingFrame
  | PresenceFrame
  | Reply
  | Err
  | Reset
  | Gone
  | Drain
  | Pong
