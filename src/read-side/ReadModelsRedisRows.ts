import { isDm, type ConversationId, type Seq, type UserId } from "../domain/ids.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"
import { foldedMessage, type MessageRow, react, reactionsOf } from "./messages.ts"
import { withinReactionBytes } from "./paging.ts"
import type { ConversationRow, MemberRow } from "./projection.ts"

/** Messages of a conversation that are kept, the newest; what is older is read from the log. */
export const TAIL = 200

/**
 * Names of keys. Everything of a partition has its number as hash tag, so that one script may touch it, and lies below a generation, which is made anew whenever
 * the read models begin from nothing: what is left of an earlier one can never be taken for theirs.
 *
 * - `live`, `next`: the {@link Pointer} of the live set and of the shadow; `gens`: all generations that may have keys; `hold`: who holds the live set still
 * - `<generation>:n` counts; `:all` conversations, in the order of ids; `:s` who reads a snapshot, `:z` the conversations saved for it
 * - `<generation>:c:<conv>` a hash: "" the conversation, "t" its title, ":<user>" a member; `:t:` the tail, a list of messages; `:r:` reactions, scored by
 *   seq; `:o:` a group's members in the order of ids; `:b:` and `:l:` see `ReadModelsRedisOlder`
 * - `<generation>:u:<user>` a hash: conversation to the position of the removal, 0 for a member
 */
export const partitionPrefix = (scope: string, partition: number): string => `darda:${scope}:{${partition}}:`

/** Which generation is in use, and how far it is: compared and moved by every write. */
export interface Pointer {
  /** As it is in Redis; empty when there is none. */
  readonly text: string
  readonly generation: string
  readonly checkpoint: number
}

export const pointerOf = (text: string): Pointer => {
  const colon = text.indexOf(":")
  return { text, generation: text.slice(0, Math.max(0, colon)), checkpoint: Number(text.slice(colon + 1)) }
}

export const makePointer = (generation: string, checkpoint: number): Pointer => ({
  text: `${generation}:${checkpoint}`,
  generation,
  checkpoint
})

/** Scripts read the position, the head and the seq of the newest message from it: the first, second and fourth number. */
export const encodeConversation = (
  { at, head, last, members, messages, position }: ConversationRow,
  reacted: boolean
): string => `${position} ${head} ${at} ${last} ${messages} ${members} ${reacted ? 1 : 0}`

/** `reacted`: whether anybody ever reacted to anything. */
export const decodeConversation = (
  conv: ConversationId,
  partition: number,
  text: string,
  title: string | null
): { readonly row: ConversationRow; readonly reacted: boolean } => {
  const [position, head, at, last, messages, members, reacted] = text.split(" ").map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number
  ]
  return {
    row: {
      conv,
      kind: isDm(conv) ? "dm" : "group",
      ...(title === null ? {} : { title }),
      partition,
      head,
      at,
      position,
      members,
      messages,
      last
    },
    reacted: reacted === 1
  }
}

/** Scripts read whether it is an admin's from its first character. */
export const encodeMember = ({ admin, delivered, left, own, read, seen, since }: MemberRow): string =>
  `${admin ? 1 : 0} ${since} ${delivered} ${seen} ${own} ${read} ${left}`

export const decodeMember = (user: UserId, text: string): MemberRow => {
  const [admin, since, delivered, seen, own, read, left] = text.split(" ").map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number
  ]
  return { user, admin: admin === 1, since, delivered, seen, own, read, left }
}

/** An entry of the tail: JSON, and nothing in it that the key says. Scripts read its seq. */
export const encodeMessage = (seq: Seq, { at, body, by, cid, deleted, editedAt, kind, replyTo }: MessageRow): string =>
  // The ids' forms have no character that JSON would write otherwise.
  `[${seq},"${by}",${at},"${cid}",${JSON.stringify(kind)},${body === undefined ? "null" : JSON.stringify(body)}` +
  (replyTo === undefined && editedAt === undefined && deleted === undefined
    ? "]"
    : `,${replyTo ?? "null"},${editedAt ?? "null"},${deleted === true ? 1 : 0}]`)

export const decodeMessage = (text: string): { readonly seq: Seq; readonly row: MessageRow } => {
  const [seq, by, at, cid, kind, body, replyTo = null, editedAt = null, deleted = 0] = JSON.parse(text) as [
    number,
    string,
    number,
    string,
    string,
    string | null,
    (number | null)?,
    (number | null)?,
    number?
  ]
  return {
    seq,
    row: {
      by,
      at,
      cid,
      kind,
      ...(body === null ? {} : { body }),
      ...(replyTo === null ? {} : { replyTo }),
      ...(editedAt === null ? {} : { editedAt }),
      ...(deleted === 0 ? {} : { deleted: true as const })
    }
  }
}

/** The seq of an entry, without parsing all of it. */
export const seqOf = (text: string): Seq => Number(text.slice(1, text.indexOf(",")))

/** A member of the set of reactions. Neither seqs nor users have a blank. */
export const encodeReaction = (seq: Seq, emoji: string, user: UserId): string => `${seq} ${emoji} ${user}`

/** Reactions by the seq of their message. */
export const decodeReactions = (members: ReadonlyArray<string>): ReadonlyMap<Seq, FoldedMessage["reactions"]> => {
  const found = new Map<Seq, Map<string, Set<UserId>>>()
  for (const member of members) {
    const first = member.indexOf(" ")
    const last = member.lastIndexOf(" ")
    const seq = Number(member.slice(0, first))
    let emojis = found.get(seq)
    if (emojis === undefined) found.set(seq, (emojis = new Map<string, Set<UserId>>()))
    react(emojis, member.slice(first + 1, last), member.slice(last + 1), true)
  }
  return new Map(Array.from(found, ([seq, emojis]) => [seq, reactionsOf(emojis)]))
}

/** A message of the tail that may become part of an answer, parsed only when it does. */
export interface TailMessage {
  readonly seq: Seq
  readonly bytes: number
  readonly message: () => FoldedMessage
}

/** Names of fields, digits, and the conversation are in an answer and not in the entry. */
const FIELD_BYTES = 90

export const tailMessage = (
  conv: ConversationId,
  text: string,
  reactions: ReadonlyMap<Seq, FoldedMessage["reactions"]>
): TailMessage => {
  const seq = seqOf(text)
  const reacted = reactions.get(seq)
  const whole = (): FoldedMessage => foldedMessage(conv, seq, decodeMessage(text).row, reacted)
  if (reacted === undefined) {
    return { seq, bytes: Buffer.byteLength(text) + conv.length + FIELD_BYTES, message: whole }
  }
  const message = withinReactionBytes(whole())
  return { seq, bytes: Buffer.byteLength(JSON.stringify(message)) + 1, message: () => message }
}
