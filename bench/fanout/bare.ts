/** A broadcast on bare `ws` as everybody writes it: the message is made once, and sent to each socket. */
import type { Client } from "../durable/front.ts"
import { serveClients } from "../durable/front.ts"
import { endOnTerm, ready } from "../durable/process.ts"
import { eventText } from "./event.ts"

const clients = new Set<Client>()

const url = await serveClients({
  joined: async (client) => void clients.add(client),
  left: (client) => void clients.delete(client),
  sent: (sender, message) => {
    const text = eventText(sender.user, message)
    for (const client of clients) if (client !== sender) client.socket.send(text)
  }
})
endOnTerm()
ready(url)
