import { Buffer } from "node:buffer"
import { EVENT_VERSION, type Origin, type TimelineEvent, toEventFrame } from "../domain/events.ts"
import type { UserId } from "../domain/ids.ts"
import type { EventFrame } from "../domain/protocol/server-frames.ts"
import type { NodeItem } from "./Router.ts"

/** Bytes, about, of items in one entry of a stream; more become several entries. */
const ENTRY_BYTES = 1024 * 1024
/** Of an event without what clients are given, about. */
const EVENT_BYTES = 250

/**
 * One entry of a node's stream. An event is written as the frame that clients are given, so that the node sends on what it got; beside it stands what the
 * node needs to know of it, so that it need not look into the frame.
 */
export interface Entry {
  /** JSON: lists of users, and the items. Events are rows, and refer to their list of users and to their frame's bytes. */
  readonly meta: string
  /** The frames of the events, one behind the other. */
  readonly frames: string
}

type Row = readonly [
  bytes: number,
  users: number,
  partition: number,
  position: number,
  prev: number,
  conv: string,
  seq: number,
  type: string,
  by: string,
  at: number,
  cid: string,
  // Of a command of this node.
  session?: string | null,
  rid?: string | null,
  // Where the command is followed.
  traceparent?: string | null,
  // The conversation is big.
  big?: 1
]

interface Text {
  readonly text: string
  readonly bytes: number
}

/** Encodes what goes to several nodes at once: an event's frame is made once for all of them. */
export class Encoder {
  readonly #frames = new Map<TimelineEvent, Text>()

  /** Items for one node, in order. */
  encode(node: string, items: ReadonlyArray<NodeItem>): ReadonlyArray<Entry> {
    const entries: Array<Entry> = []
    const lists = new Map<ReadonlyArray<UserId>, number>()
    let texts: Array<string> = []
    let frames = ""
    let size = 0
    const flush = (): void => {
      if (texts.length === 0) return
      entries.push({ meta: `[${JSON.stringify([...lists.keys()])},[${texts.join(",")}]]`, frames })
      lists.clear()
      texts = []
      frames = ""
      size = 0
    }
    const listOf = (users: ReadonlyArray<UserId>): number => {
      const known = lists.get(users)
      if (known !== undefined) return known
      for (const user of users) size += user.length + 3
      lists.set(users, lists.size)
      return lists.size - 1
    }
    for (const item of items) {
      if (size > ENTRY_BYTES) flush()
      if (item._tag === "MessagePersisted") {
        const frame = this.#frameOf(item.event)
        texts.push(JSON.stringify(rowOf(node, item, listOf(item.users), frame.bytes)))
        frames += frame.text
        size += frame.bytes + EVENT_BYTES
      } else {
        const text = JSON.stringify(item)
        texts.push(text)
        size += text.length
      }
    }
    flush()
    return entries
  }

  #frameOf(event: TimelineEvent): Text {
    const known = this.#frames.get(event)
    if (known !== undefined) return known
    const text = JSON.stringify(toEventFrame(event))
    const made = { text, bytes: Buffer.byteLength(text) }
    this.#frames.set(event, made)
    return made
  }
}

type Persisted = Extract<NodeItem, { readonly _tag: "MessagePersisted" }>

const rowOf = (node: string, { big, event, traceparent }: Persisted, users: number, bytes: number): Row => {
  const { at, by, cid, conv, origin, partition, position, prev, seq, type } = event
  const session = origin?.node === node ? origin : undefined
  if (big === true || traceparent !== undefined) {
    const asked = [session?.session ?? null, session?.rid ?? null, traceparent ?? null] as const
    const row = [bytes, users, partition, position, prev, conv, seq, type, by, at, cid, ...asked] as const
    return big === true ? [...row, 1] : row
  }
  if (session === undefined) return [bytes, users, partition, position, prev, conv, seq, type, by, at, cid]
  const row = [bytes, users, partition, position, prev, conv, seq, type, by, at, cid, session.session] as const
  return session.rid === undefined ? row : [...row, session.rid]
}

/** What the append script counts for an entry, with what Redis needs for it. */
export const entryBytes = (meta: Buffer, frames: Buffer): number => meta.length + frames.length + 100

/** The items of an entry for this node. Throws what `JSON.parse` does, and on what is none of ours. */
export const decodeItems = (node: string, meta: Buffer, frames: Buffer): ReadonlyArray<NodeItem> => {
  const [lists, items] = JSON.parse(meta.toString()) as readonly [
    ReadonlyArray<ReadonlyArray<UserId>>,
    ReadonlyArray<NodeItem | Row>
  ]
  let from = 0
  return items.map((item): NodeItem => {
    if (!isRow(item)) return item
    const frame = frames.subarray(from, (from += item[0]))
    return {
      _tag: "MessagePersisted",
      event: new TakenEvent(node, item, frame) as unknown as TimelineEvent,
      users: lists[item[1]]!,
      ...(typeof item[13] === "string" ? { traceparent: item[13] } : {}),
      ...(item[14] === 1 ? { big: true as const } : {}),
      // A copy, so that what a slow client has not read yet holds no more than it needs.
      frame: () => Buffer.from(frame)
    }
  })
}

const isRow = (item: NodeItem | Row): item is Row => Array.isArray(item)

/** An event as it came. Its data are in its frame, which is seldom looked into. */
class TakenEvent {
  readonly conv: string
  readonly seq: number
  readonly type: string
  readonly by: string
  readonly at: number
  readonly cid: string
  /** What only the log needs does not travel. */
  readonly digest = ""
  readonly v = EVENT_VERSION
  readonly partition: number
  readonly position: number
  readonly prev: number
  readonly origin: Origin | undefined
  readonly #frame: Buffer

  constructor(node: string, row: Row, frame: Buffer) {
    this.partition = row[2]
    this.position = row[3]
    this.prev = row[4]
    this.conv = row[5]
    this.seq = row[6]
    this.type = row[7]
    this.by = row[8]
    this.at = row[9]
    this.cid = row[10]
    const session = row[11]
    const rid = row[12]
    if (typeof session === "string") this.origin = { node, session, ...(typeof rid === "string" ? { rid } : {}) }
    this.#frame = frame
  }

  get data(): TimelineEvent["data"] {
    return (JSON.parse(this.#frame.toString()) as EventFrame).data
  }
}
