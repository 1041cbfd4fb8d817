import { createServer, type Server } from "node:http"
import type { Duplex } from "node:stream"
import type { ErrorCode } from "../../domain/protocol/server-frames.ts"
import { lastProblem } from "../lastWords.ts"
import { PROBLEM_TYPE, problemOf } from "./problems.ts"

/** Milliseconds in which a request's head must have come; node's own minute lets slow peers hold many sockets. */
const HEADERS_TIMEOUT_MS = 10_000
/** Milliseconds in which a whole request must have come. */
const REQUEST_TIMEOUT_MS = 30_000
/** Milliseconds that a connection without a request is kept: longer than the minute of usual load balancers, which must be the ones to close it. */
const KEEP_ALIVE_MS = 65_000
/** Milliseconds after which a socket on which nothing moves is cut: longer than any answer takes, so its peer does not read. */
const STUCK_MS = 60_000
/** Bytes of a request's head. */
const HEAD_BYTES = 16 * 1024
/** Milliseconds between two looks at the timeouts above; node's own 30 s would make 10 s mean up to 40. */
const CHECK_EVERY_MS = 2_000

const STARTING = "This server is starting."

/** What is wrong with what came, by node's name for it: before there is a request, so that no handler sees it. */
const refusals: Readonly<Record<string, readonly [status: number, code: ErrorCode, detail: string]>> = {
  HPE_HEADER_OVERFLOW: [431, "too_large", `The head of a request has at most ${HEAD_BYTES} bytes.`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "bad_request", "The request took too long to come."]
}

const refuse = (socket: Duplex, cause: NodeJS.ErrnoException): void => {
  // A peer that has gone, or has had a part of an answer, cannot be told.
  if (cause.code === "ECONNRESET" || !socket.writable) return void socket.destroy()
  const [status, code, detail] = refusals[cause.code ?? ""] ?? [400, "bad_request", "This is not HTTP."]
  lastProblem(socket, problemOf(code, detail, { status }))
}

/**
 * A server with bounds on how long and how large a request may be. It is not listening yet, and answers 503 as long as nobody else listens
 * for its requests.
 */
export const createHttpServer = (): Server => {
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEAD_BYTES,
    connectionsCheckingInterval: CHECK_EVERY_MS,
    // Clients that would rather speak HTTP/2 offer it with every request; what is not for a WebSocket is a request like any other.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket"
  })
  server.on("clientError", (cause: NodeJS.ErrnoException, socket) => refuse(socket, cause))
  server.on("request", (request, response) => {
    // Not of every socket: WebSockets are pinged, and each would keep a timer that it never needs.
    request.socket.setTimeout(STUCK_MS)
    if (server.listenerCount("request") > 1) return
    response
      .writeHead(503, { "content-type": PROBLEM_TYPE, "retry-after": "2" })
      .end(JSON.stringify(problemOf("unavailable", STARTING, { retryAfterMs: 2_000 })))
  })
  return server
}
