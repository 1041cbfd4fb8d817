/** What every process answers, whatever its roles: alive, ready, metrics. */
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Schema from "effect/Schema"
import { Readiness } from "../../platform/Readiness.ts"
import { problem } from "./problems.ts"
import { Alive, problemSchema } from "./schemas.ts"

/** The endpoints, as a part of any API. */
export const health = HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("alive", "/healthz", { success: Alive }).annotateMerge(
      OpenApi.annotations({ summary: "Whether the process is alive" })
    ),
    HttpApiEndpoint.get("ready", "/readyz", {
      success: Alive,
      error: [problemSchema(503, "Why it is not")]
    }).annotateMerge(OpenApi.annotations({ summary: "Whether it should be given work" })),
    HttpApiEndpoint.get("metrics", "/metrics", {
      success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
    }).annotateMerge(OpenApi.annotations({ summary: "Metrics in the text format of Prometheus" }))
  )
  .annotate(OpenApi.Description, "For those who run it")

/** The API of a process that serves nothing else. */
export const HealthApi = HttpApi.make("darda-health").add(health)

/** What the endpoints do. */
export const healthHandlers = Effect.map(Readiness, (readiness) => ({
  alive: () => Effect.succeed({ status: "ok" } as const),
  ready: Effect.fnUntraced(function* () {
    const reasons = yield* readiness.reasons
    if (reasons.length === 0) return { status: "ok" } as const
    return problem("unavailable", reasons.map(({ name, reason }) => `${name}: ${reason}`).join("; "))
  }),
  metrics: () => PrometheusMetrics.format()
}))

/** The endpoints of {@link HealthApi}. */
export const layerHealthHandlers = HttpApiBuilder.group(
  HealthApi,
  "health",
  Effect.fnUntraced(function* (handlers) {
    return handlers.handleAll(yield* healthHandlers)
  })
)
