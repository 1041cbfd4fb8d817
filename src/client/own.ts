/** The events that answers stand for: to its sender the server sends the answer and not the event. */
import type { EventFrame, TimelineEvent, TimelineEventOf } from "../domain/protocol/server-frames.ts"
import type { Entry } from "./outbox.ts"

/** The event of an `event` frame, without the `t`. */
export const eventOf = ({ conv, seq, type, by, at, cid, data }: EventFrame): TimelineEvent =>
  ({ conv, seq, type, by, at, cid, data }) as TimelineEvent

/** The event that a persisted command became. */
export const ownEvent = (entry: Entry, user: string): TimelineEvent => {
  const { frame, cid, conv, seq = 0, at = 0 } = entry
  const base = { conv, seq, by: user, at, cid }
  switch (frame.t) {
    case "send":
      return {
        ...base,
        type: "message",
        data: {
          kind: frame.kind ?? "text",
          body: frame.body,
          ...(frame.replyTo === undefined ? {} : { replyTo: frame.replyTo })
        }
      }
    case "edit":
      return { ...base, type: "edited", data: { target: frame.target, body: frame.body } }
    case "delete":
      return { ...base, type: "deleted", data: { target: frame.target } }
    case "react":
      return { ...base, type: "reaction", data: { target: frame.target, emoji: frame.emoji, on: frame.on } }
    case "create":
      return {
        ...base,
        type: "created",
        data: {
          kind: "group",
          ...(frame.title === undefined ? {} : { title: frame.title }),
          members: [...new Set([user, ...frame.members])]
        }
      }
    case "members":
      return members(base, frame.add, frame.remove)
    case "leave":
      return members(base, undefined, [user])
    case "title":
      return { ...base, type: "title", data: { title: frame.title } }
  }
}

const members = (
  base: Omit<TimelineEventOf<"members">, "type" | "data">,
  added: readonly string[] | undefined,
  removed: readonly string[] | undefined
): TimelineEventOf<"members"> => ({
  ...base,
  type: "members",
  data: { ...(added === undefined ? {} : { added }), ...(removed === undefined ? {} : { removed }) }
})
