/** Darda-chat's way, the reader: what the dispatcher publishes goes into the conversation's list in Redis and to the channels of its people. */
import amqp from "amqplib"
import { Redis } from "ioredis"
import { dmMembers } from "../../src/domain/ids.ts"
import { type ChatEvent, chatNames } from "./chatWire.ts"
import { endOnTerm, given, listen, orDie, ready } from "./process.ts"

const CACHE_SECONDS = 3_600

const { amqpUrl, name, redisUrl } = given()
const named = chatNames(name)
const redis = new Redis(redisUrl)
const channel = await (await amqp.connect(amqpUrl, { noDelay: true })).createChannel()
await channel.assertExchange(named.exchange, "fanout", { durable: true })
await channel.assertQueue(named.cacheQueue, { durable: true })
await channel.bindQueue(named.cacheQueue, named.exchange, "")
await channel.prefetch(10)
await channel.consume(named.cacheQueue, (message) => {
  if (message === null) throw new Error("the consumer was cancelled")
  const text = message.content.toString()
  const { by, conv } = JSON.parse(text) as ChatEvent
  const key = named.conversation(conv)
  const pipeline = redis.pipeline().rpush(key, text).expire(key, CACHE_SECONDS)
  for (const user of dmMembers(conv) ?? []) if (user !== by) pipeline.publish(named.user(user), text)
  orDie(pipeline.exec().then(() => channel.ack(message)))
})
endOnTerm()
ready(await listen())
