import * as Effect from "effect/Effect"
import type * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"

/**
 * The page brings its scripts and styles in itself, so it needs 'unsafe-inline', unlike the app. It still cannot load anything
 * from elsewhere or send anything there.
 */
const DOCS_POLICY =
  "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src 'self' data: blob:; " +
  "font-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The page at `/docs`. It is 3 MB of script, so it is loaded when somebody first asks for it. */
export const layerDocs = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
) =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const page = yield* Effect.cached(
        Effect.scoped(
          Effect.gen(function* () {
            const { layer } = yield* Effect.promise(() => import("effect/http-api/HttpApiScalar"))
            return yield* HttpRouter.toHttpEffect(
              layer(api, { path: "/docs", scalar: { withDefaultFonts: false, favicon: "/favicon.svg" } })
            )
          })
        )
      )
      yield* router.add(
        "GET",
        "/docs",
        Effect.gen(function* () {
          const respond = yield* page
          return HttpServerResponse.setHeader(yield* Effect.orDie(respond), "content-security-policy", DOCS_POLICY)
        })
      )
    })
  )
