/** Queries asked of read processes over HTTP, for an edge that has no engines of its own to read from. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import { isHttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { LogHeads, LogUnavailable } from "../write-side/EventLog.ts"
import { Queries, QueryRefused } from "./Queries.ts"
import { clusterToken, type LogIdentity, NotOfThisCluster, QueryApi } from "./QueryApi.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { makeQuietLog } from "../platform/quietLog.ts"

/** How long one read process may take: longer than it waits itself for read models that are behind and then asks the log. */
const ANSWER_WITHIN = "4 seconds"
/** Failures in a row after which a read process is not asked, and for how long, before one request tries it again. */
const TRIP_AFTER = 5
const OPEN_FOR = "1 second"
/**
 * A connection that ends before the answer is no sign of a process that is not well: one that dies takes what it was asked with it, and behind one address, as of a
 * Service, there are others. So it is asked again, soon, by another connection; twice, since that one may be about to end as well.
 */
const CUT_AGAIN = { times: 2, schedule: Schedule.spaced("10 millis"), while: (error: unknown) => isCut(error) }
/** Between two tries to learn at the start which log this is. */
const START_AGAIN = "500 millis"

export interface QueriesHttpOptions {
  /** Read processes, asked in turn; one that does not answer is passed over for another. */
  readonly urls: ReadonlyArray<string>
  readonly secret: Redacted.Redacted<string>
}

/** No read process answered. */
class NoAnswer extends Schema.TaggedError<NoAnswer>()("NoAnswer", { reason: Schema.String }) {}

/** {@link Queries} and {@link LogHeads} of the cluster. Waits at the start until a read process has said which log it is. */
export const layerHttp = (options: QueriesHttpOptions): Layer.Layer<Queries | LogHeads> =>
  Layer.effectContext(make(options)).pipe(
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(CircuitBreaker.layerStoreMemory())
  )

const make = Effect.fnUntraced(function* ({ secret, urls }: QueriesHttpOptions) {
  const token = clusterToken(secret)
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(TRIP_AFTER),
    openDuration: OPEN_FOR
  })
  const metrics = yield* metricsWriter
  metrics.add("breakersOpen", 0)
  yield* Stream.runForEach(breaker.transitions, ({ from, to }) =>
    Effect.sync(() => metrics.add("breakersOpen", from === "Closed" ? 1 : to === "Closed" ? -1 : 0))
  ).pipe(Effect.forkScoped({ startImmediately: true }))
  const clients = yield* Effect.forEach(urls, (url) =>
    Effect.map(
      HttpApiClient.make(QueryApi, {
        baseUrl: url,
        transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(token))
      }),
      (client) => ({ url: new URL(url).host, ask: client.queries })
    )
  )
  type Client = (typeof clients)[number]["ask"]
  let turn = 0

  /** Asks one after the other until one answers; a refusal is an answer. Queries change nothing, so asking twice is safe. */
  const ask = <A, E>(question: (client: Client) => Effect.Effect<A, E>): Effect.Effect<A, QueryRefused | NoAnswer> => {
    const first = turn++
    const from = (tried: number): Effect.Effect<A, QueryRefused | NoAnswer> => {
      const { ask: client, url } = clients[(first + tried) % clients.length]!
      return question(client).pipe(
        Effect.retry(CUT_AGAIN),
        Effect.timeout(ANSWER_WITHIN),
        breaker.execute({ key: url, classify: (exit) => outcomeOf(exit) }),
        Effect.catch((error) => {
          if (error instanceof QueryRefused) return Effect.fail(error)
          if (tried + 1 < clients.length) {
            metrics.update("queryRetries", 1)
            return from(tried + 1)
          }
          return Effect.fail(new NoAnswer({ reason: `${url}: ${reasonOf(error)}` }))
        })
      )
    }
    return Effect.suspend(() => from(0))
  }
  const query = <A, E>(question: (client: Client) => Effect.Effect<A, E>): Effect.Effect<A, QueryRefused> =>
    Effect.catchTag(ask(question), "NoAnswer", ({ reason }) =>
      Effect.andThen(
        quiet.warn("Asking the read processes", reason),
        Effect.fail(
          new QueryRefused({
            code: "unavailable",
            message: "No read process answers at the moment; try again in a few seconds."
          })
        )
      )
    )
  const quiet = makeQuietLog()

  const identity: LogIdentity = yield* ask((client) => client.log()).pipe(
    Effect.tapError((error) =>
      quiet.warn("Learning which log this is", error._tag === "NoAnswer" ? error.reason : error.message)
    ),
    Effect.retry(Schedule.spaced(START_AGAIN)),
    Effect.orDie
  )

  const queries = Queries.of({
    history: (user, request, atLeast) => query((client) => client.history({ payload: { user, request, atLeast } })),
    sync: (user, request, atLeast) => query((client) => client.sync({ payload: { user, request, atLeast } })),
    convs: (user, request, atLeast) => query((client) => client.convs({ payload: { user, request, atLeast } })),
    roster: (user, request, atLeast) => query((client) => client.roster({ payload: { user, request, atLeast } })),
    missed: ({ since, ...request }) =>
      query((client) => client.missed({ payload: { ...request, ...(since === undefined ? {} : { since }) } })),
    pull: (conv, after, limit) => query((client) => client.pull({ payload: { conv, after, limit } })),
    audience: (user, conv, atLeast) =>
      Effect.map(
        query((client) => client.audience({ payload: { user, conv, atLeast } })),
        ({ members }) => members ?? undefined
      ),
    bigConversations: (user, atLeast) => query((client) => client.bigConversations({ payload: { user, atLeast } })),
    standing: (conv, users, atLeast) =>
      query((client) => client.standing({ payload: { conv, users: [...users], atLeast } })),
    receipts: (since, until) => query((client) => client.receipts({ payload: { since, until } })),
    acquainted: (user, users, atLeast) =>
      query((client) => client.acquainted({ payload: { user, users: [...users], atLeast } }))
  })
  const heads = Effect.mapError(
    query((client) => client.heads()),
    (error) => new LogUnavailable({ operation: "heads", reason: error.message, cause: error })
  )
  return Context.make(Queries, queries).pipe(Context.add(LogHeads, { ...identity, heads }))
})

const isCut = (error: unknown): boolean => isHttpClientError(error) && error.reason._tag === "TransportError"

/** A refusal is an answer of a process that is well. */
const outcomeOf = (exit: Exit.Exit<unknown, unknown>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const failed = exit.cause.reasons.find(Cause.isFailReason)
  return failed?.error instanceof QueryRefused ? CircuitBreaker.success : CircuitBreaker.failure()
}

const reasonOf = (error: unknown): string => {
  if (error instanceof NotOfThisCluster) return error.message
  if (Cause.isTimeoutError(error)) return `no answer within ${ANSWER_WITHIN}`
  return error instanceof Error ? error.message : String(error)
}
