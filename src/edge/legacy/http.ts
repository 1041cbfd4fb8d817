import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { dmConversation, isSeq, isUserId, type Seq } from "../../domain/ids.ts"
import { Queries } from "../../read-side/Queries.ts"
import { Hub } from "../Hub.ts"
import { BAD_USER, LEGACY_MESSAGES, LEGACY_SOCKET, legacyMessage, NO_USER } from "./messages.ts"

/** Messages on a page. */
const PAGE = 20

/** A refusal as these clients know it. */
const legacyError = (status: number, error: string): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({ error }, { status })

/** A place in a conversation, as text that clients only hand back. Before the first message there is place 0. */
const toCursor = (seq: Seq | 0): string => Buffer.from(String(seq)).toString("base64url")

const fromCursor = (cursor: string): Seq | 0 | undefined => {
  const text = Buffer.from(cursor, "base64url").toString("latin1")
  const seq = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  return toCursor(seq) === cursor && (seq === 0 || isSeq(seq)) ? seq : undefined
}

/** A parameter that is given once; an empty one counts as not given, as the page sends it. */
const single = (value: string | ReadonlyArray<string> | undefined): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined

/**
 * `GET /api/v1/messages/<other>`: 20 messages, oldest first, the newest ones without a cursor. `before` and `after` of the answer are for the
 * pages on either side. On an empty page `before` is the empty text, which counts as not given, and `after` is as it was: asked for again it answers
 * what came since.
 */
export const layerLegacyHttp = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const hub = yield* Hub
    const queries = yield* Queries
    // A client that asks for the socket without saying that it wants one.
    yield* router.add(
      "GET",
      LEGACY_SOCKET,
      Effect.map(ParsedSearchParams, (params) =>
        single(params["id"]) === undefined
          ? legacyError(400, NO_USER)
          : HttpServerResponse.setHeader(legacyError(426, "this is a WebSocket"), "upgrade", "websocket")
      )
    )
    yield* router.add(
      "GET",
      LEGACY_MESSAGES,
      Effect.gen(function* () {
        const params = yield* ParsedSearchParams
        const { other = "" } = (yield* HttpRouter.RouteContext).params
        const user = single(params["id"])
        if (user === undefined) return legacyError(400, NO_USER)
        if (!isUserId(user) || !isUserId(other)) return legacyError(400, BAD_USER)
        const after = single(params["after"])
        const before = single(params["before"])
        if (after !== undefined && before !== undefined) return legacyError(400, "set before or after, not both")
        const cursor = before ?? after
        const seq = cursor === undefined ? undefined : fromCursor(cursor)
        if (cursor !== undefined && seq === undefined) return legacyError(400, "this is no cursor of this server")
        // Nothing is older than the beginning.
        if (before !== undefined && seq === 0) {
          return HttpServerResponse.jsonUnsafe({ messages: [], before: "", after: toCursor(0) })
        }
        const request = {
          conv: dmConversation(user, other),
          limit: PAGE,
          ...(before === undefined ? {} : { before: seq! }),
          ...(after === undefined ? {} : { after: seq! })
        }
        const page = yield* Effect.result(queries.history(user, request, hub.seen()))
        if (page._tag === "Failure") {
          const { code, message } = page.failure
          return legacyError(code === "unavailable" ? 503 : code === "not_found" ? 404 : 400, message)
        }
        const { messages } = page.success
        const first = messages[0]?.seq
        const last = messages.at(-1)?.seq
        return HttpServerResponse.jsonUnsafe({
          messages: messages.map(legacyMessage),
          before: first === undefined ? "" : toCursor(first),
          after: toCursor(last ?? (seq === undefined ? 0 : after === undefined ? seq - 1 : seq))
        })
      })
    )
  })
)
