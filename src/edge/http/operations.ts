import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { Readiness } from "../../platform/Readiness.ts"
import { problem, problemResponse } from "./problem.ts"

const healthz = HttpRouter.add("GET", "/healthz", HttpServerResponse.jsonUnsafe({ status: "ok" }))

const readyz = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const readiness = yield* Readiness
    yield* router.add(
      "GET",
      "/readyz",
      Effect.map(readiness.reasons, (reasons) =>
        reasons.length === 0
          ? HttpServerResponse.jsonUnsafe({ status: "ready" })
          : problemResponse(problem("unavailable", reasons.join(" ")))
      )
    )
  })
)

/** What those who run the server ask for. */
export const layerOperations = Layer.mergeAll(healthz, readyz)
