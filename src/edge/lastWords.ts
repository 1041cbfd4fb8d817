import type { Duplex } from "node:stream"

/** How long a peer has to read why it is turned away, in milliseconds. */
const LINGER_MS = 1_000

/** Says the last thing on a socket, and cuts it a second later: a peer that never closes its side would keep it for ever. */
export const lastWords = (socket: Duplex, text: string): void => {
  socket.on("error", () => socket.destroy())
  socket.end(text)
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
}
