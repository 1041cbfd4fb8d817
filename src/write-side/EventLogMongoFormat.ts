/**
 * The log's collections in MongoDB. What an event costs is its own document and two entries of indexes; everything else is written
 * once a commit and partition, or when it changes. See docs/decisions/0009.
 */
import { type Binary, Binary as BinaryOf, type ClientSession, type Db, type Document } from "mongodb"
import { hash } from "node:crypto"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"

/** The version of the collections, from 1. */
export const FORMAT = 1

/** An event's id is its partition times this, plus its position: below 2^53 for up to 512 partitions, and in the order of the log. */
export const ID_BASE = 2 ** 44

export const COLLECTIONS = {
  meta: "meta",
  heads: "heads",
  events: "events",
  conversations: "conversations",
  members: "members"
} as const

export interface EventDoc {
  readonly _id: number
  /** Of timeline events; marks have neither, nor a `key`. */
  readonly conv?: ConversationId
  readonly seq?: number
  /** By which sender and cid find it, see {@link cidKey}. */
  readonly key?: Binary
  /** The message that it amends. */
  readonly target?: number
  /** As `encodeEvent` makes it. */
  readonly event: string
}

/** The head of a partition, and its outbox: that is empty or short, since a committer waits for its relay. */
export interface HeadDoc {
  /** See {@link headId}: another one with every epoch. */
  readonly _id: string
  readonly partition: number
  readonly epoch: number
  readonly position: number
  readonly owner: string
  /** The server session in which the owner appends. Whoever takes over ends it first. */
  readonly session: Binary | null
  /** By edge, see {@link edgeField}: its last batch, and a number that grows with every move. */
  readonly counters: Readonly<Record<string, readonly [counter: number, moved: number]>>
  /** By first position: the last one, and when it was written. */
  readonly outbox: Readonly<Record<string, readonly [to: number, at: number]>>
}

/** Who claims a partition, or did: in `meta`, see {@link claimId}. */
export interface ClaimDoc {
  readonly _id: string
  /** The server sessions of those who claimed and were not ended by another one's claim since: few. */
  readonly sessions: ReadonlyArray<Binary>
}

/** What the newest event of a conversation does not say of it. Missing for those that have nothing of it. */
export interface ConversationDoc {
  readonly _id: ConversationId
  readonly title?: string
  /** Of a direct conversation: who sent its first message, and when. */
  readonly opener?: UserId
  readonly opened?: number
}

export interface MemberDoc {
  /** See {@link memberId}: in the order of conversations. */
  readonly _id: string
  readonly conv: ConversationId
  readonly user: UserId
  readonly admin: boolean
  readonly since: number
  readonly delivered: number
  readonly seen: number
  /** The position of the event that removed them, 0 for a member. */
  readonly left: number
}

export interface LogDoc {
  readonly _id: "log"
  readonly id: string
  readonly format: number
  readonly partitions: number
  readonly created: string
}

/** Names the epoch, so that a head is fenced by its id: an update that looks at anything else costs mongod more than twice as much. */
export const headId = (partition: number, epoch: number): string => `${partition}/${epoch}`

export const claimId = (partition: number): string => `claim/${partition}`

export const memberId = (conv: ConversationId, user: UserId): string => `${conv} ${user}`

/** All members' ids of a conversation lie between these two; a space comes before whatever else an id may hold. */
export const memberRange = (conv: ConversationId) => ({ $gt: `${conv} `, $lt: `${conv}!` })

/**
 * By which a sender's cid is found in a conversation: 16 bytes of a hash, so that the index is small. Four bytes of the conversation's come first: then
 * what is written together lies together in the index.
 */
export const cidKey = (conv: ConversationId, by: UserId, cid: string): Binary => {
  const name = `${conv} ${by} ${cid}`
  const known = recentKeys.get(name)
  if (known !== undefined) return known
  const bytes = Buffer.allocUnsafe(20)
  bytes.writeUInt32BE(partitionOf(conv, 2 ** 32))
  hash("sha256", name, "buffer").copy(bytes, 4, 0, 16)
  const key = new BinaryOf(bytes)
  if (recentKeys.size >= RECENT_KEYS) recentKeys.clear()
  recentKeys.set(name, key)
  return key
}

