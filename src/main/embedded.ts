/** All roles on the embedded engines: two SQLite files, buses and routes in memory. The one place that chooses adapters. */
import * as fs from "node:fs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { Edge, layerHub, newId } from "../edge/Edge.ts"
import type { DataPaths } from "../platform/DataFolder.ts"
import { Readiness } from "../platform/Readiness.ts"
import { layerMemory as layerRouter } from "../platform/RouterMemory.ts"
import type { SettingsValues } from "../platform/Settings.ts"
import { Projector } from "../read-side/Projector.ts"
import { layer as layerQueries } from "../read-side/QueriesLive.ts"
import { ReadModels } from "../read-side/ReadModels.ts"
import { layerSqlite as layerReadModelsFile } from "../read-side/ReadModelsSqlite.ts"
import { layerMemory as layerCommandBus, makeMemoryBroker } from "../write-side/CommandBusMemory.ts"
import { layerMemory as layerEventBus, makeMemoryEventBus } from "../write-side/EventBusMemory.ts"
import { EventLog, LogHeads } from "../write-side/EventLog.ts"
import { layerSqlite as layerLogFile } from "../write-side/EventLogSqlite.ts"
import { Relay } from "../write-side/Relay.ts"
import { type Ending, fatal } from "./background.ts"
import { layerAuth } from "./identity.ts"
import { ANY } from "./start.ts"

const WATCH_EVERY = "2 seconds"

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
      Layer.mergeAll(
        layerQueries,
        LogHeads.layer,
        Projector.layer,
        Relay.layer,
        layerAuth(settings, secret),
        Readiness.layer
      )
    ),
    Layer.provideMerge(engines)
  )
}

/** Asks each thread that holds a file whether it is alive: a dead one stays dead, and this process is of no use without it. */
export const watch = Effect.gen(function* () {
  const log = yield* EventLog
  const readModels = yield* ReadModels
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
