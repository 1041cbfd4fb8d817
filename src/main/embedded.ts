/** All roles on the embedded engines: two SQLite files, buses and routes in memory. The one place that chooses adapters. */
import * as fs from "node:fs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { Auth } from "../edge/auth/Auth.ts"
import { layerDev } from "../edge/auth/AuthDev.ts"
import { type AuthUnusable, layerJwt, verificationKey } from "../edge/auth/AuthJwt.ts"
import { Edge, layerHub, newId } from "../edge/Edge.ts"
import { dmConversation } from "../domain/ids.ts"
import type { DataPaths } from "../platform/DataFolder.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { Readiness } from "../platform/Readiness.ts"
import type { Router } from "../platform/Router.ts"
import { layerMemory as layerRouter } from "../platform/RouterMemory.ts"
import type { SettingsValues } from "../platform/Settings.ts"
import { Projector } from "../read-side/Projector.ts"
import { layer as layerQueries } from "../read-side/QueriesLive.ts"
import { ReadModels } from "../read-side/ReadModels.ts"
import { layerSqlite as layerReadModelsFile } from "../read-side/ReadModelsSqlite.ts"
import { layerMemory as layerCommandBus, makeMemoryBroker } from "../write-side/CommandBusMemory.ts"
import { runCommitter } from "../write-side/Committer.ts"
import { layerMemory as layerEventBus, makeMemoryEventBus } from "../write-side/EventBusMemory.ts"
import { EventLog } from "../write-side/EventLog.ts"
import { layerSqlite as layerLogFile } from "../write-side/EventLogSqlite.ts"
import { Relay } from "../write-side/Relay.ts"
import { background, type Ending, fatal } from "./background.ts"

const WATCH_EVERY = "2 seconds"
/** A conversation to ask for, when all that counts is that there is an answer. */
const ANY = dmConversation("a", "b")

/** The event log in the data folder. */
export const layerLog = (settings: SettingsValues, paths: DataPaths) =>
  layerLogFile({ file: paths.log, partitions: settings.partitions })

/** The read models in the data folder, which belong to the log beside them. */
export const layerReadModels = (settings: SettingsValues, paths: DataPaths) =>
  Layer.unwrap(
    Effect.map(EventLog, (log) =>
      layerReadModelsFile({ file: paths.readModels, log: log.id, partitions: settings.partitions })
    )
  )

// The settings are not taken without issuer and audience where AUTH=jwt.
const jwtOptions = ({ jwksUrl, jwtAlgorithms, jwtAudience, jwtIssuer, jwtPublicKeyFile }: SettingsValues) => ({
  issuer: jwtIssuer!,
  audience: jwtAudience!,
  algorithms: jwtAlgorithms,
  ...(jwksUrl === undefined ? {} : { jwksUrl }),
  ...(jwtPublicKeyFile === undefined ? {} : { publicKeyFile: jwtPublicKeyFile })
})

/** Whether identities can be checked with these settings; asked before anything is written. */
export const checkAuth = (settings: SettingsValues): Effect.Effect<void, AuthUnusable> =>
  settings.auth === "dev" ? Effect.void : Effect.asVoid(verificationKey(jwtOptions(settings)))

const layerAuth = (
  settings: SettingsValues,
  secret: Redacted.Redacted<string>
): Layer.Layer<Auth, AuthUnusable, Router> =>
  settings.auth === "dev" ? layerDev(secret) : layerJwt({ ...jwtOptions(settings), clusterSecret: secret })

/** Everything that a request needs, on top of the log and the read models. */
export const layerServer = (settings: SettingsValues, secret: Redacted.Redacted<string>) => {
  const node = newId()
  const engines = Layer.mergeAll(
    layerRouter(node),
    layerCommandBus(makeMemoryBroker(settings.partitions), newId()),
    layerEventBus(makeMemoryEventBus())
  )
  const edge = Edge.layer({
    perSecond: settings.limitPerSecond,
    burst: settings.limitBurst,
    inFlight: settings.limitInFlight,
    bodyChars: settings.limitBodyChars,
    userConnections: settings.limitUserConnections
  })
  return layerHub.pipe(
    Layer.provideMerge(edge),
    Layer.provideMerge(
      Layer.mergeAll(layerQueries, Projector.layer, Relay.layer, layerAuth(settings, secret), Readiness.layer)
    ),
    Layer.provideMerge(engines)
  )
}

/** What a check found, as readiness wants it. */
const saying = (check: Effect.Effect<unknown, { readonly message: string }>): Effect.Effect<string | undefined> =>
  check.pipe(
    Effect.as(undefined),
    Effect.catch((error) => Effect.succeed(error.message))
  )

/** Starts what works without being asked: commits, relays, projects, follows the node's stream. Stops with the scope. */
export const startRoles = Effect.fnUntraced(function* (settings: SettingsValues) {
  const log = yield* EventLog
  const readModels = yield* ReadModels
  const readiness = yield* Readiness
  yield* readiness.register("event log", saying(log.heads))
  yield* readiness.register("read models", saying(readModels.access(ANY, "a")))
  const edge = yield* Edge
  const projector = yield* Projector
  const relay = yield* Relay
  yield* background("projector", projector.run)
  yield* background("relay", relay.run)
  yield* background(
    "committer",
    Effect.scoped(runCommitter({ owner: newId(), newDmsPerHour: settings.limitNewDmsPerHour }))
  )
  yield* background("edge", edge.run)
  yield* background("watch", watch)
})

/** Asks each thread that holds a file whether it is alive: a dead one stays dead, and this process is of no use without it. */
const watch = Effect.gen(function* () {
  const log = yield* EventLog
  const readModels = yield* ReadModels
  const projector = yield* Projector
  const metrics = yield* metricsWriter
  metrics.update("projectionLag", projector.lag())
  const questions: ReadonlyArray<Effect.Effect<unknown, { readonly message: string; readonly cause?: unknown }>> = [
    log.heads,
    log.outbox({ until: 0, limit: 1 }),
    readModels.access(ANY, "a")
  ]
  for (const question of questions) {
    yield* question.pipe(
      Effect.catch((error) => {
        const { code } = (error.cause ?? {}) as { readonly code?: unknown }
        return code === "worker-died" ? fatal(error.message) : Effect.void
      })
    )
  }
}).pipe(Effect.andThen(Effect.sleep(WATCH_EVERY)), Effect.forever)

/** Ends the process when the log's file is no longer the one that was opened: what is written to a deleted file is gone with the process. */
export const watchLogFile = (paths: DataPaths): Effect.Effect<never, never, Ending> =>
  Effect.suspend(() => {
    const inodeOf = (): number | undefined => fs.statSync(paths.log, { throwIfNoEntry: false })?.ino
    const opened = inodeOf()
    const look = Effect.suspend(() =>
      inodeOf() === opened
        ? Effect.void
        : fatal(
            `${paths.log} was moved or deleted while this server wrote to it; put it back, or a backup, and start again`
          )
    )
    return look.pipe(Effect.andThen(Effect.sleep(WATCH_EVERY)), Effect.forever)
  })
