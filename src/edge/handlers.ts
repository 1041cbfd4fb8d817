import * as Effect from "effect/Effect"
import { type Intent, sortedUsers } from "../domain/commands.ts"
import { groupConversation } from "../domain/groupId.ts"
import { dmConversation } from "../domain/ids.ts"
import type { ClientFrame, Refresh } from "../domain/protocol/client-frames.ts"
import { PAGES } from "../domain/protocol/limits.ts"
import type { ServerFrame } from "../domain/protocol/server-frames.ts"
import type { QueryRefused } from "../read-side/Queries.ts"
import { attach } from "./attach.ts"
import type { Connection } from "./Connection.ts"
import { errFrame } from "./errors.ts"
import { Frame } from "./Frame.ts"

/** What a command frame asks for. Texts and ids were checked by the decoder. */
const intentOf = (frame: Extract<ClientFrame, { readonly cid: string }>): Intent => {
  switch (frame.t) {
    case "send":
      return {
        type: "send",
        kind: frame.kind ?? "text",
        body: frame.body,
        ...(frame.replyTo === undefined ? {} : { replyTo: frame.replyTo })
      }
    case "edit":
      return { type: "edit", target: frame.target, body: frame.body }
    case "delete":
      return { type: "delete", target: frame.target }
    case "react":
      return { type: "react", target: frame.target, emoji: frame.emoji, on: frame.on }
    case "create":
      return {
        type: "create",
        members: sortedUsers(frame.members),
        ...(frame.title === undefined ? {} : { title: frame.title })
      }
    case "members":
      return { type: "members", add: sortedUsers(frame.add ?? []), remove: sortedUsers(frame.remove ?? []) }
    case "leave":
      return { type: "leave" }
    case "title":
      return { type: "title", title: frame.title }
  }
}

/** The answer to a query, or why there is none. */
const reply = <A extends object>(rid: string, query: Effect.Effect<A, QueryRefused>): Effect.Effect<Frame> =>
  query.pipe(
    Effect.map((body) => new Frame({ t: "reply", rid, ...body } as unknown as ServerFrame)),
    Effect.catch((refused) => Effect.succeed(errFrame(refused.code, refused.message, { rid }))),
    Effect.catchDefect((defect) =>
      Effect.logError("A query failed", defect).pipe(
        Effect.as(errFrame("internal", "The server failed to answer this; it has been logged.", { rid }))
      )
    )
  )

/** Acts on one decoded frame. Answers an effect where the reader has to wait before it goes on. */
export const handle = (connection: Connection, frame: ClientFrame): Effect.Effect<void> | undefined => {
  const { node, user } = connection
  switch (frame.t) {
    case "send":
      connection.submit(frame, frame.conv ?? dmConversation(user, frame.to!), intentOf(frame))
      return undefined
    case "create":
      connection.submit(frame, groupConversation(user, frame.cid), intentOf(frame))
      return undefined
    case "edit":
    case "delete":
    case "react":
    case "members":
    case "leave":
    case "title":
      connection.submit(frame, frame.conv, intentOf(frame))
      return undefined
    case "mark":
      connection.mark(frame.conv, frame.delivered, frame.seen)
      return undefined
    case "ping":
      connection.push(PONG)
      return undefined
    case "hello":
      if (connection.feed !== undefined) {
        connection.push(errFrame("bad_request", "hello was said already on this connection."))
        return undefined
      }
      return attach(connection, frame)
    case "history": {
      const { limit = PAGES.history.default, rid, t: _t, ...rest } = frame
      return connection.request(reply(rid, node.queries.history(user, { ...rest, limit }, node.seen())))
    }
    case "sync": {
      const { after, conv, limit = PAGES.sync.default } = frame
      return connection.request(reply(frame.rid, node.queries.sync(user, { conv, after, limit }, node.seen())))
    }
    case "convs": {
      const { limit = PAGES.convs.default, rid, t: _t, ...rest } = frame
      return connection.request(reply(rid, node.queries.convs(user, { ...rest, limit }, node.seen())))
    }
    case "roster": {
      const { limit = PAGES.roster.default, rid, t: _t, ...rest } = frame
      return connection.request(reply(rid, node.queries.roster(user, { ...rest, limit }, node.seen())))
    }
    case "typing":
      return connection.request(node.typing.say(connection, frame.conv, frame.on))
    case "presence":
      return connection.request(node.presence.request(connection, frame))
    case "refresh":
      return connection.request(refresh(connection, frame))
  }
}

/** Puts another token in the place of a connection's, which is for the same user. */
const refresh = Effect.fnUntraced(function* (connection: Connection, { rid, token }: Refresh): Effect.fn.Return<Frame> {
  const identity = yield* Effect.result(connection.node.verify(token))
  if (identity._tag === "Failure") return errFrame("unauthorized", identity.failure.message, { rid })
  const { expiresAt, user } = identity.success
  if (user !== connection.user) {
    return errFrame("unauthorized", `This token is for ${user}; the connection belongs to ${connection.user}.`, { rid })
  }
  connection.expiresAt = expiresAt
  return new Frame({ t: "reply", rid, expiresAt })
})

const PONG = new Frame({ t: "pong" })
