import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { type HttpServerError, isHttpServerError } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import { metricsOfHttp } from "./metrics.ts"
import { problem } from "./problems.ts"

/** A path that is served, and its methods. */
export interface KnownPath {
  readonly pattern: RegExp
  readonly methods: ReadonlyArray<string>
}

export interface GuardOptions {
  /** Origins whose pages may use `/v1`, besides the server's own. */
  readonly allowedOrigins: ReadonlyArray<string>
  readonly paths: ReadonlyArray<KnownPath>
  /** Answers what no route does; undefined when it does not either. */
  readonly otherwise: (request: HttpServerRequest, path: string) => HttpServerResponse.HttpServerResponse | undefined
}

type App<E> = Effect.Effect<HttpServerResponse.HttpServerResponse, E, HttpServerRequest | Scope.Scope>

/** What the app's own pages may load: nothing from anywhere else, and nobody may frame them. */
const APP_POLICY =
  "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const SECURITY: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin"
}

/** The path of a request target, without its query. */
export const pathOf = (url: string): string => {
  const end = url.search(/[?#]/)
  return end === -1 ? url : url.slice(0, end)
}

const isV1 = (path: string): boolean => path.startsWith("/v1/")
const isLegacy = (path: string): boolean => path.startsWith("/api/v1/")

/** The headers that let pages of other origins read the answer; undefined when they may not. */
const corsHeaders = (
  path: string,
  origin: string | undefined,
  allowed: ReadonlyArray<string>
): Readonly<Record<string, string>> | undefined => {
  // Darda-chat's page is opened from a file, which has no origin that could be listed.
  if (isLegacy(path)) return { "access-control-allow-origin": "*" }
  if (origin === undefined || !isV1(path) || !allowed.includes(origin)) return undefined
  return { "access-control-allow-origin": origin, "access-control-expose-headers": "Retry-After, WWW-Authenticate" }
}

const preflight = (path: string, origin: string, cors: Readonly<Record<string, string>> | undefined) =>
  cors === undefined
    ? problem("forbidden", `The origin ${origin} may not use ${path}; add it to ALLOWED_ORIGINS.`)
    : HttpServerResponse.empty({
        status: 204,
        headers: {
          "access-control-allow-methods": "GET, HEAD, POST",
          "access-control-allow-headers": "Authorization, Content-Type",
          "access-control-max-age": "600"
        }
      })

const notServed = ({ otherwise, paths }: GuardOptions, request: HttpServerRequest, path: string) => {
  const isRead = request.method === "GET" || request.method === "HEAD"
  const found = isRead ? otherwise(request, path) : undefined
  if (found !== undefined) return found
  try {
    decodeURIComponent(path)
  } catch {
    return problem("bad_request", "The path is not well encoded: a % stands before two hexadecimal digits.")
  }
  const methods =
    paths.find(({ pattern }) => pattern.test(path))?.methods ?? (path === "/" && !isRead ? ["GET"] : undefined)
  if (methods === undefined) return problem("not_found", "There is nothing at this path; /docs shows what there is.")
  const allow = methods.includes("GET") ? [...methods, "HEAD"] : methods
  return problem("bad_request", `${request.method} is not served here; allowed: ${allow.join(", ")}.`, {
    status: 405,
    headers: { allow: allow.join(", ") }
  })
}

const isNotFound = (error: unknown): error is HttpServerError =>
  isHttpServerError(error) && error.reason._tag === "RouteNotFound"

/**
 * What holds for every request: the answer to what no route serves, refusals as problem details whatever happens, who may read from
 * another origin, security headers, and the count of requests.
 */
export const guard = <E>(app: App<E>, options: GuardOptions): Effect.Effect<App<E>> =>
  Effect.map(metricsOfHttp, (count) =>
    Effect.gen(function* () {
      const request = yield* HttpServerRequest
      const startedAt = performance.now()
      const path = pathOf(request.url)
      const { origin } = request.headers
      const cors = corsHeaders(path, origin, options.allowedOrigins)
      const asks = request.method === "OPTIONS" && origin !== undefined && (isV1(path) || isLegacy(path))
      const respond: App<E> = asks
        ? Effect.succeed(preflight(path, origin, cors))
        : Effect.catchCause(app, (cause) => {
            if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
            const failed = cause.reasons.find(Cause.isFailReason)
            if (failed !== undefined && isNotFound(failed.error)) {
              return Effect.sync(() => notServed(options, request, path))
            }
            return Effect.as(
              Effect.logError(`A request failed: ${request.method} ${path}`, cause),
              problem("internal", "The server failed to answer this; it has been logged.")
            )
          })
      const response = yield* respond
      count(request.method, response.status, performance.now() - startedAt)
      return HttpServerResponse.setHeaders(response, {
        ...SECURITY,
        "content-security-policy": APP_POLICY,
        ...(isV1(path) ? { "cache-control": "no-store", vary: "Origin" } : {}),
        ...cors,
        ...response.headers
      })
    })
  )
