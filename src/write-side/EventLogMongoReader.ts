/** What reads the log in MongoDB: what a majority holds, as the primary knows it. */
import type { Document, Filter } from "mongodb"
import * as HashMap from "effect/HashMap"
import type { Conversation, Member } from "../domain/conversation.ts"
import type { Prior } from "../domain/decide.ts"
import { isTimeline, type StoredEvent, type TimelineEvent } from "../domain/events.ts"
import { type ConversationId, isDm, type Seq, type UserId } from "../domain/ids.ts"
import type { MongoConnection } from "../platform/MongoConnection.ts"
import type { Membership, OutboxEntry, Prepared, PrepareRequest, Slice } from "./EventLog.ts"
import {
  cidKey,
  type Collections,
  COLLECTIONS,
  collectionsOf,
  type ConversationDoc,
  type EventDoc,
  type HeadDoc,
  ID_BASE,
  type MemberDoc,
  memberRange,
  touchBarrier
} from "./EventLogMongoFormat.ts"
import { decodeEvent, glance, MAX_ROWS } from "./EventLogRecords.ts"

/** How often heads are read that are not complete. */
const HEADS_TRIES = 10
/** The newest event of each of the conversations: the index is entered once for each, and nothing else of it is read. */
const newestOf = (convs: ReadonlyArray<ConversationId>): Array<Document> => [
  { $match: { conv: { $in: convs } } },
  { $sort: { conv: -1, seq: -1 } },
  { $group: { _id: "$conv", seq: { $first: "$seq" }, id: { $first: "$_id" }, event: { $first: "$event" } } }
]
interface Newest {
  readonly _id: ConversationId
  readonly seq: Seq
  readonly id: number
  readonly event: string
}

export class Reader {
  readonly #mongo: MongoConnection
  readonly #partitions: number
  readonly #is: Collections

  constructor(mongo: MongoConnection, partitions: number) {
    this.#mongo = mongo
    this.#partitions = partitions
    this.#is = collectionsOf(mongo.db)
  }

