import type { IncomingMessage, ServerResponse } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Readiness } from "../../platform/Readiness.ts"
import type { Router } from "../../platform/Router.ts"
import type { Queries } from "../../read-side/Queries.ts"
import { Auth } from "../auth/Auth.ts"
import type { Hub } from "../Hub.ts"
import { layerLegacyHttp } from "../legacy/http.ts"
import { LEGACY_MESSAGES, LEGACY_SOCKET } from "../legacy/messages.ts"
import { Api, DEV_PATH } from "./api.ts"
import { layerDocs } from "./docs.ts"
import { guard, type KnownPath } from "./guard.ts"
import { knownPaths, ROUTES } from "./paths.ts"
import { layerHandlers } from "./handlers.ts"
import { layerAuthorization, layerFormRules } from "./middleware.ts"
import { problem } from "./problems.ts"
import { UserLimits } from "./UserLimits.ts"
import { WebApp } from "./WebApp.ts"

export interface HttpOptions {
  readonly limits: {
    /** Requests a second of one user, and how many of them at once. */
    readonly perSecond: number
    readonly burst: number
    /** Characters (Unicode code points) of a message's body. */
    readonly bodyChars: number
  }
  /** Origins whose pages may use `/v1`, besides the server's own. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** Where the built web app is, or will be. */
  readonly webRoot: string
}

const WEB_SOCKET = "/v1/ws"

/** Who asks for the WebSocket without saying that they want one. */
const layerUpgradeRequired = HttpRouter.add(
  "GET",
  WEB_SOCKET,
  problem("bad_request", "This is a WebSocket: connect to it with the subprotocol darda.v1.", {
    status: 426,
    headers: { upgrade: "websocket", connection: "upgrade" }
  })
)

const pathsOf = (isDev: boolean): ReadonlyArray<KnownPath> =>
  knownPaths(
    Api,
    ["/openapi.json", "/docs", WEB_SOCKET, ...(isDev ? [LEGACY_MESSAGES, LEGACY_SOCKET] : [])],
    isDev ? [] : [DEV_PATH]
  )

/** Everything over HTTP but WebSockets, as a listener for `request` of a node server. Requests end with the scope. */
export const makeHttp = (
  options: HttpOptions
): Effect.Effect<
  (request: IncomingMessage, response: ServerResponse) => void,
  never,
  Auth | Hub | Queries | Router | Readiness | Scope.Scope
> =>
  Effect.gen(function* () {
    const isDev = (yield* Auth).mode === "dev"
    const { limits } = options
    const api = Api.annotate(OpenApi.Transform, (spec) => {
      if (!isDev) delete (spec["paths"] as Record<string, unknown>)[DEV_PATH]
      return spec
    })
    const routes = Layer.mergeAll(
      HttpApiBuilder.layer(api, { openapiPath: "/openapi.json" }).pipe(
        Layer.provide(layerHandlers(limits.bodyChars)),
        Layer.provide([
          layerAuthorization(new UserLimits(limits.perSecond, limits.burst), limits.perSecond),
          layerFormRules
        ])
      ),
      layerDocs(api),
      layerUpgradeRequired,
      isDev ? layerLegacyHttp : Layer.empty
    )
    const router = yield* Effect.provideService(HttpRouter.toHttpEffect(routes), HttpRouter.RouterConfig, ROUTES)
    const web = new WebApp(options.webRoot)
    const app = yield* guard(router, {
      allowedOrigins: options.allowedOrigins,
      paths: pathsOf(isDev),
      otherwise: (request, path) => web.respond(request, path)
    })
    return yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope })
  }).pipe(Effect.provide(NodeHttpServer.layerHttpServices))
