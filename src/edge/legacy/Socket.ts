import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { type WebSocket, WebSocketServer } from "ws"
import { isUserId, type UserId } from "../../domain/ids.ts"
import { CLOSE } from "../../domain/protocol/close-codes.ts"
import { FRAME_BYTES, PING_EVERY_MS, PONG_TIMEOUT_MS } from "../../domain/protocol/limits.ts"
import { Hub } from "../Hub.ts"
import type { Admission } from "../Admission.ts"
import { lastWords, retryAfter } from "../lastWords.ts"
import { type LegacyLimits, type LegacySession, legacySession } from "./Session.ts"
import { PIECES } from "../WebSocket.ts"
import { BAD_USER, LEGACY_SOCKET, NO_USER } from "./messages.ts"

/** Bytes that wait for a client that does not read; beyond that it is cut. */
const WAITING_BYTES = 1024 * 1024
/** How long a peer has to answer a close frame before its socket is cut. */
const CLOSE_WITHIN_MS = 1_000

export interface LegacySocketOptions {
  readonly limits: LegacyLimits & { readonly userConnections: number }
  readonly admission: Admission
}

/** Takes an upgrade: true when it was for this path, and then it is answered. */
export type TakeUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, url: URL) => boolean

const refuse = (socket: Duplex, status: string, error: string, retryAfterMs?: number): void => {
  const body = JSON.stringify({ error })
  lastWords(
    socket,
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n${retryAfter(retryAfterMs)}\r\n${body}`
  )
}

const close = (ws: WebSocket, code: number, reason: string): void => {
  ws.close(code, reason)
  setTimeout(() => ws.terminate(), CLOSE_WITHIN_MS).unref()
}

/** The open sockets, by user in the order in which they came. */
class Sockets {
  readonly #byUser = new Map<UserId, Set<WebSocket>>()
  /** Those that have given no sign of life since the last ping. */
  readonly #silent = new Set<WebSocket>()

  add(user: UserId, ws: WebSocket, most: number): void {
    const mine = this.#byUser.get(user) ?? new Set()
    this.#byUser.set(user, mine.add(ws))
    if (mine.size <= most) return
    for (const oldest of mine) {
      mine.delete(oldest)
      close(oldest, CLOSE.tooManyConnections.code, CLOSE.tooManyConnections.reason)
      break
    }
  }

  remove(user: UserId, ws: WebSocket): void {
    this.#silent.delete(ws)
    const mine = this.#byUser.get(user)
    if (mine?.delete(ws) === true && mine.size === 0) this.#byUser.delete(user)
  }

  heard(ws: WebSocket): void {
    this.#silent.delete(ws)
  }

  *all(): Iterable<WebSocket> {
    for (const mine of this.#byUser.values()) yield* mine
  }

  ping(): void {
    for (const ws of this.all()) {
      this.#silent.add(ws)
      ws.ping()
    }
  }

  /** Cuts those that did not answer the last ping: there is nobody to say goodbye to. */
  cutSilent(): void {
    for (const ws of this.#silent) ws.terminate()
    this.#silent.clear()
  }
}

/**
 * `/api/v1/ws?id=<user>`, which believes what it is told: only for `AUTH=dev`. Any origin may connect, as Darda-chat's page is opened from a
 * file. All sockets are closed with the scope.
 */
export const makeLegacyUpgrade = ({
  admission,
  limits
}: LegacySocketOptions): Effect.Effect<TakeUpgrade, never, Hub | Scope.Scope> =>
  Effect.gen(function* () {
    const hub = yield* Hub
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    const fork = yield* FiberSet.makeRuntime<never, void, never>()
    const sockets = new Sockets()
    const server = new WebSocketServer({
      noServer: true,
      maxPayload: FRAME_BYTES,
      ...PIECES,
      perMessageDeflate: false,
      clientTracking: false,
      handleProtocols: () => false
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const ws of sockets.all()) close(ws, CLOSE.draining.code, CLOSE.draining.reason)
      })
    )
    const beat = Effect.gen(function* () {
      yield* Effect.sleep(PING_EVERY_MS)
      sockets.ping()
      yield* Effect.sleep(PONG_TIMEOUT_MS)
      sockets.cutSilent()
    })
    yield* Effect.forkScoped(Effect.forever(beat))

    /** Runs while the socket is open. What comes before the session listens is kept by the paused socket. */
    const serve = (user: UserId, ws: WebSocket): Effect.Effect<void> => {
      const socket = {
        send: (text: string) => {
          if (ws.readyState !== ws.OPEN) return
          if (ws.bufferedAmount > WAITING_BYTES) return close(ws, CLOSE.slowConsumer.code, CLOSE.slowConsumer.reason)
          ws.send(text)
        },
        close: (code: number, reason: string) => close(ws, code, reason),
        pause: () => ws.pause(),
        resume: () => ws.resume()
      }
      let session: LegacySession | undefined
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary) return close(ws, CLOSE.binary.code, CLOSE.binary.reason)
        sockets.heard(ws)
        session?.receive(data.toString())
      })
      ws.on("pong", () => sockets.heard(ws))
      ws.on("error", () => close(ws, CLOSE.protocolError.code, CLOSE.protocolError.reason))
      ws.pause()
      sockets.add(user, ws, limits.userConnections)
      const closed = Effect.callback<void>((resume) => {
        if (ws.readyState === ws.CLOSED) return resume(Effect.void)
        ws.once("close", () => resume(Effect.void))
      })
      return Effect.gen(function* () {
        session = yield* legacySession({ user, socket, hub, limits, now, fork: (effect) => void fork(effect) })
        ws.resume()
        yield* Effect.ensuring(closed, session.end)
      }).pipe(
        Effect.catch((error) =>
          Effect.andThen(
            Effect.logWarning(error.message),
            Effect.sync(() => close(ws, 1011, "no way to this user now, reconnect"))
          )
        ),
        Effect.ensuring(Effect.sync(() => sockets.remove(user, ws)))
      )
    }

    return (request, socket, head, url) => {
      if (url.pathname !== LEGACY_SOCKET) return false
      const user = url.searchParams.get("id") ?? ""
      if (!isUserId(user)) {
        refuse(socket, "400 Bad Request", user === "" ? NO_USER : BAD_USER)
        return true
      }
      const refused = admission.admit(request, socket)
      if (refused === undefined) server.handleUpgrade(request, socket, head, (ws) => void fork(serve(user, ws)))
      else {
        const status = refused.code === "rate_limited" ? "429 Too Many Requests" : "503 Service Unavailable"
        refuse(socket, status, refused.detail, refused.retryAfterMs)
      }
      return true
    }
  })
