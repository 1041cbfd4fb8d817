import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { HttpApiSchemaError } from "effect/http-api/HttpApiError"
import * as HttpServerRequestModule from "effect/http/HttpServerRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { explainIssue } from "../../domain/protocol/explain.ts"
import { FRAME_BYTES } from "../../domain/protocol/limits.ts"
import { Answers } from "./api.ts"
import { Problem, problem, problemResponse } from "./problem.ts"

const isProblem = Schema.is(Problem)

/** What an endpoint says of one part of a request. */
interface Endpoint {
  readonly params: unknown
  readonly query: unknown
  readonly payload: ReadonlyMap<string, { readonly schemas: ReadonlyArray<unknown> }>
}

const fieldsOf = (schema: unknown): ReadonlyArray<string> =>
  typeof schema === "function" && "fields" in schema ? Object.keys(schema.fields as object) : []

/** The sentence about a part of a request that breaks a form rule. */
const explain = Effect.fnUntraced(function* (error: HttpApiSchemaError, endpoint: Endpoint) {
  const { issue } = error.cause
  switch (error.kind) {
    case "Params":
      return problem("bad_request", explainIssue("the path", fieldsOf(endpoint.params), (yield* HttpRouter.RouteContext).params, issue))
    case "Query": {
      const input = yield* HttpServerRequestModule.ParsedSearchParams
      return problem("bad_request", explainIssue("the query", fieldsOf(endpoint.query), input, issue))
    }
    case "Payload": {
      const { text } = yield* HttpServerRequestModule.HttpServerRequest
      const body = yield* Effect.result(Effect.flatMap(text, (text) => Effect.try({ try: () => JSON.parse(text) as unknown, catch: () => "bad" })))
      if (body._tag === "Failure") return problem("bad_json", "The body is not JSON; send one JSON object in UTF-8.")
      const [payload] = [...endpoint.payload.values()].flatMap(({ schemas }) => schemas)
      return problem("bad_request", explainIssue("the body", fieldsOf(payload), body.success, issue))
    }
    default:
      yield* Effect.logError("An answer does not fit its description", error.cause)
      return FAILED
  }
})

/** What a person reads when the server is at fault. */
export const FAILED = problem("internal", "The server failed to answer this; it has been logged.")

/** The body is larger than a frame may be. */
export const TOO_LARGE = problem("too_large", `A body holds at most ${FRAME_BYTES} bytes.`)

const isBodyFailure = (defect: unknown): boolean =>
  typeof defect === "object" && defect !== null && "reason" in defect &&
  (defect.reason as { readonly _tag?: unknown } | null)?._tag === "RequestParseError"

/** A defect as an answer: a body that is too large or broken off, or else a mistake of ours, which is logged. */
export const answerDefect = (cause: Cause.Cause<unknown>): Effect.Effect<HttpServerResponse> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  if (isBodyFailure(Cause.squash(cause))) return Effect.succeed(problemResponse(TOO_LARGE))
  return Effect.as(Effect.logError("A request failed", cause), problemResponse(FAILED))
}

/** Every way to fail, as problem details. */
export const layerAnswers: Layer.Layer<Answers> = Layer.succeed(Answers, (respond, { endpoint }) =>
  respond.pipe(
    Effect.catch((error) =>
      isProblem(error)
        ? Effect.succeed(problemResponse(error))
        : HttpApiSchemaError.is(error)
          ? Effect.map(explain(error, endpoint), (found) => problemResponse(found))
          : Effect.die(error)
    ),
    Effect.catchCause(answerDefect)
  )
)
