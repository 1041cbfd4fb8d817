/** Folds events into messages, as the server's read side does. Messages are never changed but replaced. */
import type { FoldedMessage, TimelineEvent, TimelineEventOf } from "../domain/protocol/server-frames.ts"

/** The message that an event of type `message` is. */
export const messageOf = ({ conv, seq, by, at, cid, data }: TimelineEventOf<"message">): FoldedMessage => ({
  conv,
  seq,
  by,
  at,
  cid,
  ...data
})

/** The message after an edit, a deletion or a reaction to it; a deleted one stays as it is. */
export const amended = (
  message: FoldedMessage,
  event: TimelineEventOf<"edited"> | TimelineEventOf<"deleted"> | TimelineEventOf<"reaction">
): FoldedMessage => {
  if (message.deleted === true) return message
  switch (event.type) {
    case "edited":
      return { ...message, body: event.data.body, editedAt: event.at }
    case "deleted": {
      const { body: _body, reactions: _reactions, ...rest } = message
      return { ...rest, deleted: true }
    }
    case "reaction":
      return reacted(message, event.by, event.data.emoji, event.data.on)
  }
}

const reacted = (message: FoldedMessage, user: string, emoji: string, on: boolean): FoldedMessage => {
  const reactions = new Map(Object.entries(message.reactions ?? {}))
  const users = (reactions.get(emoji) ?? []).filter((other) => other !== user)
  if (on) users.push(user)
  if (users.length === 0) reactions.delete(emoji)
  else reactions.set(emoji, users.sort())
  const { reactions: _, ...rest } = message
  // `Object.fromEntries` and not assignment: an emoji may be called `__proto__`.
  return reactions.size === 0 ? rest : { ...rest, reactions: Object.fromEntries(reactions) }
}

/** Where `seq` is or would be in a list sorted by seq. */
export const indexOfSeq = (messages: readonly { readonly seq: number }[], seq: number): number => {
  let low = 0
  let high = messages.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((messages[middle] as { readonly seq: number }).seq < seq) low = middle + 1
    else high = middle
  }
  return low
}

/** Applies an event to a list of messages in place; amendments of messages that are not in it are ignored. */
export const applyTo = (messages: FoldedMessage[], event: TimelineEvent): void => {
  switch (event.type) {
    case "message": {
      const index = indexOfSeq(messages, event.seq)
      if (messages[index]?.seq !== event.seq) messages.splice(index, 0, messageOf(event))
      return
    }
    case "edited":
    case "deleted":
    case "reaction": {
      const index = indexOfSeq(messages, event.data.target)
      const message = messages[index]
      if (message?.seq === event.data.target) messages[index] = amended(message, event)
    }
  }
}
