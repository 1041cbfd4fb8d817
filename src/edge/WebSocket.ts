import type { IncomingMessage, Server } from "node:http"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket, WebSocketServer } from "ws"
import { FRAME_BYTES } from "../domain/protocol/limits.ts"
import { CLOSE } from "../domain/protocol/close-codes.ts"
import type { Admission } from "./Admission.ts"
import type { Connection } from "./Connection.ts"
import { Edge } from "./Edge.ts"
import { buffersOf, type Frame } from "./Frame.ts"
import { problemOf } from "./http/problems.ts"
import { lastProblem } from "./lastWords.ts"
import type { Transport } from "./Transport.ts"

/** The subprotocol that is chosen when a client offers it. */
const SUBPROTOCOL = "darda.v1"
/** How long a peer has to answer a close frame before its socket is cut. */
const CLOSE_WITHIN_MS = 1_000
/** The same for one that goes on reading: the close frame is behind what it has not read yet, and it should learn the reason. */
const DRAIN_WITHIN_MS = 10_000

/** Pieces of a message, and of a frame on its way, that are kept apart: tiny ones take many times their size. */
export const PIECES = { maxFragments: 256, maxBufferedChunks: 4_096 }

/** Another handler of upgrades: true when it has taken the socket. */
export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, url: URL) => boolean

export interface WebSocketOptions {
  readonly server: Server
  /** Origins that may connect besides the server's own. */
  readonly allowedOrigins: ReadonlyArray<string>
  readonly admission: Admission
  /** Asked for paths other than `/v1/ws`. */
  readonly others?: Upgrade
}

/** Whether a page of this origin may connect: none given, the server's own host, or an allowed one. */
const originAllowed = (request: IncomingMessage, allowed: ReadonlyArray<string>): boolean => {
  const { host, origin } = request.headers
  if (origin === undefined || allowed.includes(origin)) return true
  return URL.canParse(origin) && host !== undefined && new URL(origin).host === host.toLowerCase()
}

/** Serves `/v1/ws` on an HTTP server, until the scope closes. */
export const serveWebSockets = (options: WebSocketOptions): Effect.Effect<void, never, Edge | Scope.Scope> =>
  Effect.gen(function* () {
    const edge = yield* Edge
    const server = new WebSocketServer({
      WebSocket: ConnectionSocket,
      noServer: true,
      maxPayload: FRAME_BYTES,
      ...PIECES,
      perMessageDeflate: false,
      clientTracking: false,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false)
    })

    const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
      const target = request.url ?? "/"
      const url = URL.canParse(target, "http://local") ? new URL(target, "http://local") : undefined
      if (url === undefined || url.pathname !== "/v1/ws") {
        if (url !== undefined && options.others?.(request, socket, head, url) === true) return
        return lastProblem(socket, problemOf("not_found", "There is no WebSocket here; it is at /v1/ws."))
      }
      if (!originAllowed(request, options.allowedOrigins)) {
        const detail = `The origin ${request.headers.origin ?? ""} is not allowed; add it to ALLOWED_ORIGINS.`
        return lastProblem(socket, problemOf("forbidden", detail))
      }
      const refused = options.admission.admit(request, socket)
      if (refused !== undefined) return lastProblem(socket, problemOf(refused.code, refused.detail, refused))
      server.handleUpgrade(request, socket, head, (ws) => serve(edge, ws, socket))
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => options.server.on("upgrade", onUpgrade)),
      () => Effect.sync(() => options.server.off("upgrade", onUpgrade))
    )
  })

/** A socket that knows its connection, so that all of them share their listeners: closures would be a tenth of what an idle connection keeps. */
class ConnectionSocket extends WebSocket {
  connection!: Connection
}

const connectionOf = (ws: WebSocket): Connection => (ws as ConnectionSocket).connection

function onMessage(this: WebSocket, data: Buffer, isBinary: boolean): void {
  if (isBinary) connectionOf(this).close(CLOSE.binary)
  else connectionOf(this).receive(data.toString())
}

function onPong(this: WebSocket): void {
  connectionOf(this).pong()
}

/** Protocol violations close the socket with their own code; what is said of them is in that code. */
function onError(this: WebSocket): void {
  setTimeout(() => this.terminate(), CLOSE_WITHIN_MS).unref()
}

function onClose(this: WebSocket): void {
  connectionOf(this).ended()
}

/** Joins a socket and a connection. */
const serve = (edge: Edge["Service"], ws: ConnectionSocket, socket: Duplex): void => {
  ws.connection = edge.connect(new SocketTransport(ws, socket))
  ws.on("message", onMessage)
  ws.on("pong", onPong)
  ws.on("error", onError)
  ws.on("close", onClose)
}

/**
 * A connection's socket. Frames are written to the socket itself, already encoded: `ws` writes only its control frames
 * there, and both write whole frames.
 */
class SocketTransport implements Transport {
  readonly #ws: WebSocket
  readonly #socket: Duplex

  constructor(ws: WebSocket, socket: Duplex) {
    this.#ws = ws
    this.#socket = socket
  }

  write(frames: ReadonlyArray<Frame>, done: () => void): void {
    writeAll(this.#socket, frames, done)
  }

  ping(): void {
    if (this.#ws.readyState === this.#ws.OPEN) this.#ws.ping()
  }

  close({ code, reason }: { readonly code: number; readonly reason: string }): void {
    if (this.#ws.readyState === this.#ws.CLOSED) return
    this.#ws.close(code, reason)
    this.#cut(this.#socket.writableLength, DRAIN_WITHIN_MS / CLOSE_WITHIN_MS)
  }

  /** Cuts the socket unless, within a second, the peer has closed it or has read on. */
  #cut(unread: number, seconds: number): void {
    setTimeout(() => {
      const left = this.#socket.writableLength
      if (this.#ws.readyState === this.#ws.CLOSED) return
      if (left > 0 && left < unread && seconds > 1) this.#cut(left, seconds - 1)
      else this.#ws.terminate()
    }, CLOSE_WITHIN_MS).unref()
  }

  pause(): void {
    this.#ws.pause()
  }

  resume(): void {
    this.#ws.resume()
  }
}

const EMPTY = Buffer.alloc(0)

const writeAll = (socket: Duplex, frames: ReadonlyArray<Frame>, done: () => void): void => {
  if (socket.destroyed || !socket.writable) return done()
  const buffers = buffersOf(frames)
  if (buffers.length > 1) socket.cork()
  for (const buffer of buffers) socket.write(buffer)
  if (buffers.length > 1) socket.uncork()
  // Mostly the operating system takes all of it at once. To be called back for that would cost more than to look; what is left is followed by nothing, which calls back.
  if (socket.writableLength === 0) done()
  else socket.write(EMPTY, done)
}
