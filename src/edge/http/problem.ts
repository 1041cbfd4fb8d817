import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import type { ErrorCode } from "../../domain/protocol/server-frames.ts"

/** The HTTP status of each of the protocol's codes, and its title. */
const statuses = {
  bad_json: [400, "Bad Request"],
  bad_request: [400, "Bad Request"],
  unknown_op: [405, "Method Not Allowed"],
  unauthorized: [401, "Unauthorized"],
  forbidden: [403, "Forbidden"],
  not_found: [404, "Not Found"],
  conflict: [409, "Conflict"],
  too_large: [413, "Content Too Large"],
  rate_limited: [429, "Too Many Requests"],
  busy: [503, "Service Unavailable"],
  unavailable: [503, "Service Unavailable"],
  internal: [500, "Internal Server Error"]
} as const satisfies Record<ErrorCode, readonly [number, string]>

const codes = Object.keys(statuses) as ReadonlyArray<keyof typeof statuses>

/** Why a request was refused, as RFC 9457 has it. `code` is for programs, `detail` for a person. */
export const Problem = Schema.Struct({
  type: Schema.Literal("about:blank"),
  title: Schema.String,
  status: Schema.Number,
  detail: Schema.String,
  code: Schema.Literals(codes),
  retryAfterMs: Schema.optionalKey(Schema.Number)
}).annotate({ identifier: "Problem" })
export type Problem = typeof Problem.Type

/** A problem; its status follows from its code. */
export const problem = (code: ErrorCode, detail: string, retryAfterMs?: number): Problem => {
  const [status, title] = statuses[code]
  return { type: "about:blank", title, status, detail, code, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
}

/** Seconds for `Retry-After` where a problem that passes does not say how long it takes. */
const RETRY_AFTER_S = 2

/** A problem as an answer, with the headers that go with its status. */
export const problemResponse = (
  refused: Problem,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse => {
  const { retryAfterMs, status } = refused
  const seconds = retryAfterMs === undefined ? (status === 503 ? RETRY_AFTER_S : 0) : Math.max(1, Math.ceil(retryAfterMs / 1000))
  return HttpServerResponse.text(JSON.stringify(refused), {
    status,
    contentType: "application/problem+json",
    headers: {
      ...(seconds === 0 ? {} : { "retry-after": String(seconds) }),
      ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
      ...(status === 413 ? { connection: "close" } : {}),
      ...headers
    }
  })
}
