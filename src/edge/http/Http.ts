import type { IncomingMessage, ServerResponse } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpStaticServer from "effect/http/HttpStaticServer"
import * as ByteSize from "effect/ByteSize"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { FRAME_BYTES } from "../../domain/protocol/limits.ts"
import type { Readiness } from "../../platform/Readiness.ts"
import type { Router } from "../../platform/Router.ts"
import type { Queries } from "../../read-side/Queries.ts"
import type { Auth } from "../auth/Auth.ts"
import type { Hub } from "../Hub.ts"
import { answerDefect, layerAnswers } from "./answers.ts"
import { DardaApi } from "./api.ts"
import { layerIdentity } from "./identity.ts"
import { layerOperations } from "./operations.ts"
import { problem, problemResponse } from "./problem.ts"

export interface HttpOptions {
  /** Folder of the built web app; without an index.html a page says how to build it. */
  readonly webRoot: string
  /** Origins whose pages may call `/v1`, besides the server's own. */
  readonly allowedOrigins: ReadonlyArray<string>
  /** Requests of a user a second and at once, and UTF-16 code units of a body. */
  readonly limits: { readonly perSecond: number; readonly burst: number; readonly bodyChars: number }
}

/** What answers requests: a listener for `request` of node's server. */
export type RequestListener = (request: IncomingMessage, response: ServerResponse) => void

const routes = Layer.mergeAll(
  HttpApiBuilder.layer(DardaApi, { openapiPath: "/openapi.json" }).pipe(
    Layer.provide(layerIdentity),
    Layer.provide(layerAnswers)
  ),
  layerOperations
)

/** The listener that answers everything but WebSocket upgrades, until the scope closes. */
export const makeHttp = (
  options: HttpOptions
): Effect.Effect<RequestListener, never, Scope.Scope | Hub | Queries | Router | Auth | Readiness> =>
  Effect.gen(function* () {
    const files = yield* Effect.orDie(HttpStaticServer.make({ root: options.webRoot }))
    const router = yield* HttpRouter.toHttpEffect(routes)
    const notHere = Effect.map(HttpServerRequest, (request) =>
      problemResponse(problem("not_found", `There is nothing at ${request.url.split("?", 1)[0] ?? "/"}.`))
    )
    const app = router.pipe(
      Effect.catchReason("HttpServerError", "RouteNotFound", () => files),
      Effect.catchReason("HttpServerError", "RouteNotFound", () => notHere),
      Effect.catchCause(answerDefect),
      Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(FRAME_BYTES))
    )
    return yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope })
  }).pipe(Effect.provide(NodeHttpServer.layerHttpServices))
