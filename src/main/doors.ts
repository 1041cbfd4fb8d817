/** The ways into a process: HTTP and WebSockets, until the scope closes. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Server } from "node:http"
import type { IncomingMessage, ServerResponse } from "node:http"
import type * as Redacted from "effect/Redacted"
import { Admission } from "../edge/Admission.ts"
import { Edge } from "../edge/Edge.ts"
import { makeHttp } from "../edge/http/Http.ts"
import { makeHealthHttp, makeQueryHttp } from "../edge/http/RoleHttp.ts"
import { makeLegacyUpgrade } from "../edge/legacy/Socket.ts"
import { serveWebSockets } from "../edge/WebSocket.ts"
import { logFormat } from "../platform/Logging.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { isLoopback, settingsWarnings, type SettingsValues } from "../platform/Settings.ts"
import { QUERY_PREFIX } from "../read-side/QueryApi.ts"
import { webFolder } from "./web.ts"

/** How long a leaving process has for what it was asked: longer than an edge waits for an answer. */
const ANSWER_WITHIN = "5 seconds"
const LOOK_EVERY = "20 millis"

type Listener = (request: IncomingMessage, response: ServerResponse) => void

/** Where a person on this machine finds the process. */
export const urlOf = ({ host }: SettingsValues, port: number): string => {
  const here = isLoopback(host) || host === "0.0.0.0" || host === "::"
  return `http://${here ? "localhost" : host.includes(":") ? `[${host}]` : host}:${port}`
}

/** What a person should know before the process serves; `edge`: it has clients. */
export const warnings = (settings: SettingsValues, edge: boolean): ReadonlyArray<string> => {
  const found = [...settingsWarnings(settings)]
  if (edge && settings.auth === "dev") {
    const who = isLoopback(settings.host) ? "on this machine" : "WHO REACHES THIS PORT, FROM ANYWHERE,"
    found.push(
      `AUTH=dev: anyone ${who} can be anyone. Never use it for people who do not trust each other; AUTH=jwt is for them`
    )
  }
  return found
}

/** Serves requests until the scope closes. */
const listenTo = (server: Server, listener: Listener) =>
  Effect.acquireRelease(
    Effect.sync(() => server.on("request", listener)),
    () => Effect.sync(() => server.off("request", listener))
  )

/** Everything that clients ask for. `queries` takes what is below the query API's prefix. */
export const openEdge = Effect.fnUntraced(function* (settings: SettingsValues, server: Server, queries?: Listener) {
  const edge = yield* Edge
  const clock = yield* Clock.Clock
  const { allowedOrigins, limitBodyChars, limitBurst, limitPerSecond } = settings
  const limits = { perSecond: limitPerSecond, burst: limitBurst, bodyChars: limitBodyChars }
  yield* listenTo(server, besides(yield* makeHttp({ webRoot: webFolder, allowedOrigins, limits }), queries))
  const admission = new Admission({
    limits: {
      connections: settings.limitConnections,
      perSecond: settings.limitConnectsPerSecond,
      perAddress: settings.limitAddressConnections,
      proxies: settings.trustedProxies
    },
    accepting: edge.accepting,
    now: () => clock.currentTimeMillisUnsafe(),
    metrics: yield* metricsWriter
  })
  if (settings.auth !== "dev") return yield* serveWebSockets({ server, allowedOrigins, admission })
  const { limitInFlight: inFlight, limitUserConnections: userConnections } = settings
  const others = yield* makeLegacyUpgrade({ admission, limits: { ...limits, inFlight, userConnections } })
  yield* serveWebSockets({ server, allowedOrigins, admission, others })
})

/**
 * Health, readiness and metrics of a process that does not serve yet: it is alive, whoever it waits for. Steps back for whoever opens the process, and
 * answers again for as long as it takes to leave after that one has gone.
 */
export const openStarting = Effect.fnUntraced(function* (server: Server) {
  const health = yield* makeHealthHttp
  const others = server.listenerCount("request") + 1
  yield* listenTo(server, (request, response) => {
    if (server.listenerCount("request") === others) health(request, response)
  })
})

/** Health, readiness and metrics of a process without clients. */
export const openHealth = Effect.fnUntraced(function* (server: Server, queries?: Listener) {
  yield* listenTo(server, besides(yield* makeHealthHttp, queries))
})

/** The query API, for the `openEdge` or `openHealth` of the process. It is left when nothing is under way: each answer is then the last of its connection. */
export const makeQueryDoor = Effect.fnUntraced(function* (server: Server, secret: Redacted.Redacted<string>) {
  const answer = yield* makeQueryHttp(secret)
  const underWay = new Set<ServerResponse>()
  const isLast = (response: ServerResponse): void => {
    if (!response.headersSent) response.setHeader("connection", "close")
  }
  let leaving = false
  const listener: Listener = (request, response) => {
    underWay.add(response)
    response.once("close", () => underWay.delete(response))
    if (leaving) isLast(response)
    answer(request, response)
  }
  const leave = Effect.suspend(() => {
    leaving = true
    underWay.forEach(isLast)
    server.closeIdleConnections()
    return Effect.sleep(LOOK_EVERY).pipe(Effect.repeat({ while: () => underWay.size > 0 }))
  }).pipe(Effect.timeoutOrElse({ duration: ANSWER_WITHIN, orElse: () => Effect.void }), Effect.asVoid)
  return { listener, leave }
})

const besides =
  (listener: Listener, queries: Listener | undefined): Listener =>
  (request, response) =>
    queries !== undefined && request.url?.startsWith(QUERY_PREFIX) === true
      ? queries(request, response)
      : listener(request, response)

/** Says in one line that the process serves, for a person or a machine that waits for it. */
export const sayReady = (settings: SettingsValues, line: string) =>
  logFormat(settings) === "json" ? Effect.logInfo(line) : Effect.sync(() => void process.stdout.write(`${line}\n`))
