/** The limit's committer and relay: everything that waits in one transaction, then the nodes and the event bus, while the next is being committed. */
import amqp, { type Channel, type ConsumeMessage } from "amqplib"
import { Redis } from "ioredis"
import { type ClientSession, type Document, MongoClient } from "mongodb"
import { BATCH, fields, names, PARTITIONS } from "./limitWire.ts"
import { endOnTerm, given, listen, orDie, ready } from "./process.ts"

const { amqpUrl, mongoUrl, name, redisUrl } = given()
const named = names(name)

/** Positions in one partition before its `_id`s meet the next one's. */
const SPAN = 2 ** 36
/** Commits that may wait for the relay. */
const RELAYING = 4
const IN_TRANSACTION = {
  readConcern: { level: "snapshot" },
  writeConcern: { w: "majority", j: true },
  readPreference: "primary"
} as const

const mongo = new MongoClient(mongoUrl)
const db = mongo.db(name)
const redis = new Redis(redisUrl)
const connection = await amqp.connect(amqpUrl, { noDelay: true })
const channel = await connection.createChannel()
const publisher = await (await amqp.connect(amqpUrl, { noDelay: true })).createConfirmChannel()

/** What is known of a partition and of a conversation: as the log has it, since this is its only writer. */
interface Partition {
  position: number
  readonly counters: Map<string, number>
  /** Runs that are not relayed yet, by their first position. */
  readonly outbox: Map<number, readonly [to: number, at: number]>
}
interface Head {
  seq: number
  readonly users: string
}
interface Run {
  readonly lines: Array<string>
  from: number
}
interface Commit {
  readonly runs: ReadonlyMap<number, Run>
  readonly users: ReadonlySet<string>
}

interface EventDocument {
  readonly _id: number
  readonly c: string
  readonly s: number
  readonly u: string
  readonly i: string
  readonly e: string
}
interface PartitionDocument {
  readonly _id: number
  readonly epoch: number
  readonly position: number
  readonly counters: Readonly<Record<string, number>>
  readonly outbox: Readonly<Record<string, readonly [to: number, at: number]>>
}

const events = db.collection<EventDocument>("events")
const partitions: Array<Partition> = []
const heads = new Map<string, Head>()

/** The events lie in the order of their ids, which are their positions; a conversation's head is its newest event. */
const setUp = async (): Promise<void> => {
  await db.createCollection("events", { clusteredIndex: { key: { _id: 1 }, unique: true } })
  await events.createIndexes([
    { key: { c: 1, s: 1 }, unique: true },
    { key: { c: 1, u: 1, i: 1 }, unique: true }
  ])
  const stored = db.collection<PartitionDocument>("partitions")
  for (let p = 0; p < PARTITIONS; p++) {
    const row = await stored.findOneAndUpdate(
      { _id: p },
      { $inc: { epoch: 1 }, $setOnInsert: { position: 0, counters: {}, outbox: {} } },
      { upsert: true, returnDocument: "after" }
    )
    partitions.push({
      position: row!.position,
      counters: new Map(Object.entries(row!.counters)),
      outbox: new Map(Object.entries(row!.outbox).map(([from, entry]) => [Number(from), entry]))
    })
  }
}

/** Heads that are not in memory come from the log. */
const load = async (missing: ReadonlySet<string>): Promise<void> => {
  await Promise.all(
    [...missing].map(async (conv) => {
      const [newest] = await events.find({ c: conv }).sort({ s: -1 }).limit(1).toArray()
      heads.set(conv, { seq: newest?.s ?? 0, users: conv.slice(3).replace(":", ",") })
    })
  )
}

interface Command {
  readonly session: string
  readonly user: string
  readonly conv: string
  readonly cid: string
  readonly body: string
}
interface Batch {
  readonly partition: number
  readonly edge: string
  readonly counter: number
  readonly commands: ReadonlyArray<Command>
}

const decode = (partition: number, content: Buffer): Batch => {
  const text = content.toString()
  const line: Array<string> = []
  let next = fields(text, 0, line, 2)
  const [edge, counter] = line as [string, string]
  const commands: Array<Command> = []
  while (next < text.length) {
    next = fields(text, next, line, 5)
    const [session, user, conv, cid, body] = line as [string, string, string, string, string]
    commands.push({ session, user, conv, cid, body })
  }
  return { partition, edge, counter: Number(counter), commands }
}

