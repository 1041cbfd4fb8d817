/** The HTTP API as a description: the server is built from it, and so is /openapi.json. */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { UserIdForm } from "../../domain/protocol/forms.ts"
import { Problem } from "./problem.ts"

const problemOf = (status: number) =>
  Problem.pipe(HttpApiSchema.status(status), HttpApiSchema.asJson({ contentType: "application/problem+json" }))

/** Turns every refusal into problem details; all endpoints have it. */
export class Answers extends HttpApiMiddleware.Service<Answers>()("darda/edge/http/Answers", {
  error: [problemOf(400), problemOf(404), problemOf(413), problemOf(500), problemOf(503)]
}) {}

/** Tokens of `AUTH=dev`. */
export class Identity extends HttpApiGroup.make("identity").add(
  HttpApiEndpoint.post("devToken", "/v1/auth/dev", {
    payload: Schema.Struct({ user: UserIdForm }),
    success: Schema.Struct({ token: Schema.String, expiresAt: Schema.Number })
  })
) {}

/** The whole API. */
export class DardaApi extends HttpApi.make("darda")
  .add(Identity)
  .middleware(Answers)
  .annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error" })
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" }) {}
