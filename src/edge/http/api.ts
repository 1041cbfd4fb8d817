/** The HTTP API: what is served, what `/openapi.json` says and what `/docs` shows are this. */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import { health } from "./health.ts"
import { Authorization, FormRules } from "./middleware.ts"
import {
  ConversationPath,
  Conversations,
  ConversationsQuery,
  CreateBody,
  Created,
  DevToken,
  DevTokenBody,
  History,
  HistoryQuery,
  Members,
  MembersQuery,
  Presence,
  PresenceQuery,
  problemSchema,
  SendBody,
  Sent,
  Ticket
} from "./schemas.ts"

/** The path that only AUTH=dev has. */
export const DEV_PATH = "/v1/auth/dev"

const created = HttpApiSchema.status(201)
const notFound = problemSchema(404, "There is no such conversation, or you are not in it")
const unavailable = problemSchema(503, "Busy or unavailable; the same request may be sent again")
const refused = [
  problemSchema(403, "Not allowed to you"),
  notFound,
  problemSchema(409, "The same cid was used for something else"),
  problemSchema(413, "The body is too large"),
  unavailable
]

const about = (summary: string, description?: string) =>
  OpenApi.annotations({ summary, ...(description === undefined ? {} : { description }) })

const repeats = "The same `cid` again answers 200 with the same; another content under it is 409."

const messages = HttpApiGroup.make("messages")
  .add(
    HttpApiEndpoint.get("conversations", "/v1/conversations", {
      query: ConversationsQuery,
      success: Conversations,
      error: [unavailable]
    }).annotateMerge(about("Your conversations, those with the newest activity first")),
    HttpApiEndpoint.post("create", "/v1/conversations", {
      payload: CreateBody,
      success: [Created.pipe(created), Created],
      error: refused
    }).annotateMerge(about("Make a group", repeats)),
    HttpApiEndpoint.get("history", "/v1/conversations/:conv/messages", {
      params: ConversationPath,
      query: HistoryQuery,
      success: History,
      error: [notFound, unavailable]
    }).annotateMerge(about("Messages of a conversation", "The newest when none of before, after and around is given.")),
    HttpApiEndpoint.post("send", "/v1/conversations/:conv/messages", {
      params: ConversationPath,
      payload: SendBody,
      success: [Sent.pipe(created), Sent],
      error: refused
    }).annotateMerge(about("Send a message", `Answers when it is persisted. ${repeats}`)),
    HttpApiEndpoint.get("members", "/v1/conversations/:conv/members", {
      params: ConversationPath,
      query: MembersQuery,
      success: Members,
      error: [notFound, unavailable]
    }).annotateMerge(about("Members of a conversation")),
    HttpApiEndpoint.get("presence", "/v1/presence", {
      query: PresenceQuery,
      success: Presence,
      error: [unavailable]
    }).annotateMerge(about("Who is online"))
  )
  .middleware(FormRules)
  .middleware(Authorization)
  .annotate(OpenApi.Description, "Conversations and what is in them")

const tickets = HttpApiGroup.make("tickets")
  .add(
    HttpApiEndpoint.post("ticket", "/v1/tickets", { success: Ticket }).annotateMerge(
      about("A ticket for `hello`", "Good once and for 30 s, so that no token has to be in a page that connects.")
    )
  )
  .middleware(FormRules)
  .middleware(Authorization)
  .annotate(OpenApi.Description, "Ways to a WebSocket connection")

const dev = HttpApiGroup.make("dev")
  .add(
    HttpApiEndpoint.post("token", DEV_PATH, {
      payload: DevTokenBody,
      success: DevToken
    }).annotateMerge(about("A token for anybody", "Only with AUTH=dev. Good for 24 hours."))
  )
  .middleware(FormRules)
  .annotate(OpenApi.Description, "For development")

/** The API. Fields and parameters that are not listed are refused. */
export const Api = HttpApi.make("darda")
  .add(messages, tickets, dev, health)
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" })
  .annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error" })
  .annotate(OpenApi.Title, "Darda")
  .annotate(OpenApi.Version, "1")
  .annotate(
    OpenApi.Description,
    "The HTTP side of Darda. Errors are problem details (RFC 9457) with the protocol's `code`. Live events come by WebSocket at /v1/ws."
  )
