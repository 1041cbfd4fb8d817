/** All roles in one process on the embedded engines. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { serveControl } from "../platform/Control.ts"
import { keptClusterSecret, openDataFolder } from "../platform/DataFolder.ts"
import { Readiness } from "../platform/Readiness.ts"
import type { SettingsValues } from "../platform/Settings.ts"
import { Projector } from "../read-side/Projector.ts"
import { background, Ending } from "./background.ts"
import { openEdge, sayReady, urlOf, warnings } from "./doors.ts"
import { layerLog, layerReadModels, layerServer, watch, watchLogFile } from "./embedded.ts"
import { measure, measureDisk, measureLag } from "./gauges.ts"
import { listen } from "./listen.ts"
import { controlHandlers } from "./maintenance.ts"
import { startEdge, startRead, startWrite } from "./start.ts"
import { buildWeb } from "./web.ts"

/** Serves until it is interrupted. */
export const serveEmbedded = Effect.fnUntraced(function* (settings: SettingsValues) {
  const paths = yield* openDataFolder(settings.dataDir)
  // The port before the files: a refused start has changed nothing.
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
    const read = yield* startRead
    const write = yield* startWrite(settings)
    const edge = yield* startEdge(settings)
    yield* background("watch", watch)
    yield* background("watch of the log's file", watchLogFile(paths))
    yield* background("gauges", measure([measureDisk(paths.root), measureLag((yield* Projector).lag)]))
    for (const warning of warnings(settings, true)) yield* Effect.logWarning(warning)
    yield* buildWeb
    yield* openEdge(settings, server)
    yield* serveControl(paths.control, yield* controlHandlers)
    yield* sayReady(
      settings,
      `Darda is ready on ${urlOf(settings, port)} (data in ${paths.folder}, AUTH=${settings.auth})`
    )
    const readiness = yield* Readiness
    return yield* Effect.onInterrupt(Ending.await, () =>
      readiness.drain.pipe(Effect.andThen(edge.leave), Effect.andThen(write.leave), Effect.andThen(read.leave))
    )
  }).pipe(Effect.provide(services), Effect.provide(files))
})
