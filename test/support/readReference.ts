import { memberOf } from "../../src/domain/conversation.ts"
import type { StoredEvent, TimelineEvent } from "../../src/domain/events.ts"
import type { ConversationId, UserId } from "../../src/domain/ids.ts"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import type { History } from "./histories.ts"

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Every message of a conversation, folded in the plainest way there is: the measure for what the read side answers. */
export const referenceMessages = (history: History, conv: ConversationId): ReadonlyArray<FoldedMessage> => {
  const messages = new Map<number, Mutable<FoldedMessage>>()
  for (const event of history.events) {
    if (event.conv !== conv) continue
    if (event.type === "message") {
      const { body, kind, replyTo } = event.data
      messages.set(event.seq, {
        conv,
        seq: event.seq,
        by: event.by,
        at: event.at,
        cid: event.cid,
        kind,
        body,
        ...(replyTo === undefined ? {} : { replyTo })
      })
      continue
    }
    if (event.type !== "edited" && event.type !== "deleted" && event.type !== "reaction") continue
    const message = messages.get(event.data.target)
    if (message === undefined || message.deleted === true) continue
    if (event.type === "edited") {
      message.body = event.data.body
      message.editedAt = event.at
    } else if (event.type === "deleted") {
      message.deleted = true
      delete message.body
      delete message.reactions
    } else {
      const { emoji, on } = event.data
      const pairs = Object.entries(message.reactions ?? {}).flatMap(([e, users]) =>
        users.map((user) => [e, user] as const)
      )
      const others = pairs.filter(([e, user]) => e !== emoji || user !== event.by)
      const next = (on ? [...others, [emoji, event.by] as const] : others).sort(([a, x], [b, y]) =>
        a !== b ? (a < b ? -1 : 1) : x < y ? -1 : 1
      )
      const emojis = [...new Set(next.map(([e]) => e))]
      if (emojis.length === 0) delete message.reactions
      else {
        message.reactions = Object.fromEntries(
          emojis.map((e) => [e, next.filter(([other]) => other === e).map(([, user]) => user)])
        )
      }
    }
  }
  return [...messages.values()]
}

/** Messages by others after `seen`, counted one by one. */
export const referenceUnread = (history: History, conv: ConversationId, user: UserId): number => {
  const seen = memberOf(history.conversations.get(conv)!, user)!.seen
  return history.events.filter(
    (event) => event.conv === conv && event.type === "message" && event.by !== user && event.seq > seen
  ).length
}

/** Conversations that the user is a member of, in the order of the list. */
export const referenceConversations = (history: History, user: UserId): ReadonlyArray<ConversationId> =>
  [...history.conversations.values()]
    .filter((state) => state.seq > 0 && memberOf(state, user) !== undefined)
    .sort((a, b) => (a.at !== b.at ? b.at - a.at : a.conv < b.conv ? 1 : -1))
    .map(({ conv }) => conv)

/** The newest event that took this user out of the conversation, if they are out. */
export const referenceRemoval = (history: History, conv: ConversationId, user: UserId): StoredEvent | undefined =>
  memberOf(history.conversations.get(conv)!, user) !== undefined
    ? undefined
    : history.events.findLast(
        (event) => event.conv === conv && event.type === "members" && (event.data.removed ?? []).includes(user)
      )

/** The timeline of a conversation. */
export const timelineOf = (history: History, conv: ConversationId): ReadonlyArray<TimelineEvent> =>
  history.events.filter((event): event is TimelineEvent => event.conv === conv && event.type !== "marked")
