/** HTTP of a process that is no edge: health, readiness, metrics, and the query API where it has the role read. */
import type { IncomingMessage, ServerResponse } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Readiness } from "../../platform/Readiness.ts"
import type { Queries } from "../../read-side/Queries.ts"
import { QueryApi } from "../../read-side/QueryApi.ts"
import { layerQueryApi } from "../../read-side/QueryApiServer.ts"
import type { EventLog } from "../../write-side/EventLog.ts"
import { guard } from "./guard.ts"
import { HealthApi, layerHealthHandlers } from "./health.ts"
import { knownPaths, ROUTES } from "./paths.ts"

type Listener = (request: IncomingMessage, response: ServerResponse) => void

const layerHealth = HttpApiBuilder.layer(HealthApi).pipe(Layer.provide(layerHealthHandlers))

const inOneSpelling = Effect.provideService(HttpRouter.RouterConfig, ROUTES)

/** A listener for `request` that answers health, readiness and metrics. */
export const makeHealthHttp: Effect.Effect<Listener, never, Readiness | Scope.Scope> = Effect.gen(function* () {
  const router = yield* inOneSpelling(HttpRouter.toHttpEffect(layerHealth))
  const app = yield* guard(router, {
    allowedOrigins: [],
    paths: knownPaths(HealthApi),
    otherwise: () => undefined
  })
  return yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope })
}).pipe(Effect.provide(NodeHttpServer.layerHttpServices))

/** A listener for what is asked below {@link QUERY_PREFIX}. */
export const makeQueryHttp = (
  secret: Redacted.Redacted<string>
): Effect.Effect<Listener, never, Queries | EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const router = yield* inOneSpelling(HttpRouter.toHttpEffect(layerQueryApi(secret)))
    const app = yield* guard(router, {
      allowedOrigins: [],
      paths: knownPaths(QueryApi),
      otherwise: () => undefined
    })
    return yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope })
  }).pipe(Effect.provide(NodeHttpServer.layerHttpServices))
