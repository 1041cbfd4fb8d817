import type { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ReceiptChange } from "../domain/conversation.ts"
import type { MessagePersisted } from "../domain/events.ts"
import type { ClientId, ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Live, Unlive } from "../domain/protocol/server-frames.ts"
import type { Rejection } from "../domain/rejections.ts"

/** The routing engine did not answer. The same call may be made again. */
export class RouterUnavailable extends Schema.TaggedError<RouterUnavailable>()("RouterUnavailable", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const { cause } = this
    return `The router did not answer (${this.operation})${cause instanceof Error ? `: ${cause.message}` : "."}`
  }
}

/**
 * What was appended to this node's stream until now may be missing, and this node was no longer known to hold its users. It is known again by the time that
 * `register` answers; what is taken from here on is complete again.
 */
export class StreamLost extends Schema.TaggedError<StreamLost>()("StreamLost", { reason: Schema.String }) {
  override get message(): string {
    return `This node's stream was lost: ${this.reason}.`
  }
}

/** The answer to a command that made no event now: a repeat, or a refusal. */
export interface Answer {
  readonly session: string
  readonly rid?: string
  readonly cid: ClientId
  readonly conv: ConversationId
  readonly outcome:
    | { readonly _tag: "Repeat"; readonly seq: Seq; readonly at: number }
    | { readonly _tag: "Rejected"; readonly rejection: Rejection }
}

/** What is appended to a node's stream. A node takes its items in the order in which they were appended. */
export type NodeItem =
  /** For the users concerned on that node; the session in `event.origin` is answered with it. */
  | (MessagePersisted & {
      readonly users: ReadonlyArray<UserId>
      /**
       * The conversation is big. Unless somebody came or went by this event, `users` is empty then, and the node knows which of those who are here are its members.
       */
      readonly big?: true
      /** Where the event's command is followed. */
      readonly traceparent?: string
      /** The event's frame as JSON in UTF-8, where it came encoded. The event is then without its digest, and has an origin only where that is this node. */
      readonly frame?: () => Buffer
    })
  | { readonly _tag: "Answer"; readonly answer: Answer }
  | {
      readonly _tag: "Receipt"
      readonly receipt: ReceiptChange
      readonly users: ReadonlyArray<UserId>
      /** The conversation is big: `users` is empty, and the node knows who of it is here. */
      readonly big?: true
      /** The session that made the mark, which is not told of it. */
      readonly session?: string
    }
  /** Everything up to this position of the partition has been appended to this stream before. */
  | { readonly _tag: "Progress"; readonly partition: number; readonly position: number }

/** Signals that may be lost: never in the log, never repeated. */
export type Signal =
  | {
      readonly _tag: "Typing"
      readonly conv: ConversationId
      readonly user: UserId
      readonly on: boolean
      readonly session: string
    }
  /** A message that the broker has and the log has not yet. `session`: the sender's own connection, which is not told. */
  | (Omit<Live, "t" | "type"> & { readonly _tag: "Live"; readonly session: string })
  /** A `live` that the command side refused. */
  | (Omit<Unlive, "t"> & { readonly _tag: "Unlive"; readonly session: string })
  | { readonly _tag: "Presence"; readonly user: UserId; readonly online: boolean; readonly lastSeen?: number }

export interface PresenceOf {
  readonly online: boolean
  /** When the last device left, in milliseconds; absent when unknown or online. */
  readonly lastSeen?: number
}

/** What nodes register: users whom they hold, and big conversations (`g:…`) that they are interested in. No user's name has a colon. */
export type RouteId = string

/** Whether somebody is there as long as this is registered. */
export const isConversationRoute = (id: RouteId): boolean => id.startsWith("g:")

/**
 * Which node holds which user, and the way to that node: a bounded stream that keeps its order. One service per process; `node` is
 * this process's own stream.
 */
export class Router extends Context.Service<
  Router,
  {
    /** The name of this process's stream, new at every start. */
    readonly node: string
    /** From when this answers, what is committed afterwards for this user, or in this big conversation, finds this node. */
    readonly register: (id: RouteId) => Effect.Effect<void, RouterUnavailable>
    /** `goneMs`: for how long the user's last device has been gone already, which `lastSeen` tells. */
    readonly unregister: (id: RouteId, goneMs?: number) => Effect.Effect<void, RouterUnavailable>
    /** The users and big conversations given, by the nodes that registered them; what nobody did is in none. */
    readonly routes: (
      ids: ReadonlyArray<RouteId>
    ) => Effect.Effect<ReadonlyMap<string, ReadonlyArray<RouteId>>, RouterUnavailable>
    /** All nodes that are alive. */
    readonly nodes: Effect.Effect<ReadonlyArray<string>, RouterUnavailable>
    /** Appends to a node's stream, in order. What is appended to a node that died is dropped with it. */
    readonly append: (node: string, items: ReadonlyArray<NodeItem>) => Effect.Effect<void, RouterUnavailable>
    /** Appends to the streams of several nodes at once. After a failure some may have got theirs, and get it again by the next call. */
    readonly appendAll: (
      streams: ReadonlyMap<string, ReadonlyArray<NodeItem>>
    ) => Effect.Effect<void, RouterUnavailable>
    /**
     * Takes what has been appended to this node's stream: waits for the first item, answers at most `max`. After a loss it fails with {@link StreamLost},
     * once: whoever takes (one at a time) then registers all users of this node again, and reads from the log what may be missing.
     */
    readonly take: (max: number) => Effect.Effect<ReadonlyArray<NodeItem>, RouterUnavailable | StreamLost>
    /** Sends a signal to the nodes that hold these users. Never waits, may be lost. */
    readonly signal: (users: ReadonlyArray<UserId>, signal: Signal) => Effect.Effect<void>
    /** Takes the signals for this node, with the users they are for. Fails with {@link StreamLost}, once, where it is known that some were lost. */
    readonly takeSignals: Effect.Effect<
      ReadonlyArray<{ readonly users: ReadonlyArray<UserId>; readonly signal: Signal }>,
      RouterUnavailable | StreamLost
    >
    readonly presence: (
      users: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<UserId, PresenceOf>, RouterUnavailable>
    /** True for the first caller that names this key within `ttlMs`: how a ticket is used once. */
    readonly claimOnce: (key: string, ttlMs: number) => Effect.Effect<boolean, RouterUnavailable>
  }
>()("darda/platform/Router") {}
