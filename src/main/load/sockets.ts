/** The surroundings of the client when thousands of it run in one process: sockets of `ws`, which cost less than the global ones. */
import type { OpenSocket } from "../../client/environment.ts"
import { realEnvironment } from "../../client/environment.ts"
import WebSocket from "ws"

const openSocket: OpenSocket = (url, protocol, handlers) => {
  const socket = new WebSocket(url, [protocol], { perMessageDeflate: false, maxPayload: 1024 * 1024 })
  socket.on("open", handlers.open)
  socket.on("message", (data: Buffer) => handlers.message(data.toString()))
  socket.on("close", (code, reason) => handlers.close(code, reason.toString()))
  socket.on("error", () => {})
  return { send: (text) => socket.send(text), close: (code, reason) => socket.close(code, reason) }
}

/** Real time, real sockets. */
export const loadEnvironment = { ...realEnvironment, openSocket }
