import type { TimelineEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"

/** A message as it is kept: everything but its place (conversation and seq) and its reactions, which are kept one by one. */
export type MessageRow = Omit<FoldedMessage, "conv" | "seq" | "reactions">

/** Who reacted with what. An emoji is in it only while somebody's reaction stands. */
export type Reactions = ReadonlyMap<string, ReadonlySet<UserId>>

export type MessageEvent = Extract<TimelineEvent, { readonly type: "message" }>
export type EditedEvent = Extract<TimelineEvent, { readonly type: "edited" }>
export type DeletedEvent = Extract<TimelineEvent, { readonly type: "deleted" }>

/** The row of a new message. */
export const messageRow = (event: MessageEvent): MessageRow => ({
  by: event.by,
  at: event.at,
  cid: event.cid,
  kind: event.data.kind,
  body: event.data.body,
  ...(event.data.replyTo === undefined ? {} : { replyTo: event.data.replyTo })
})

/** The row after an edit or a deletion. A deleted message stays as it is: it has no body that could change. */
export const amended = (row: MessageRow, event: EditedEvent | DeletedEvent): MessageRow => {
  if (row.deleted === true) return row
  if (event.type === "edited") return { ...row, body: event.data.body, editedAt: event.at }
  const { body: _, ...rest } = row
  return { ...rest, deleted: true }
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Reactions as clients see them: emojis and users in the order of code units; undefined when there are none. */
export const reactionsOf = (reactions: Reactions | undefined): FoldedMessage["reactions"] => {
  if (reactions === undefined || reactions.size === 0) return undefined
  const emojis = [...reactions.keys()].sort(byCodeUnit)
  // `Object.fromEntries` and not assignment: an emoji may be called `__proto__`.
  return Object.fromEntries(emojis.map((emoji) => [emoji, [...reactions.get(emoji)!].sort(byCodeUnit)]))
}

/** A message as clients see it. The order of its fields is always the same. */
export const foldedMessage = (
  conv: ConversationId,
  seq: Seq,
  row: MessageRow,
  reactions: FoldedMessage["reactions"]
): FoldedMessage => ({
  conv,
  seq,
  by: row.by,
  at: row.at,
  cid: row.cid,
  kind: row.kind,
  ...(row.body === undefined ? {} : { body: row.body }),
  ...(row.replyTo === undefined ? {} : { replyTo: row.replyTo }),
  ...(row.editedAt === undefined ? {} : { editedAt: row.editedAt }),
  ...(row.deleted === undefined ? {} : { deleted: row.deleted }),
  ...(reactions === undefined ? {} : { reactions })
})

/**
 * Folds edits, deletions and reactions into messages of one conversation: how the log answers what the read models cannot. Both lists in
 * seq order; amendments of other messages are ignored.
 */
export const foldMessages = (
  messages: ReadonlyArray<MessageEvent>,
  amendments: ReadonlyArray<TimelineEvent>
): ReadonlyArray<FoldedMessage> => {
  const rows = new Map(messages.map((event) => [event.seq, messageRow(event)]))
  const reactions = new Map<Seq, Map<string, Set<UserId>>>()
  for (const event of amendments) {
    if (event.type !== "edited" && event.type !== "deleted" && event.type !== "reaction") continue
    const { target } = event.data
    const row = rows.get(target)
    if (row === undefined || row.deleted === true) continue
    if (event.type === "reaction") {
      react(mapAt(reactions, target), event.data.emoji, event.by, event.data.on)
      continue
    }
    rows.set(target, amended(row, event))
    if (event.type === "deleted") reactions.delete(target)
  }
  return messages.map(({ conv, seq }) => foldedMessage(conv, seq, rows.get(seq)!, reactionsOf(reactions.get(seq))))
}

const mapAt = <K, A, B>(maps: Map<K, Map<A, B>>, key: K): Map<A, B> => {
  let map = maps.get(key)
  if (map === undefined) maps.set(key, (map = new Map<A, B>()))
  return map
}

/** Sets or takes back one reaction in place. */
export const react = (reactions: Map<string, Set<UserId>>, emoji: string, user: UserId, on: boolean): void => {
  const users = reactions.get(emoji)
  if (on) {
    if (users === undefined) reactions.set(emoji, new Set([user]))
    else users.add(user)
  } else if (users?.delete(user) === true && users.size === 0) reactions.delete(emoji)
}