  /**
   * A primary that was replaced may not know it yet, and would answer of what it knows. So something is written first, which only the true one can, and the heads are read
   * as of then.
   */
  async heads(): Promise<ReadonlyArray<number>> {
    const session = this.#mongo.client.startSession({ causalConsistency: true })
    try {
      await touchBarrier(this.#is.meta, session)
      for (let tries = 0; tries < HEADS_TRIES; tries++) {
        const heads = await this.#is.heads.find({}, { projection: { partition: 1, position: 1 }, session }).toArray()
        const positions = new Array<number>(this.#partitions).fill(-1)
        for (const { partition, position } of heads) positions[partition] = Math.max(positions[partition]!, position)
        // One that gives way to that of the next epoch meanwhile may be met in both forms, or in none.
        if (!positions.includes(-1)) return positions
      }
      throw new Error("the heads of some partitions are missing")
    } finally {
      await session.endSession()
    }
  }

  async read(partition: number, after: number, limit: number): Promise<ReadonlyArray<StoredEvent>> {
    const base = partition * ID_BASE
    return this.#events({ _id: { $gt: base + after, $lt: base + ID_BASE } }, { _id: 1 }, limit)
  }

  async timeline(
    conv: ConversationId,
    { after = 0, before, limit, take }: Slice
  ): Promise<ReadonlyArray<TimelineEvent>> {
    const seq = before === undefined ? { $gt: after } : { $gt: after, $lt: before }
    const events = await this.#events({ conv, seq }, { seq: take === "newest" ? -1 : 1 }, limit)
    return (take === "newest" ? events.reverse() : events).filter(isTimeline)
  }

  async amendments(conv: ConversationId, targets: ReadonlyArray<Seq>): Promise<ReadonlyArray<TimelineEvent>> {
    if (targets.length === 0) return []
    const found = await this.#is.events.find({ conv, target: { $in: targets } }, { projection: { event: 1 } }).toArray()
    return found
      .map(({ _id, event }) => decode(_id, event))
      .filter(isTimeline)
      .sort((a, b) => a.seq - b.seq)
  }

  /** The driver takes a limit of 0 for none. */
  async #events(filter: Filter<EventDoc>, sort: Record<string, 1 | -1>, limit: number): Promise<Array<StoredEvent>> {
    if (limit < 1) return []
    const most = Math.min(limit, MAX_ROWS)
    // One more than there are, so that the server knows at once that nothing is left.
    const options = { projection: { event: 1 }, sort, limit: most, batchSize: most + 1 }
    const rows = await this.#is.events.find(filter, options).toArray()
    return rows.map(({ _id, event }) => decode(_id, event))
  }

  /** Head and members as of one moment. */
  async conversation(conv: ConversationId): Promise<Conversation | undefined> {
    const found = await this.#is.members
      .aggregate(
        [
          { $match: { _id: memberRange(conv), left: 0 } },
          { $unionWith: { coll: COLLECTIONS.events, pipeline: newestOf([conv]) } },
          { $unionWith: { coll: COLLECTIONS.conversations, pipeline: [{ $match: { _id: conv } }] } }
        ],
        { readConcern: { level: "snapshot" } }
      )
      .toArray()
    const members: Array<MemberDoc> = []
    let newest: Newest | undefined
    let facts: ConversationDoc | undefined
    for (const row of found) {
      if ("user" in row) members.push(row as MemberDoc)
      else if ("event" in row) newest = row as Newest
      else facts = row as ConversationDoc
    }
    return newest && conversationOf(newest, facts, members)
  }

  async memberships(user: UserId, after: ConversationId, limit: number): Promise<ReadonlyArray<Membership>> {
    const session = this.#mongo.client.startSession({ snapshot: true })
    try {
      const rows = await this.#is.members
        .find(
          { user, conv: { $gt: after } },
          { session, sort: { conv: 1 }, limit: Math.min(limit, MAX_ROWS), projection: { conv: 1, left: 1 } }
        )
        .toArray()
      if (rows.length === 0) return []
      const newest = await this.#newest(
        rows.map(({ conv }) => conv),
        { session }
      )
      return rows.flatMap(({ conv, left }) => {
        const head = newest.get(conv)
        return head === undefined ? [] : [{ conv, seq: head.seq, position: positionOf(head.id), left }]
      })
    } finally {
      await session.endSession()
    }
  }

