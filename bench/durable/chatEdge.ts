/** Darda-chat's way, the edge: a message from a client is a message in the queue, and a channel of Redis is subscribed to for each user. */
import amqp from "amqplib"
import { Redis } from "ioredis"
import { type Client, serveClients } from "./front.ts"
import { chatNames } from "./chatWire.ts"
import { endOnTerm, given, ready } from "./process.ts"

const { amqpUrl, name, redisUrl } = given()
const named = chatNames(name)
const channel = await (await amqp.connect(amqpUrl, { noDelay: true })).createChannel()
await channel.assertQueue(named.messages, { durable: true })
const subscriber = new Redis(redisUrl)
const clients = new Map<string, Set<Client>>()

subscriber.on("message", (to: string, text: string) => {
  for (const { socket } of clients.get(to) ?? []) socket.send(text)
})

const url = await serveClients({
  joined: async (client) => {
    const user = named.user(client.user)
    const known = clients.get(user)
    if (known === undefined) clients.set(user, new Set([client]))
    else known.add(client)
    await subscriber.subscribe(user)
  },
  left: (client) => void clients.get(named.user(client.user))?.delete(client),
  sent: ({ user }, { body, cid, conv }) => {
    const content = Buffer.from(JSON.stringify({ conv, by: user, cid, body }))
    channel.sendToQueue(named.messages, content, { contentType: "application/json" })
  }
})
endOnTerm()
ready(url)
