/**
 * The limit of what a server in this language can do: all that one turn of the event loop has brought is encoded once, as one buffer, and that is written to
 * each socket itself. It knows one group of everybody, in which one of them speaks; it has no queues, no limits, and keeps nothing.
 */
import type { Socket } from "node:net"
import { coalesce, Frame } from "../../src/edge/Frame.ts"
import { type Client, serveClients } from "../durable/front.ts"
import { endOnTerm, ready } from "../durable/process.ts"
import { eventText } from "./event.ts"

const clients = new Map<Client, Socket>()
let waiting: Array<Frame> = []

const flush = (speaker: Client): void => {
  const bytes = Buffer.concat(coalesce(waiting))
  waiting = []
  for (const [client, socket] of clients) if (client !== speaker) socket.write(bytes)
}

const url = await serveClients({
  joined: async (client) =>
    void clients.set(client, (client.socket as unknown as { readonly _socket: Socket })._socket),
  left: (client) => void clients.delete(client),
  sent: (speaker, message) => {
    if (waiting.push(new Frame(Buffer.from(eventText(speaker.user, message)))) === 1) setImmediate(flush, speaker)
  }
})
endOnTerm()
ready(url)
