import { isUtf8 } from "node:buffer"
import * as ByteSize from "effect/ByteSize"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { HttpApiSchemaError } from "effect/http-api/HttpApiError"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import { isHttpServerError } from "effect/http/HttpServerError"
import { HttpServerRequest, ParsedSearchParams } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SchemaAST from "effect/SchemaAST"
import { explainIssue, show } from "../../domain/protocol/explain.ts"
import { FRAME_BYTES } from "../../domain/protocol/limits.ts"
import { Auth, type Identity } from "../auth/Auth.ts"
import { problem } from "./problems.ts"
import { problemSchema } from "./schemas.ts"
import type { UserLimits } from "./UserLimits.ts"

/** Bytes of a request's body: as many as a frame holds, so that what one way takes the other does too. */
const BODY_BYTES = FRAME_BYTES
const maxBody = ByteSize.fromInputUnsafe(BODY_BYTES)
const JSON_TYPE = /^application\/json\s*(?:;|$)/i

/** Whose request this is. */
export class CurrentUser extends Context.Service<CurrentUser, Identity>()("darda/edge/http/CurrentUser") {}

/** A bearer token, and this user's rate. Judged before anything else of the request is looked at. */
export class Authorization extends HttpApiMiddleware.Service<Authorization, { provides: CurrentUser }>()(
  "darda/edge/http/Authorization",
  {
    security: { bearer: HttpApiSecurity.bearer },
    error: [
      problemSchema(401, "No token, or one that is not accepted"),
      problemSchema(429, "More requests than your limit")
    ]
  }
) {}

/** The rules of form, which are judged before access: parameters and bodies, and that nothing is given that is not listed. */
export class FormRules extends HttpApiMiddleware.Service<FormRules>()("darda/edge/http/FormRules", {
  error: [problemSchema(400, "What is wrong with the request")]
}) {}

const unauthorized = (detail: string, challenge: string): HttpServerResponse =>
  problem("unauthorized", detail, { headers: { "www-authenticate": challenge } })

/** Bearer tokens by {@link Auth}, and the rate of each user by `limits`. */
export const layerAuthorization = (limits: UserLimits, perSecond: number): Layer.Layer<Authorization, never, Auth> =>
  Layer.effect(
    Authorization,
    Effect.gen(function* () {
      const auth = yield* Auth
      return Authorization.of({
        bearer: Effect.fnUntraced(function* (respond, { credential }) {
          const token = Redacted.value(credential)
          if (token === "") {
            return unauthorized("Send your token as Authorization: Bearer <token>.", 'Bearer realm="darda"')
          }
          const identity = yield* Effect.result(auth.verify(token))
          if (identity._tag === "Failure") {
            return unauthorized(identity.failure.message, 'Bearer realm="darda", error="invalid_token"')
          }
          const wait = limits.take(identity.success.user, yield* Clock.currentTimeMillis)
          if (wait > 0) {
            const detail = `More than ${perSecond} requests a second; wait ${wait} ms.`
            return problem("rate_limited", detail, { retryAfterMs: wait })
          }
          return yield* Effect.provideService(respond, CurrentUser, identity.success)
        })
      })
    })
  )

/** What is wrong with a body before its form can be judged; it is kept in the request for who reads it next. */
const refuseBody = Effect.fnUntraced(function* (
  payload: boolean
): Effect.fn.Return<HttpServerResponse | undefined, never, HttpServerRequest> {
  const request = yield* HttpServerRequest
  const tooLarge = () => problem("too_large", `The body has more than ${BODY_BYTES} bytes.`)
  if (Number(request.headers["content-length"] ?? 0) > BODY_BYTES) return tooLarge()
  const type = request.headers["content-type"]
  const read = yield* Effect.result(
    Effect.provideService(request.arrayBuffer, HttpIncomingMessage.MaxBodySize, maxBody)
  )
  if (read._tag === "Failure") {
    const { failure } = read
    const overflow =
      isHttpServerError(failure) && "reason" in failure.reason && failure.reason.reason === "BodyTooLarge"
    return overflow ? tooLarge() : problem("bad_request", "The body could not be read to its end.")
  }
  const bytes = new Uint8Array(read.success)
  if (bytes.length === 0) {
    return payload ? problem("bad_request", "The body is missing: send a JSON object.") : undefined
  }
  if (type !== undefined && !JSON_TYPE.test(type)) {
    return problem("bad_request", "The body must be JSON: send Content-Type: application/json.", { status: 415 })
  }
  if (!isUtf8(bytes)) return problem("bad_json", "The body is not UTF-8.")
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return problem("bad_json", "The body is not JSON.")
  }
  if (payload) return undefined
  const empty = typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0
  return empty ? undefined : problem("bad_request", "This request has no fields: send no body, or {}.")
})

const explainSchemaError = Effect.fnUntraced(function* (
  error: HttpApiSchemaError,
  names: Readonly<Record<"Params" | "Query" | "Payload", ReadonlyArray<string>>>
): Effect.fn.Return<HttpServerResponse, never, HttpServerRequest | HttpRouter.RouteContext | ParsedSearchParams> {
  const { issue } = error.cause
  switch (error.kind) {
    case "Params":
      return problem(
        "bad_request",
        explainIssue("the path", names.Params, (yield* HttpRouter.RouteContext).params, issue)
      )
    case "Query":
      return problem("bad_request", explainIssue("the query", names.Query, yield* ParsedSearchParams, issue))
    case "Payload": {
      const text = yield* Effect.orDie((yield* HttpServerRequest).text)
      return problem("bad_request", explainIssue("the body", names.Payload, JSON.parse(text), issue))
    }
    default:
      return yield* Effect.die(error)
  }
})

/** By the syntax tree, because a schema that an endpoint has made its own has no `fields` any more. */
const fieldsOf = (schema: { readonly ast: SchemaAST.AST } | undefined): ReadonlyArray<string> =>
  schema !== undefined && SchemaAST.isObjects(schema.ast)
    ? schema.ast.propertySignatures.map(({ name }) => String(name))
    : []

/** What is wrong with the query of an endpoint that has no parameters. */
const refuseQuery = Effect.map(ParsedSearchParams, (params) => {
  const [name] = Object.keys(params)
  return name === undefined ? undefined : problem("bad_request", `${show(name)}: this path has no parameters.`)
})

/** The rules of form as responses. */
export const layerFormRules: Layer.Layer<FormRules> = Layer.succeed(
  FormRules,
  Effect.fnUntraced(function* (respond, { endpoint }) {
    if (endpoint.query === undefined) {
      const refused = yield* refuseQuery
      if (refused !== undefined) return refused
    }
    if (endpoint.method === "POST") {
      const refused = yield* refuseBody(endpoint.payload.size > 0)
      if (refused !== undefined) return refused
    }
    const payload = [...endpoint.payload.values()].flatMap(({ schemas }) => schemas.flatMap(fieldsOf))
    const names = { Params: fieldsOf(endpoint.params), Query: fieldsOf(endpoint.query), Payload: payload }
    return yield* Effect.catch(respond, (error) =>
      HttpApiSchemaError.is(error) ? explainSchemaError(error, names) : Effect.fail(error)
    )
  })
)