/** A batch asks for its keys before it is decided and again when it is appended, and hashing is not cheap. */
const recentKeys = new Map<string, Binary>()
const RECENT_KEYS = 2_048

/** An edge's boot id as the name of a field, in which dots and dollars would mean something. */
export const edgeField = (edge: string): string =>
  edge.replace(/[^A-Za-z0-9_-]/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** The edge of a field by {@link edgeField}. */
export const edgeOf = (field: string): string =>
  field.replace(/%([0-9a-f]{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))

const clustered = { clusteredIndex: { key: { _id: 1 }, unique: true } }
const text = { bsonType: "string" }
const whole = { bsonType: ["int", "long", "double"], minimum: 0 }
const some = { ...whole, minimum: 1 }

const schema = (required: ReadonlyArray<string>, properties: Document) => ({
  validator: { $jsonSchema: { bsonType: "object", additionalProperties: false, required, properties } }
})

/** How the collections are made: what nobody but a Darda writes there is refused by the server. */
export const collections: ReadonlyArray<readonly [name: string, options: Document]> = [
  [
    COLLECTIONS.heads,
    schema(["_id", "partition", "epoch", "position", "owner", "session", "counters", "outbox"], {
      _id: text,
      partition: whole,
      epoch: whole,
      position: whole,
      owner: text,
      session: { bsonType: ["binData", "null"] },
      counters: { bsonType: "object" },
      outbox: { bsonType: "object" }
    })
  ],
  [
    COLLECTIONS.events,
    {
      ...clustered,
      ...schema(["_id", "event"], {
        _id: some,
        conv: text,
        seq: some,
        key: { bsonType: "binData" },
        target: some,
        event: text
      })
    }
  ],
  [
    COLLECTIONS.conversations,
    { ...clustered, ...schema(["_id"], { _id: text, title: text, opener: text, opened: whole }) }
  ],
  [
    COLLECTIONS.members,
    {
      ...clustered,
      ...schema(["_id", "conv", "user", "admin", "since", "delivered", "seen", "left"], {
        _id: text,
        conv: text,
        user: text,
        admin: { bsonType: "bool" },
        since: whole,
        delivered: whole,
        seen: whole,
        left: whole
      })
    }
  ]
]

/** Marks are in none of those of the events, and few conversations have an opener. */
export const indexes: ReadonlyArray<readonly [collection: string, index: Document]> = [
  [COLLECTIONS.heads, { name: "partition", key: { partition: 1 }, unique: true }],
  [
    COLLECTIONS.events,
    {
      name: "conv_seq",
      key: { conv: 1, seq: 1 },
      unique: true,
      // Not sparse: by such an index MongoDB finds the newest event of a conversation only by reading all of them.
      partialFilterExpression: { conv: { $exists: true } }
    }
  ],
  [COLLECTIONS.events, { name: "key", key: { key: 1 }, unique: true, sparse: true }],
  [
    COLLECTIONS.events,
    { name: "conv_target", key: { conv: 1, target: 1 }, partialFilterExpression: { target: { $exists: true } } }
  ],
  [COLLECTIONS.conversations, { name: "opener_opened", key: { opener: 1, opened: 1 }, sparse: true }],
  [COLLECTIONS.members, { name: "user_conv", key: { user: 1, conv: 1 } }]
]

export const collectionsOf = (db: Db) => ({
  meta: db.collection<{ readonly _id: string }>(COLLECTIONS.meta),
  claims: db.collection<ClaimDoc>(COLLECTIONS.meta),
  heads: db.collection<HeadDoc>(COLLECTIONS.heads),
  events: db.collection<EventDoc>(COLLECTIONS.events),
  conversations: db.collection<ConversationDoc>(COLLECTIONS.conversations),
  members: db.collection<MemberDoc>(COLLECTIONS.members)
})

export type Collections = ReturnType<typeof collectionsOf>

/** A write that changes nothing but its own document: only the true primary finds a majority for it. */
export const touchBarrier = (meta: Collections["meta"], session?: ClientSession): Promise<unknown> =>
  meta.updateOne(
    { _id: "barrier" },
    { $inc: { reads: 1 } },
    { upsert: true, ...(session === undefined ? {} : { session }) }
  )
