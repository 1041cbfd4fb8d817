/** The query API as a read process serves it. */
import { timingSafeEqual } from "node:crypto"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { EventLog } from "../write-side/EventLog.ts"
import { Queries, QueryRefused } from "./Queries.ts"
import { clusterToken, NotOfThisCluster, OfThisCluster, QueryApi } from "./QueryApi.ts"

const layerOfThisCluster = (secret: Redacted.Redacted<string>): Layer.Layer<OfThisCluster> => {
  const expected = Buffer.from(Redacted.value(clusterToken(secret)))
  const knows = (credential: string): boolean => {
    const given = Buffer.from(credential)
    return given.length === expected.length && timingSafeEqual(given, expected)
  }
  return Layer.succeed(
    OfThisCluster,
    OfThisCluster.of({
      bearer: (respond, { credential }) =>
        knows(Redacted.value(credential)) ? respond : Effect.fail(new NotOfThisCluster())
    })
  )
}

/** Its routes. Whoever asks must know the cluster's secret; what they may read is judged by {@link Queries}, for the user they name. */
export const layerQueryApi = (secret: Redacted.Redacted<string>) =>
  HttpApiBuilder.layer(QueryApi).pipe(
    Layer.provide(
      HttpApiBuilder.group(
        QueryApi,
        "queries",
        Effect.fnUntraced(function* (handlers) {
          const queries = yield* Queries
          const log = yield* EventLog
          return handlers.handleAll({
            log: () => Effect.succeed({ id: log.id, partitions: log.partitions }),
            heads: () =>
              Effect.mapError(log.heads, (error) => new QueryRefused({ code: "unavailable", message: error.message })),
            history: ({ payload: { atLeast, request, user } }) => queries.history(user, request, atLeast),
            sync: ({ payload: { atLeast, request, user } }) => queries.sync(user, request, atLeast),
            convs: ({ payload: { atLeast, request, user } }) => queries.convs(user, request, atLeast),
            roster: ({ payload: { atLeast, request, user } }) => queries.roster(user, request, atLeast),
            missed: ({ payload: { since, ...request } }) => queries.missed({ ...request, since }),
            pull: ({ payload: { after, conv, limit } }) => queries.pull(conv, after, limit),
            audience: ({ payload: { atLeast, conv, user } }) =>
              Effect.map(queries.audience(user, conv, atLeast), (members) => ({ members: members ?? null })),
            bigConversations: ({ payload: { atLeast, user } }) => queries.bigConversations(user, atLeast),
            standing: ({ payload: { atLeast, conv, users } }) => queries.standing(conv, users, atLeast),
            receipts: ({ payload: { since, until } }) => queries.receipts(since, until),
            acquainted: ({ payload: { atLeast, user, users } }) => queries.acquainted(user, users, atLeast)
          })
        })
      )
    ),
    Layer.provide(layerOfThisCluster(secret))
  )
