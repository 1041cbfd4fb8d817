/** Some or all roles on the engines of many processes. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Edge, layerHub, newId } from "../edge/Edge.ts"
import { Readiness } from "../platform/Readiness.ts"
import type { EngineAddresses, SettingsValues } from "../platform/Settings.ts"
import { Projector } from "../read-side/Projector.ts"
import { layerHttp as layerQueriesHttp } from "../read-side/QueriesHttp.ts"
import { layer as layerQueries } from "../read-side/QueriesLive.ts"
import { LogHeads } from "../write-side/EventLog.ts"
import { Relay } from "../write-side/Relay.ts"
import { background, Ending } from "./background.ts"
import { clusterSecret, layerCommandBus, layerEventBus, layerLog, layerReadModels, layerRouter } from "./cluster.ts"
import { openEdge, openHealth, openStarting, makeQueryDoor, sayReady, urlOf, warnings } from "./doors.ts"
import { measureEngines } from "./engineGauges.ts"
import { measure, measureLag } from "./gauges.ts"
import { layerAuth } from "./identity.ts"
import { listen } from "./listen.ts"
import type { Role } from "./roles.ts"
import { type Started, startEdge, startRead, startWrite } from "./start.ts"
import { buildWeb } from "./web.ts"

/** Serves until it is interrupted. */
export const serveCluster = Effect.fnUntraced(function* (
  settings: SettingsValues,
  engines: EngineAddresses,
  roles: ReadonlySet<Role>
) {
  const { port, server } = yield* listen(settings)
  const scope = yield* Effect.scope
  const memo = yield* Layer.makeMemoMap
  /** What several roles of this process need is built once. */
  const build = <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.buildWithMemoMap(layer, memo, scope)

  const common = Layer.merge(Ending.layer, Readiness.layer)
  const context = yield* build(common)
  yield* Effect.provide(openStarting(server), context)
  const starting = yield* Scope.fork(scope)
  yield* Context.get(context, Readiness)
    .register("start", Effect.succeed("this process is starting; its log says what it waits for"))
    .pipe(Scope.provide(starting))
  const secret = yield* clusterSecret(settings, engines)
  const log = layerLog(settings, engines)
  const readsLog = roles.has("write") || roles.has("read")
  const heads = readsLog
    ? LogHeads.layer.pipe(Layer.provide(log))
    : layerQueriesHttp({ urls: settings.readUrl, secret })
  const identity = yield* Effect.provide(LogHeads, yield* build(heads))

  // They tell readiness how their engines are.
  const router = layerRouter(engines, identity.id, newId(), roles.has("edge")).pipe(Layer.provide(common))
  const commands = layerCommandBus(engines, identity, newId()).pipe(Layer.provide(common))
  const events = layerEventBus(engines, identity).pipe(Layer.provide(common))
  const models = layerReadModels(engines).pipe(Layer.provideMerge(log))
  const local = layerQueries.pipe(Layer.provide(models))

  const started: Array<Started> = []
  const gauges: Array<Parameters<typeof measure>[0][number]> = []
  if (roles.has("read")) {
    const services = yield* build(Projector.layer.pipe(Layer.provideMerge(Layer.mergeAll(models, events, common))))
    started.push(yield* Effect.provide(startRead, services))
    gauges.push(measureLag((yield* Effect.provide(Projector, services)).lag))
  }
  if (roles.has("write")) {
    const services = yield* build(
      Relay.layer.pipe(Layer.provideMerge(Layer.mergeAll(log, commands, events, router, common)))
    )
    started.push(yield* Effect.provide(startWrite(settings), services))
  }
  const queries = roles.has("read")
    ? yield* makeQueryDoor(server, secret).pipe(Effect.provide(yield* build(Layer.merge(local, log))))
    : undefined
  // The last to leave.
  if (queries !== undefined) started.unshift(queries)
  if (roles.has("edge")) {
    const asked = roles.has("read") ? Layer.merge(local, heads) : layerQueriesHttp({ urls: settings.readUrl, secret })
    const limits = {
      perSecond: settings.limitPerSecond,
      burst: settings.limitBurst,
      inFlight: settings.limitInFlight,
      bodyChars: settings.limitBodyChars,
      userConnections: settings.limitUserConnections
    }
    const edge = Edge.layer(limits, settings.liveHedgeMs)
    const services = yield* build(
      layerHub.pipe(
        Layer.provideMerge(edge),
        Layer.provideMerge(layerAuth(settings, secret)),
        Layer.provideMerge(Layer.mergeAll(asked, commands, router, common))
      )
    )
    yield* buildWeb
    started.push(yield* Effect.provide(startEdge(settings), services))
    yield* Effect.provide(openEdge(settings, server, queries?.listener), services)
  } else {
    yield* Effect.provide(openHealth(server, queries?.listener), context)
  }
  return yield* Effect.gen(function* () {
    yield* Scope.close(starting, Exit.void)
    yield* background("gauges", measure(gauges))
    // One role, whose processes have a connection to both: more would tell the same.
    if (roles.has("write")) yield* background("gauges of engines", measureEngines(engines))
    for (const warning of warnings(settings, roles.has("edge"))) yield* Effect.logWarning(warning)
    const what = `roles ${[...roles].join(", ")}, log ${identity.id}, AUTH=${settings.auth}`
    yield* sayReady(settings, `Darda is ready on ${urlOf(settings, port)} (${what})`)
    const readiness = yield* Readiness
    // Connections first, which still want answers; then the partitions, then what only reads.
    const leaveAll = Effect.forEach(started.toReversed(), ({ leave }) => leave, { discard: true })
    return yield* Effect.onInterrupt(Ending.await, () => Effect.andThen(readiness.drain, leaveAll))
  }).pipe(Effect.provide(context))
})
