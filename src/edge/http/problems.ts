import { STATUS_CODES } from "node:http"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { ErrorCode } from "../../domain/protocol/server-frames.ts"

/** The media type of RFC 9457. */
export const PROBLEM_TYPE = "application/problem+json"

/** The HTTP status of each code of the protocol. */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  bad_json: 400,
  bad_request: 400,
  unknown_op: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  rate_limited: 429,
  busy: 503,
  unavailable: 503,
  internal: 500
}

/** Milliseconds after which a refusal may be over, where nothing better is known. */
const RETRY_AFTER_MS: Partial<Readonly<Record<ErrorCode, number>>> = { busy: 1_000, unavailable: 1_000 }

/** A refusal over HTTP, as RFC 9457 has it, with the protocol's code. `detail` is for a person. */
export interface Problem {
  readonly type: "about:blank"
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
  readonly retryAfterMs?: number
}

/** What differs from what the code stands for. */
export interface ProblemOptions {
  /** Another status than that of the code. */
  readonly status?: number
  readonly retryAfterMs?: number | undefined
  readonly headers?: Readonly<Record<string, string>>
}

/** The body of a refusal. */
export const problemOf = (code: ErrorCode, detail: string, options: ProblemOptions = {}): Problem => {
  const status = options.status ?? STATUS[code]
  const retryAfterMs = options.retryAfterMs ?? RETRY_AFTER_MS[code]
  return {
    type: "about:blank",
    title: STATUS_CODES[status] ?? "Error",
    status,
    detail,
    code,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs })
  }
}

/** A refusal as a response, with `Retry-After` (whole seconds, rounded up) where a retry makes sense. */
export const problem = (
  code: ErrorCode,
  detail: string,
  options: ProblemOptions = {}
): HttpServerResponse.HttpServerResponse => {
  const body = problemOf(code, detail, options)
  const { retryAfterMs } = body
  return HttpServerResponse.jsonUnsafe(body, {
    status: body.status,
    contentType: PROBLEM_TYPE,
    headers: {
      ...(retryAfterMs === undefined ? {} : { "retry-after": String(Math.ceil(retryAfterMs / 1000)) }),
      ...options.headers
    }
  })
}
