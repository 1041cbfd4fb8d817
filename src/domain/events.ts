import type { ClientId, ConversationId, Seq, UserId } from "./ids.ts"
import type { EventData as TimelineData, EventFrame } from "./protocol/server-frames.ts"

/** The version that new events are written with. Raise it together with a step in {@link upcast}. */
export const EVENT_VERSION = 1

/** What each kind of event carries: the timeline's, as clients see them, and marks. Lists of users are in the order of code units. */
export interface EventData extends TimelineData {
  /** A watermark: it takes a position in the log but no seq in its conversation. */
  readonly marked: { readonly delivered?: Seq; readonly seen?: Seq }
}

export type EventType = keyof EventData

/** Where a command came from: the session (a connection or an HTTP request) on an edge node that waits for the answer. */
export interface Origin {
  readonly node: string
  readonly session: string
  /** Echoed in a `reply`; absent for commands that are answered with `ack`. */
  readonly rid?: string
  /** W3C trace context, where this command is followed. */
  readonly traceparent?: string
}

/** What `decide` produces: an event before the log has given it a place. `seq` is 0 for marks. */
export type NewEvent = {
  readonly [T in EventType]: {
    readonly conv: ConversationId
    readonly seq: Seq
    readonly type: T
    readonly by: UserId
    /** Milliseconds since 1970 UTC by the server's clock; never falls within a conversation. */
    readonly at: number
    /** Empty for marks, which need no identity: they only move forward. */
    readonly cid: ClientId
    readonly data: EventData[T]
    /** Hash of the command's content, by which a repeat is told from a conflict. Empty for marks. */
    readonly digest: string
  }
}[EventType]

/**
 * An event as the log holds it.
 *
 * `prev` is the position of the conversation's previous timeline event (0 if there is none): who was given everything up to
 * position `p` of this partition knows that nothing is missing before this event when `prev <= p`, without remembering
 * anything about the conversation.
 */
export type StoredEvent = NewEvent & {
  readonly v: number
  readonly partition: number
  readonly position: number
  readonly prev: number
  readonly origin?: Origin
}

/** A stored event that has a seq: everything but marks. */
export type TimelineEvent = Exclude<StoredEvent, { readonly type: "marked" }>

/** The event as clients are given it: without what only the log needs. */
export const toEventFrame = ({ at, by, cid, conv, data, seq, type }: TimelineEvent): EventFrame =>
  ({ t: "event", conv, seq, type, by, at, cid, data }) as EventFrame

export const isTimeline = (event: StoredEvent): event is TimelineEvent => event.type !== "marked"

/** An event exactly as it was read, of any version that was ever written. */
export interface EventRecord {
  readonly v: number
  readonly type: string
  readonly data: unknown
}

/** One step per version: turns the data of version `v` into that of `v + 1`. There is one version so far. */
const steps: ReadonlyArray<(record: EventRecord) => EventRecord> = []

/** A record that no step can read: written by a newer Darda, or damaged. */
export class UnknownEventVersion extends Error {
  override readonly name = "UnknownEventVersion"
  readonly version: number
  constructor(version: number) {
    super(
      `The log holds an event of version ${version}; this Darda reads versions 1 to ${EVENT_VERSION}. ` +
        `Run the version that wrote it, or a newer one.`
    )
    this.version = version
  }
}

/**
 * Brings a record of any earlier version to the current one. Pure, and applied on every read, so that the log itself is never
 * rewritten. Throws {@link UnknownEventVersion} for a version that this code does not know.
 */
export const upcast = <R extends EventRecord>(record: R): R => {
  if (record.v === EVENT_VERSION) return record
  if (!Number.isInteger(record.v) || record.v < 1 || record.v > EVENT_VERSION) throw new UnknownEventVersion(record.v)
  let current: EventRecord = record
  for (let v = record.v; v < EVENT_VERSION; v++) current = { ...steps[v - 1]!(current), v: v + 1 }
  return { ...record, ...current }
}

/** The users that an event takes out of its conversation. */
export const removedBy = (event: Pick<StoredEvent, "type" | "data">): ReadonlyArray<UserId> =>
  event.type === "members" ? ((event.data as EventData["members"]).removed ?? []) : []

/** Whether an event brings this user into its conversation. */
export const adds = (event: Pick<StoredEvent, "type" | "data">, user: UserId): boolean =>
  event.type === "created"
    ? (event.data as EventData["created"]).members.includes(user)
    : event.type === "members" && ((event.data as EventData["members"]).added ?? []).includes(user)

/**
 * The broker has confirmed a command: it is durable and will be decided, and has no seq yet.
 *
 * @public
 */
export interface MessageSent {
  readonly _tag: "MessageSent"
  readonly conv: ConversationId
  readonly by: UserId
  readonly cid: ClientId
  readonly at: number
}

/** The log holds the event, by a majority and its journal: it has its place for ever. The relay tells it to the nodes concerned. */
export interface MessagePersisted {
  readonly _tag: "MessagePersisted"
  readonly event: TimelineEvent
}