/** Commits batches in one transaction; answers what the relay has to tell. */
const commit = async (session: ClientSession, batches: ReadonlyArray<Batch>): Promise<Commit> => {
  const missing = new Set<string>()
  for (const { commands } of batches) for (const { conv } of commands) if (!heads.has(conv)) missing.add(conv)
  if (missing.size > 0) await load(missing)

  const at = Date.now()
  const runs = new Map<number, Run>()
  const users = new Set<string>()
  const inserts: Array<Document> = []
  for (const { commands, counter, edge, partition } of batches) {
    const state = partitions[partition]!
    const last = state.counters.get(edge) ?? 0
    if (counter <= last) continue
    if (counter > last + 1) throw new Error(`batch ${counter} of ${edge} came after ${last}`)
    state.counters.set(edge, counter)
    let run = runs.get(partition)
    if (run === undefined) runs.set(partition, (run = { lines: [], from: state.position + 1 }))
    for (const { body, cid, conv, session: origin, user } of commands) {
      const head = heads.get(conv)!
      const seq = ++head.seq
      const position = ++state.position
      const json = `{"t":"event","conv":"${conv}","seq":${seq},"type":"message","by":"${user}","at":${at},"cid":"${cid}","data":{"kind":"text","body":${body}}}`
      const document: EventDocument = { _id: partition * SPAN + position, c: conv, s: seq, u: user, i: cid, e: json }
      inserts.push({ insert: 0, document })
      run.lines.push(`${position}\t${head.users}\t${origin}\t${user}\t${conv}\t${seq}\t${at}\t${cid}\t${json}`)
      for (const member of head.users.split(",")) users.add(member)
    }
  }
  if (runs.size === 0) return { runs, users }
  // The fence first: a second committer is found out before anything is written.
  const ops: Array<Document> = []
  for (const [partition, { from }] of runs) {
    const { counters, outbox, position } = partitions[partition]!
    outbox.set(from, [position, at])
    const $set = { position, counters: Object.fromEntries(counters), outbox: Object.fromEntries(outbox) }
    ops.push({ update: 1, filter: { _id: partition, position: from - 1 }, updateMods: { $set } })
  }
  ops.push(...inserts)

  session.startTransaction(IN_TRANSACTION)
  const nsInfo = ["events", "partitions"].map((one) => ({ ns: `${name}.${one}` }))
  const answer = await mongo.db("admin").command({ bulkWrite: 1, ops, nsInfo, errorsOnly: true }, { session })
  if (answer["nErrors"] !== 0 || answer["nMatched"] !== runs.size) {
    throw new Error(`the transaction was refused: ${JSON.stringify(answer)}`)
  }
  await session.commitTransaction()
  return { runs, users }
}

/** Tells the nodes that hold any of the users, and the event bus. */
const relay = async ({ runs, users }: Commit): Promise<void> => {
  const lines: Array<string> = []
  const published: Array<string> = []
  for (const [partition, run] of runs) {
    lines.push(...run.lines)
    published.push(`${partition}\t${run.lines.length}`, ...run.lines)
  }
  const confirmed = new Promise<void>((resolve, reject) =>
    publisher.sendToQueue(named.events, Buffer.from(published.join("\n")), { persistent: true }, (error) =>
      error === null || error === undefined ? resolve() : reject(new Error("the event bus did not confirm"))
    )
  )
  const nodes = new Set(await redis.mget([...users].map(named.route)))
  nodes.delete(null)
  const text = lines.join("\n")
  await Promise.all([...nodes].map((node) => redis.xadd(named.stream(node!), "MAXLEN", "~", 200, "*", "d", text)))
  await confirmed
  // The next commit of the partition writes what is left.
  for (const [partition, { from }] of runs) partitions[partition]!.outbox.delete(from)
}

/** Batches in the order in which they came, and how to ack them. */
const waiting: Array<{ readonly batch: Batch; readonly message: ConsumeMessage }> = []
let wake: () => void = () => {}

const run = async (): Promise<never> => {
  const session = mongo.startSession()
  const relaying: Array<Promise<void>> = []
  let relayed: Promise<void> = Promise.resolve()
  while (true) {
    if (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve))
    let count = 0
    let take = 0
    while (take < waiting.length && (take === 0 || count + waiting[take]!.batch.commands.length <= BATCH)) {
      count += waiting[take++]!.batch.commands.length
    }
    const taken = waiting.splice(0, take)
    const committed = await commit(
      session,
      taken.map(({ batch }) => batch)
    )
    for (const { message } of taken) channel.ack(message)
    relayed = relayed.then(() => relay(committed))
    orDie(relayed)
    relaying.push(relayed)
    if (relaying.length > RELAYING) await relaying.shift()
  }
}

const consume = async (from: Channel): Promise<void> => {
  await from.prefetch(64)
  for (let p = 0; p < PARTITIONS; p++) {
    await from.assertQueue(named.commands(p), {
      durable: true,
      arguments: { "x-queue-type": "quorum", "x-single-active-consumer": true }
    })
    await from.consume(named.commands(p), (message) => {
      if (message === null) throw new Error("the consumer was cancelled")
      waiting.push({ batch: decode(p, message.content), message })
      wake()
    })
  }
}

await setUp()
await publisher.assertQueue(named.events, {
  durable: true,
  arguments: { "x-queue-type": "quorum", "x-single-active-consumer": true }
})
await consume(channel)
orDie(run())
endOnTerm()
ready(await listen())
