/**
 * Just enough of Darda's protocol on bare `ws` that `darda load` drives the other two programs too: a name is its own token, `hello` is
 * welcomed, and what is sent is handed on without a look at it.
 */
import { createServer } from "node:http"
import { type WebSocket, WebSocketServer } from "ws"
import { listen } from "./process.ts"

/** A message as a client sends it. */
export interface Sent {
  readonly cid: string
  readonly conv: string
  readonly body: string
}

/** One connection. */
export interface Client {
  readonly user: string
  readonly session: string
  readonly socket: WebSocket
}

export interface FrontHandlers {
  /** Before the welcome is sent. */
  readonly joined: (client: Client) => Promise<void>
  readonly left: (client: Client) => void
  readonly sent: (client: Client, message: Sent) => void
}

interface Frame extends Sent {
  readonly t: string
  readonly token: string
}

const LIMITS = { frameBytes: 65_536, bodyChars: 16_000, inFlight: 1_000_000, perSecond: 1_000_000 }

/** Serves clients until the process ends; answers its address. */
export const serveClients = async (handlers: FrontHandlers): Promise<string> => {
  const http = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
    request.on("end", () => {
      const { user } = JSON.parse(body) as { readonly user: string }
      response.setHeader("content-type", "application/json").end(JSON.stringify({ token: user }))
    })
  })
  const sockets = new WebSocketServer({
    server: http,
    perMessageDeflate: false,
    maxPayload: LIMITS.frameBytes,
    clientTracking: false
  })
  let sessions = 0
  sockets.on("connection", (socket) => {
    let client: Client | undefined
    const frame = (value: Frame): void => {
      if (client !== undefined) return value.t === "send" ? handlers.sent(client, value) : undefined
      if (value.t !== "hello") return socket.close(4501)
      const joining = { user: value.token, session: (++sessions).toString(36), socket }
      client = joining
      const { session: sid, user } = joining
      handlers.joined(joining).then(
        () =>
          socket.send(
            JSON.stringify({ t: "welcome", sid, user, cursor: "", recovered: false, now: Date.now(), limits: LIMITS })
          ),
        () => socket.terminate()
      )
    }
    socket.on("message", (data: Buffer) => {
      const value = JSON.parse(data.toString()) as Frame | ReadonlyArray<Frame>
      if (Array.isArray(value)) for (const one of value as ReadonlyArray<Frame>) frame(one)
      else frame(value as Frame)
    })
    socket.on("error", () => socket.terminate())
    socket.on("close", () => {
      if (client !== undefined) handlers.left(client)
    })
  })
  return await listen(http)
}
