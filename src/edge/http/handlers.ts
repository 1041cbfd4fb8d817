/** What the API's endpoints do: forms were judged before, access is judged by queries and commands. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { sortedUsers } from "../../domain/commands.ts"
import { groupConversation } from "../../domain/groupId.ts"
import { countCharacters, hasAtMost } from "../../domain/ids.ts"
import { PAGES } from "../../domain/protocol/limits.ts"
import { Queries, type QueryRefused } from "../../read-side/Queries.ts"
import { Auth } from "../auth/Auth.ts"
import { Hub, type CommandRefused, type Persisted } from "../Hub.ts"
import { Api } from "./api.ts"
import { healthHandlers } from "./health.ts"
import { CurrentUser } from "./middleware.ts"
import { problem } from "./problems.ts"

const refusal = (refused: QueryRefused | CommandRefused) =>
  Effect.succeed(
    problem(refused.code, refused.message, {
      retryAfterMs: refused._tag === "CommandRefused" ? refused.retryAfterMs : undefined
    })
  )

/** The answer of a query as it is, or why there is none. */
const answer = <A>(query: Effect.Effect<A, QueryRefused>) => Effect.catch(query, refusal)

/** 201 for what was made now, 200 for what was there already, with the same body. */
const persisted = (
  command: Effect.Effect<Persisted, CommandRefused>,
  body: (persisted: Persisted) => object
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  command.pipe(
    Effect.map((done) => HttpServerResponse.jsonUnsafe(body(done), { status: done.dup ? 200 : 201 })),
    Effect.catch(refusal)
  )

const layerMessages = (bodyChars: number) =>
  HttpApiBuilder.group(
    Api,
    "messages",
    Effect.fnUntraced(function* (handlers) {
      const hub = yield* Hub
      const queries = yield* Queries
      return handlers.handleAll({
        conversations: Effect.fnUntraced(function* ({ query }) {
          const { user } = yield* CurrentUser
          return yield* answer(queries.convs(user, { limit: PAGES.convs.default, ...query }, hub.seen()))
        }),
        history: Effect.fnUntraced(function* ({ params, query }) {
          const { user } = yield* CurrentUser
          const request = { limit: PAGES.history.default, ...query, conv: params.conv }
          return yield* answer(queries.history(user, request, hub.seen()))
        }),
        members: Effect.fnUntraced(function* ({ params, query }) {
          const { user } = yield* CurrentUser
          const request = { limit: PAGES.roster.default, ...query, conv: params.conv }
          return yield* answer(queries.roster(user, request, hub.seen()))
        }),
        presence: Effect.fnUntraced(function* ({ query }) {
          const { user } = yield* CurrentUser
          return yield* hub.presence(user, query.users).pipe(
            Effect.map((found) => ({ users: Object.fromEntries(found) })),
            Effect.catch((error) =>
              error._tag === "QueryRefused" ? refusal(error) : Effect.succeed(problem("unavailable", error.message))
            )
          )
        }),
        create: Effect.fnUntraced(function* ({ payload }) {
          const { user: by } = yield* CurrentUser
          const { cid, members, title } = payload
          const intent = {
            type: "create",
            members: sortedUsers(members),
            ...(title === undefined ? {} : { title })
          } as const
          return yield* persisted(hub.request({ conv: groupConversation(by, cid), by, cid, intent }), (done) => ({
            conv: done.conv,
            seq: done.seq,
            at: done.at
          }))
        }),
        send: Effect.fnUntraced(function* ({ params, payload }) {
          const { user: by } = yield* CurrentUser
          const { body, cid, kind, replyTo } = payload
          if (!hasAtMost(body, bodyChars)) {
            return problem(
              "too_large",
              `body: has ${countCharacters(body)} characters, at most ${bodyChars} are allowed; send several messages`
            )
          }
          const intent = {
            type: "send",
            kind: kind ?? "text",
            body,
            ...(replyTo === undefined ? {} : { replyTo })
          } as const
          return yield* persisted(hub.request({ conv: params.conv, by, cid, intent }), ({ at, seq }) => ({ seq, at }))
        })
      })
    })
  )

const layerTickets = HttpApiBuilder.group(
  Api,
  "tickets",
  Effect.fnUntraced(function* (handlers) {
    const auth = yield* Auth
    return handlers.handle("ticket", () =>
      Effect.flatMap(CurrentUser, ({ expiresAt, user }) => auth.issueTicket(user, expiresAt))
    )
  })
)

const layerDev = HttpApiBuilder.group(
  Api,
  "dev",
  Effect.fnUntraced(function* (handlers) {
    const auth = yield* Auth
    return handlers.handle("token", ({ payload }) =>
      Effect.catch(auth.issueDev(payload.user), (error) => Effect.succeed(problem("not_found", error.message)))
    )
  })
)

const layerHealth = HttpApiBuilder.group(
  Api,
  "health",
  Effect.fnUntraced(function* (handlers) {
    return handlers.handleAll(yield* healthHandlers)
  })
)

/** All endpoints. `bodyChars`: characters (Unicode code points) of a message's body. */
export const layerHandlers = (bodyChars: number) =>
  Layer.mergeAll(layerMessages(bodyChars), layerTickets, layerDev, layerHealth)
