/** `darda serve`: all roles in one process on the embedded engines, or any of them on those of many processes. */
import * as Effect from "effect/Effect"
import { layerLogging } from "../platform/Logging.ts"
import { engineAddresses, Settings } from "../platform/Settings.ts"
import { makeTracing, Tracing } from "../platform/Tracing.ts"
import { checkAuth } from "./identity.ts"
import { checkRoles, checkTlsFiles, type Role } from "./roles.ts"
import { stopWithin } from "./run.ts"

/** Serves until it is interrupted, and then lets everyone leave in peace. Fails when something is in the way of a start. */
export const serve = (roles: ReadonlySet<Role>) =>
  Effect.gen(function* () {
    const settings = yield* Settings
    yield* stopWithin(settings.drainSeconds)
    const engines = engineAddresses(settings)
    // What can be in the way comes first: a refused start has changed nothing.
    yield* checkRoles(roles, engines, settings.readUrl)
    if (roles.has("edge")) yield* checkAuth(settings)
    const tracing = yield* makeTracing(settings, [...roles].join("-"))
    if (engines === undefined) {
      const { serveEmbedded } = yield* Effect.promise(() => import("./serveEmbedded.ts"))
      return yield* Effect.provideService(serveEmbedded(settings), Tracing, tracing)
    }
    yield* checkTlsFiles(settings, engines, roles)
    const { serveCluster } = yield* Effect.promise(() => import("./serveCluster.ts"))
    return yield* Effect.provideService(serveCluster(settings, engines, roles), Tracing, tracing)
  }).pipe(Effect.scoped, Effect.provide(layerLogging))
