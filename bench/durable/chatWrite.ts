/**
 * Darda-chat's way, the writer: ten workers, each with one transaction a message (the message and its outbox document), and beside them the
 * dispatcher: every second it looks for outbox documents that are not processed, and marks and publishes each in a transaction of its own.
 */
import amqp from "amqplib"
import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { type ChatEvent, type ChatMessage, chatNames } from "./chatWire.ts"
import { endOnTerm, given, listen, orDie, ready } from "./process.ts"

const WORKERS = 10
const POLL_MS = 1_000

const { amqpUrl, mongoUrl, name, redisUrl } = given()
const named = chatNames(name)
const mongo = new MongoClient(mongoUrl)
const redis = new Redis(redisUrl)
const channel = await (await amqp.connect(amqpUrl, { noDelay: true })).createChannel()

interface MessageDocument extends Omit<ChatMessage, "cid"> {
  readonly _id: string
  readonly at: Date
}
interface OutboxDocument {
  readonly _id: string
  readonly payload: ChatEvent
  readonly createdAt: Date
  readonly processedAt: Date | null
}
const messages = mongo.db(name).collection<MessageDocument>("messages")
const outbox = mongo.db(name).collection<OutboxDocument>("outbox_messages")

/** Counted here, since Darda-chat has no order of its own and the protocol wants one. */
const seqs = new Map<string, number>()

const write = async ({ body, by, cid, conv }: ChatMessage): Promise<void> => {
  const at = new Date()
  const seq = (seqs.get(conv) ?? 0) + 1
  seqs.set(conv, seq)
  const payload: ChatEvent = {
    t: "event",
    conv,
    seq,
    type: "message",
    by,
    at: at.getTime(),
    cid,
    data: { kind: "text", body }
  }
  await mongo.withSession((session) =>
    session.withTransaction(async () => {
      await messages.insertOne({ _id: cid, conv, by, body, at }, { session })
      await outbox.insertOne({ _id: cid, payload, createdAt: at, processedAt: null }, { session })
    })
  )
  // Darda-chat tells the sender nothing; what is measured has to know.
  await redis.publish(
    named.user(by),
    JSON.stringify({ t: "ack", cid, conv, state: "persisted", seq, at: at.getTime() })
  )
}

/** The dispatcher, one document after the other. */
const dispatch = async (): Promise<never> => {
  while (true) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    for await (const { _id, payload } of outbox.find({ processedAt: null })) {
      await mongo.withSession((session) =>
        session.withTransaction(async () => {
          await outbox.updateOne({ _id }, { $set: { processedAt: new Date() } }, { session })
          channel.publish(named.exchange, "", Buffer.from(JSON.stringify(payload)), { contentType: "application/json" })
        })
      )
    }
  }
}

await outbox.createIndex({ processedAt: 1 })
await messages.createIndex({ conv: 1, at: 1 })
await channel.assertQueue(named.messages, { durable: true })
await channel.assertExchange(named.exchange, "fanout", { durable: true })
await channel.prefetch(WORKERS)
await channel.consume(named.messages, (message) => {
  if (message === null) throw new Error("the consumer was cancelled")
  orDie(write(JSON.parse(message.content.toString()) as ChatMessage).then(() => channel.ack(message)))
})
orDie(dispatch())
endOnTerm()
ready(await listen())