  async #newest(
    convs: ReadonlyArray<ConversationId>,
    options: Parameters<Collections["events"]["aggregate"]>[1] = {}
  ): Promise<ReadonlyMap<ConversationId, Newest>> {
    const found = await this.#is.events.aggregate<Newest>(newestOf(convs), options).toArray()
    return new Map(found.map((row) => [row._id, row]))
  }

  /** `seen` is told of the newest event of every conversation that was asked for. */
  async prepare(
    request: PrepareRequest,
    seen: (conv: ConversationId, seq: Seq, position: number) => void
  ): Promise<Prepared> {
    const [conversations, priors, authors, opened] = await Promise.all([
      this.#conversations(request.conversations),
      this.#priors(request.cids),
      this.#authors(request.targets),
      this.#opened(request.openers, request.openedSince)
    ])
    for (const state of conversations) if (state !== undefined) seen(state.conv, state.seq, state.position)
    return { conversations, priors, authors, opened }
  }

  /** Not as of one moment: whoever decides on them owns them, and is refused if it does not. */
  async #conversations(convs: ReadonlyArray<ConversationId>): Promise<ReadonlyArray<Conversation | undefined>> {
    if (convs.length === 0) return []
    const [newest, facts, members] = await Promise.all([
      this.#newest(convs),
      this.#is.conversations.find({ _id: { $in: convs } }).toArray(),
      // Beside the list, rather than in it, `left` would have the whole collection read.
      this.#is.members.find({ $or: convs.map((conv) => ({ _id: memberRange(conv), left: 0 })) }).toArray()
    ])
    const factsOf = new Map(facts.map((row) => [row._id, row]))
    const membersOf = Map.groupBy(members, ({ conv }) => conv)
    return convs.map((conv) => {
      const head = newest.get(conv)
      return head && conversationOf(head, factsOf.get(conv), membersOf.get(conv) ?? [])
    })
  }

  async #priors(cids: PrepareRequest["cids"]): Promise<ReadonlyArray<Prior | undefined>> {
    if (cids.length === 0) return []
    const keys = cids.map(({ by, cid, conv }) => cidKey(conv, by, cid))
    const found = await this.#is.events
      .find({ key: { $in: keys } }, { projection: { _id: 0, key: 1, event: 1 } })
      .toArray()
    if (found.length === 0) return new Array<undefined>(cids.length).fill(undefined)
    const byKey = new Map(found.map(({ event, key }) => [key!.toString("hex"), glance(event)]))
    return keys.map((key) => {
      const prior = byKey.get(key.toString("hex"))
      return prior && { seq: prior.seq, at: prior.at, digest: prior.digest }
    })
  }

  async #authors(targets: PrepareRequest["targets"]): Promise<ReadonlyArray<UserId | undefined>> {
    if (targets.length === 0) return []
    const $or = [...Map.groupBy(targets, ({ conv }) => conv)].map(([conv, of]) => ({
      conv,
      seq: { $in: of.map(({ seq }) => seq) }
    }))
    const found = await this.#is.events.find({ $or }, { projection: { _id: 0, conv: 1, seq: 1, event: 1 } }).toArray()
    const authors = new Map(
      found.map(({ conv, event, seq }) => {
        const { by, type } = glance(event)
        return [`${conv} ${seq}`, type === "message" ? by : undefined]
      })
    )
    return targets.map(({ conv, seq }) => authors.get(`${conv} ${seq}`))
  }

  async #opened(openers: ReadonlyArray<UserId>, since: number): Promise<ReadonlyArray<number>> {
    if (openers.length === 0) return []
    const found = await this.#is.conversations
      .aggregate<{ readonly _id: UserId; readonly opened: number }>([
        { $match: { opener: { $in: openers }, opened: { $gte: since } } },
        { $group: { _id: "$opener", opened: { $sum: 1 } } }
      ])
      .toArray()
    const opened = new Map(found.map((row) => [row._id, row.opened]))
    return openers.map((user) => opened.get(user) ?? 0)
  }

  /** From the heads, which are few, and whose outboxes are short. */
  async outbox(options: {
    readonly until: number
    readonly limit: number
    readonly partition?: number
  }): Promise<ReadonlyArray<OutboxEntry>> {
    const filter: Filter<HeadDoc> = options.partition === undefined ? {} : { partition: options.partition }
    const heads = await this.#is.heads.find(filter, { projection: { partition: 1, outbox: 1 } }).toArray()
    return heads
      .flatMap(({ outbox, partition }) =>
        Object.entries(outbox).map(([from, [to, at]]) => ({ partition, from: Number(from), to, at }))
      )
      .filter(({ at }) => at <= options.until)
      .sort((a, b) => a.at - b.at || a.partition - b.partition || a.from - b.from)
      .slice(0, Math.min(options.limit, MAX_ROWS))
  }
}

const positionOf = (id: number): number => id % ID_BASE
const decode = (id: number, event: string): StoredEvent => decodeEvent(Math.floor(id / ID_BASE), positionOf(id), event)

const conversationOf = (
  { _id: conv, event, id, seq }: Newest,
  facts: ConversationDoc | undefined,
  members: ReadonlyArray<MemberDoc>
): Conversation => ({
  conv,
  kind: isDm(conv) ? "dm" : "group",
  ...(facts?.title === undefined ? {} : { title: facts.title }),
  seq,
  at: glance(event).at,
  position: positionOf(id),
  members: HashMap.mutate(HashMap.empty<UserId, Member>(), (map) => {
    for (const { admin, delivered, seen, since, user } of members) {
      HashMap.set(map, user, { user, admin, since, delivered, seen })
    }
  })
})
