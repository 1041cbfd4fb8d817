/** `darda serve`: all roles in one process. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Server } from "node:http"
import { Edge } from "../edge/Edge.ts"
import { makeHttp } from "../edge/http/Http.ts"
import { makeLegacyUpgrade } from "../edge/legacy/Socket.ts"
import { serveWebSockets } from "../edge/WebSocket.ts"
import { serveControl } from "../platform/Control.ts"
import { keptClusterSecret, openDataFolder } from "../platform/DataFolder.ts"
import { layerLogging, logFormat } from "../platform/Logging.ts"
import { Readiness } from "../platform/Readiness.ts"
import { isLoopback, Settings, settingsWarnings, type SettingsValues } from "../platform/Settings.ts"
import { background, Ending } from "./background.ts"
import { checkAuth, layerLog, layerReadModels, layerServer, startRoles, watchLogFile } from "./embedded.ts"
import { measure } from "./gauges.ts"
import { listen } from "./listen.ts"
import { controlHandlers } from "./maintenance.ts"
import { buildWeb, webFolder } from "./web.ts"

/** Where a person on this machine finds the server. */
const urlOf = ({ host }: SettingsValues, port: number): string => {
  const here = isLoopback(host) || host === "0.0.0.0" || host === "::"
  return `http://${here ? "localhost" : host.includes(":") ? `[${host}]` : host}:${port}`
}

const warnings = (settings: SettingsValues): ReadonlyArray<string> => {
  const found = [...settingsWarnings(settings)]
  if (settings.auth === "dev") {
    const who = isLoopback(settings.host) ? "on this machine" : "WHO REACHES THIS PORT, FROM ANYWHERE,"
    found.push(
      `AUTH=dev: anyone ${who} can be anyone. Never use it for people who do not trust each other; AUTH=jwt is for them`
    )
  }
  return found
}

/** The way in: from here on requests and connections are served, until the scope closes. */
const openDoors = Effect.fnUntraced(function* (settings: SettingsValues, server: Server) {
  const { allowedOrigins, limitBodyChars, limitBurst, limitPerSecond } = settings
  const limits = { perSecond: limitPerSecond, burst: limitBurst, bodyChars: limitBodyChars }
  const onRequest = yield* makeHttp({ webRoot: webFolder, allowedOrigins, limits })
  yield* Effect.acquireRelease(
    Effect.sync(() => server.on("request", onRequest)),
    () => Effect.sync(() => server.off("request", onRequest))
  )
  if (settings.auth !== "dev") return yield* serveWebSockets({ server, allowedOrigins })
  const { limitInFlight: inFlight, limitUserConnections: userConnections } = settings
  const others = yield* makeLegacyUpgrade({ limits: { ...limits, inFlight, userConnections } })
  yield* serveWebSockets({ server, allowedOrigins, others })
})

/** Serves until it is interrupted, and then lets everyone leave in peace. Fails when something is in the way of a start. */
export const serve = Effect.gen(function* () {
  const settings = yield* Settings
  // What can be in the way comes first, and the port before the files: a refused start has changed nothing.
  yield* checkAuth(settings)
  const paths = yield* openDataFolder(settings.dataDir)
  const { port, server } = yield* listen(settings)
  const files = yield* Layer.build(
    layerReadModels(settings, paths).pipe(
      Layer.provideMerge(layerLog(settings, paths)),
      Layer.provideMerge(Ending.layer)
    )
  )
  const secret = settings.clusterSecret ?? (yield* keptClusterSecret(paths))
  const services = yield* Layer.build(layerServer(settings, secret)).pipe(Effect.provide(files))
  return yield* Effect.gen(function* () {
    yield* startRoles(settings)
    yield* background("watch of the log's file", watchLogFile(paths))
    yield* background("gauges", measure(paths.root))
    for (const warning of warnings(settings)) yield* Effect.logWarning(warning)
    yield* buildWeb
    yield* openDoors(settings, server)
    yield* serveControl(paths.control, yield* controlHandlers)
    yield* sayReady(
      settings,
      `Darda is ready on ${urlOf(settings, port)} (data in ${paths.folder}, AUTH=${settings.auth})`
    )
    return yield* Effect.onInterrupt(Ending.await, () => leave(settings))
  }).pipe(Effect.provide(services), Effect.provide(files))
}).pipe(Effect.scoped, Effect.provide(layerLogging))

const sayReady = (settings: SettingsValues, line: string) =>
  logFormat(settings) === "json" ? Effect.logInfo(line) : Effect.sync(() => void process.stdout.write(`${line}\n`))

const leave = Effect.fnUntraced(function* (settings: SettingsValues) {
  const edge = yield* Edge
  const readiness = yield* Readiness
  yield* readiness.drain
  yield* Effect.logInfo(`Stopping: ${edge.node.size} connections are asked to leave`)
  yield* edge.drain(settings.drainSeconds)
})
