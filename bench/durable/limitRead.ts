/** The limit's projector: what the event bus brings, into Redis, with the checkpoint in the same script. */
import amqp, { type ConsumeMessage } from "amqplib"
import { Redis } from "ioredis"
import { EVENT_FIELDS, fields, names } from "./limitWire.ts"
import { endOnTerm, given, listen, orDie, ready } from "./process.ts"

const { amqpUrl, name, redisUrl } = given()
const named = names(name)
const redis = new Redis(redisUrl)

/** Messages of a conversation that are kept. */
const TAIL = 200

/**
 * Applies the events from position ARGV[2] to ARGV[3], and only when the checkpoint stands right before them. Then for each conversation: its id, the
 * newest seq, time and position, users with how many of the messages are theirs, and the messages.
 */
const APPLY = `
local at = tonumber(redis.call('GET', KEYS[1]) or '0')
if at ~= tonumber(ARGV[2]) - 1 then return at end
local prefix = ARGV[1]
local i = 4
while i <= #ARGV do
  local conv, position = ARGV[i], ARGV[i + 3]
  local row = prefix .. 'c:' .. conv
  local users, messages = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  redis.call('HSET', row, 'seq', ARGV[i + 1], 'at', ARGV[i + 2], 'position', position)
  redis.call('HINCRBY', row, 'messages', messages)
  i = i + 6
  for _ = 1, users do
    redis.call('ZADD', prefix .. 'i:' .. ARGV[i], position, conv)
    if ARGV[i + 1] ~= '0' then redis.call('HINCRBY', row, 'own:' .. ARGV[i], ARGV[i + 1]) end
    i = i + 2
  end
  local tail = prefix .. 't:' .. conv
  redis.call('RPUSH', tail, unpack(ARGV, i, i + messages - 1))
  redis.call('LTRIM', tail, -${TAIL}, -1)
  i = i + messages
end
redis.call('SET', KEYS[1], ARGV[3])
return tonumber(ARGV[3])
`
const sha = (await redis.script("LOAD", APPLY)) as string

interface Grown {
  seq: string
  at: string
  position: string
  readonly own: Map<string, number>
  readonly messages: Array<string>
}

/** One script call for each partition that a commit wrote to. */
const apply = async (text: string): Promise<void> => {
  const calls: Array<Promise<unknown>> = []
  const line: Array<string> = []
  let next = 0
  while (next < text.length) {
    next = fields(text, next, line, 2)
    const partition = Number(line[0])
    const count = Number(line[1])
    const grown = new Map<string, Grown>()
    let from = ""
    for (let n = 0; n < count; n++) {
      next = fields(text, next, line, EVENT_FIELDS)
      const [position, users, , user, conv, seq, at, , json] = line as [
        string,
        string,
        string,
        string,
        string,
        string,
        string,
        string,
        string
      ]
      if (n === 0) from = position
      let one = grown.get(conv)
      if (one === undefined) {
        const own = new Map(users.split(",").map((member) => [member, 0]))
        grown.set(conv, (one = { seq, at, position, own, messages: [] }))
      }
      one.seq = seq
      one.at = at
      one.position = position
      one.own.set(user, one.own.get(user)! + 1)
      one.messages.push(json)
    }
    const args: Array<string | number> = [named.partition(partition), from, Number(from) + count - 1]
    for (const [conv, { at, messages, own, position, seq }] of grown) {
      args.push(conv, seq, at, position, own.size, messages.length)
      for (const [user, messagesOfUser] of own) args.push(user, messagesOfUser)
      args.push(...messages)
    }
    calls.push(
      redis.evalsha(sha, 1, `${named.partition(partition)}checkpoint`, ...args).then((checkpoint) => {
        if (Number(checkpoint) < Number(from) + count - 1) {
          throw new Error(`there is a hole before position ${from} of partition ${partition}`)
        }
      })
    )
  }
  await Promise.all(calls)
}

const connection = await amqp.connect(amqpUrl, { noDelay: true })
const channel = await connection.createChannel()
await channel.prefetch(32)
await channel.assertQueue(named.events, {
  durable: true,
  arguments: { "x-queue-type": "quorum", "x-single-active-consumer": true }
})
// In order: Redis takes the calls of one connection as they were made.
await channel.consume(named.events, (message: ConsumeMessage | null) => {
  if (message === null) throw new Error("the consumer was cancelled")
  orDie(apply(message.content.toString()).then(() => channel.ack(message)))
})
endOnTerm()
ready(await listen())
