/** The limit's edge: sockets on one side, the command queues and the node's stream on the other. */
import amqp, { type ConfirmChannel } from "amqplib"
import { Redis } from "ioredis"
import { randomBytes } from "node:crypto"
import { partitionOf } from "../../src/domain/partition.ts"
import { type Client, serveClients } from "./front.ts"
import { BATCH, commandLine, EVENT_FIELDS, fields, names, PARTITIONS } from "./limitWire.ts"
import { endOnTerm, given, orDie, ready } from "./process.ts"

const OBJECTS = 64
const { amqpUrl, name, redisUrl } = given()
const node = randomBytes(6).toString("base64url")
const named = names(name)

/** One unconfirmed batch a partition; the next holds what came meanwhile. */
class Publisher {
  readonly #channel: ConfirmChannel
  readonly #queue: string
  #lines: Array<string> = []
  #counter = 0
  #busy = false

  constructor(channel: ConfirmChannel, queue: string) {
    this.#channel = channel
    this.#queue = queue
  }

  add(line: string): boolean {
    this.#lines.push(line)
    return !this.#busy && this.#lines.length === 1
  }

  readonly publish = (): void => {
    if (this.#busy || this.#lines.length === 0) return
    this.#busy = true
    const all = this.#lines
    this.#lines = all.length > BATCH ? all.splice(BATCH) : []
    const content = Buffer.from(`${node}\t${++this.#counter}${all.join("")}`)
    this.#channel.sendToQueue(this.#queue, content, { persistent: true }, (error) => {
      if (error !== null && error !== undefined) throw new Error("a batch was not confirmed", { cause: error })
      this.#busy = false
      this.publish()
    })
  }
}

/** A client with what is to be written to it in this turn. */
interface Feed {
  readonly client: Client
  pending: Array<string>
}

const flush = ({ client, pending }: Feed): void => {
  for (let from = 0; from < pending.length; from += OBJECTS) {
    const part = pending.length <= OBJECTS ? pending : pending.slice(from, from + OBJECTS)
    client.socket.send(part.length === 1 ? part[0]! : `[${part.join(",")}]`)
  }
}

const connection = await amqp.connect(amqpUrl, { noDelay: true })
const channel = await connection.createConfirmChannel()
const publishers = Array.from({ length: PARTITIONS }, (_, p) => new Publisher(channel, named.commands(p)))
const redis = new Redis(redisUrl)
const reader = new Redis(redisUrl)

const byUser = new Map<string, Set<Feed>>()
const bySession = new Map<string, Feed>()
let due: Array<Publisher> = []

/** A stream entry holds the lines of a commit that concern this node. */
const deliver = (text: string): void => {
  const touched = new Set<Feed>()
  const add = (feed: Feed, frame: string): void => {
    feed.pending.push(frame)
    touched.add(feed)
  }
  const line: Array<string> = []
  let next = 0
  while (next < text.length) {
    next = fields(text, next, line, EVENT_FIELDS)
    const [, users, session, , conv, seq, at, cid, json] = line as [string, ...Array<string>]
    const origin = bySession.get(session!)
    if (origin !== undefined) {
      add(origin, `{"t":"ack","cid":"${cid}","conv":"${conv}","state":"persisted","seq":${seq},"at":${at}}`)
    }
    for (const user of users!.split(",")) {
      const feeds = byUser.get(user)
      if (feeds === undefined) continue
      for (const feed of feeds) if (feed !== origin) add(feed, json!)
    }
  }
  for (const feed of touched) {
    flush(feed)
    feed.pending = []
  }
}

const follow = async (): Promise<never> => {
  const key = named.stream(node)
  let last = "0"
  while (true) {
    const answer = await reader.xread("COUNT", 64, "BLOCK", 0, "STREAMS", key, last)
    for (const [, entries] of answer ?? []) {
      for (const [id, pair] of entries) {
        last = id
        deliver(pair[1]!)
      }
    }
  }
}
orDie(follow())

const url = await serveClients({
  joined: async (client) => {
    const feed: Feed = { client, pending: [] }
    bySession.set(client.session, feed)
    const feeds = byUser.get(client.user)
    if (feeds === undefined) byUser.set(client.user, new Set([feed]))
    else feeds.add(feed)
    await redis.set(named.route(client.user), node)
  },
  left: (client) => {
    const feed = bySession.get(client.session)
    bySession.delete(client.session)
    if (feed !== undefined) byUser.get(client.user)?.delete(feed)
  },
  sent: (client, { body, cid, conv }) => {
    const publisher = publishers[partitionOf(conv, PARTITIONS)]!
    if (!publisher.add(commandLine(client.session, client.user, conv, cid, body))) return
    // What else this turn of the event loop brings goes into the same batches.
    if (due.push(publisher) === 1) {
      setImmediate(() => {
        const now = due
        due = []
        for (const one of now) one.publish()
      })
    }
  }
})
endOnTerm()
ready(url)
