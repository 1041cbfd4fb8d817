/**
 * A rebuild by hand: a cursor over the log in the order of positions, and for each batch of it one pipeline with the values that ours keeps of messages between
 * two people, under the same names. It knows no other events, no comparison of checkpoints, no rebuild beside live ones, and no end before the cursor's.
 */
import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { orDie } from "../durable/process.ts"

/** Events of one batch: what ours reads and applies at once. */
const BATCH = 1_000
/** Messages of a conversation that are kept. */
const TAIL = 200
/** Positions of one partition before the ids meet the next one's. */
const ID_BASE = 2 ** 44
/** The name of the set that is built. */
const GENERATION = "scan"

interface EventDocument {
  readonly _id: number
  readonly event: string
}
/** As the log keeps it: see `EventLogRecords`. */
type EventText = readonly [
  v: number,
  type: string,
  conv: string,
  seq: number,
  prev: number,
  by: string,
  at: number,
  cid: string,
  digest: string,
  data: { readonly kind: string; readonly body: string }
]

interface Conversation {
  /** Of each of the two: when they came, and how many of the messages are theirs. */
  readonly own: Map<string, number>
  readonly since: number
  messages: number
  kept: number
}

/** What the conversation gains by one batch. */
interface Grown {
  readonly conversation: Conversation
  readonly isNew: boolean
  readonly senders: Set<string>
  readonly entries: Array<string>
  row: string
}

/** Rebuilds everything below `darda:<scope>:`; answers the number of events. */
const scan = async (mongoUrl: string, redisUrl: string, scope: string): Promise<number> => {
  const mongo = new MongoClient(mongoUrl)
  const redis = new Redis(redisUrl)
  const known = new Map<string, Conversation>()
  let events = 0

  const write = async (batch: ReadonlyArray<EventDocument>): Promise<void> => {
    const pipeline = redis.pipeline()
    for (let from = 0; from < batch.length;) {
      const partition = Math.floor(batch[from]!._id / ID_BASE)
      const grown = new Map<string, Grown>()
      let to = from
      for (; to < batch.length && Math.floor(batch[to]!._id / ID_BASE) === partition; to++) {
        const { _id, event } = batch[to]!
        const [, , conv, seq, , by, at, cid, , { body, kind }] = JSON.parse(event) as EventText
        let one = grown.get(conv)
        if (one === undefined) {
          const found = known.get(conv)
          const conversation = found ?? {
            own: new Map(
              conv
                .slice(3)
                .split(":")
                .map((user) => [user, 0] as const)
            ),
            since: at,
            messages: 0,
            kept: 0
          }
          known.set(conv, conversation)
          const isNew = found === undefined
          one = { conversation, isNew, senders: new Set(isNew ? conversation.own.keys() : []), entries: [], row: "" }
          grown.set(conv, one)
        }
        const { conversation, entries, senders } = one
        conversation.messages++
        conversation.own.set(by, conversation.own.get(by)! + 1)
        senders.add(by)
        entries.push(`[${seq},"${by}",${at},"${cid}",${JSON.stringify(kind)},${JSON.stringify(body)}]`)
        one.row = `${_id - partition * ID_BASE} ${seq} ${at} ${seq} ${conversation.messages} ${conversation.own.size} 0`
      }
      put(pipeline, partition, batch[to - 1]!._id - partition * ID_BASE, grown)
      from = to
    }
    for (const [error] of (await pipeline.exec()) ?? []) if (error !== null) throw error
  }

  const put = (
    pipeline: ReturnType<Redis["pipeline"]>,
    partition: number,
    position: number,
    grown: ReadonlyMap<string, Grown>
  ): void => {
    const prefix = `darda:${scope}:{${partition}}:`
    const generation = `${prefix}${GENERATION}:`
    let conversations = 0
    let members = 0
    let messages = 0
    for (const [conv, { conversation, entries, isNew, row, senders }] of grown) {
      const fields = ["", row]
      for (const user of senders)
        fields.push(`:${user}`, `0 ${conversation.since} 0 0 ${conversation.own.get(user)!} 0 0`)
      pipeline.hset(`${generation}c:${conv}`, ...fields)
      pipeline.rpush(`${generation}t:${conv}`, ...entries)
      const kept = conversation.kept + entries.length
      if (kept > TAIL) pipeline.ltrim(`${generation}t:${conv}`, -TAIL, -1)
      messages += Math.min(kept, TAIL) - conversation.kept
      conversation.kept = Math.min(kept, TAIL)
      if (!isNew) continue
      conversations++
      members += conversation.own.size
      pipeline.zadd(`${generation}all`, 0, conv)
      for (const user of conversation.own.keys()) pipeline.hset(`${generation}u:${user}`, conv, 0)
    }
    if (conversations > 0) pipeline.hincrby(`${generation}n`, "conversations", conversations)
    if (members > 0) pipeline.hincrby(`${generation}n`, "members", members)
    if (messages > 0) pipeline.hincrby(`${generation}n`, "messages", messages)
    pipeline.set(`${prefix}shadow`, `${GENERATION}:${position}`)
  }

  try {
    const cursor = mongo
      .db()
      .collection<EventDocument>("events")
      .find({}, { projection: { event: 1 }, sort: { _id: 1 }, batchSize: BATCH })
    let writing: Promise<void> = Promise.resolve()
    // The next batch is read while the one before is written.
    while (await cursor.hasNext()) {
      const batch = cursor.readBufferedDocuments(BATCH)
      events += batch.length
      await writing
      writing = write(batch)
    }
    await writing
  } finally {
    redis.disconnect()
    await mongo.close()
  }
  return events
}

const [mongoUrl, redisUrl, scope] = process.argv.slice(2) as [string, string, string]
const started = performance.now()
orDie(
  scan(mongoUrl, redisUrl, scope).then((events) =>
    console.log(
      `Replayed ${events.toLocaleString("en")} events in ${((performance.now() - started) / 1000).toFixed(2)} s`
    )
  )
)
