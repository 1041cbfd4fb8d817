import * as HashMap from "effect/HashMap"
import { type Conversation, evolve, initial, type Member } from "../domain/conversation.ts"
import type { StoredEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import { amended, messageRow, type MessageRow } from "./messages.ts"

/** What is kept of a conversation. */
export interface ConversationRow {
  readonly conv: ConversationId
  readonly kind: "dm" | "group"
  readonly title?: string
  readonly partition: number
  /** The seq of the newest timeline event. */
  readonly head: Seq
  /** The time of the newest timeline event, in milliseconds. */
  readonly at: number
  /** The position of the newest timeline event. */
  readonly position: number
  /** Members now. */
  readonly members: number
  /** Messages ever sent, deleted ones included. */
  readonly messages: number
  /** The seq of the newest message, 0 before the first. */
  readonly last: Seq
}

/**
 * What is kept of one user in one conversation. One who left keeps a row: `own` must still be right when they come back, and a device
 * that was away is told that it is gone.
 */
export interface MemberRow extends Member {
  /** Messages that they sent here themselves, at any time. */
  readonly own: number
  /** Messages by others up to `seen`. */
  readonly read: number
  /** The position of the event that removed them, 0 while they are a member. */
  readonly left: number
}

/**
 * Where the rows are: an engine's tables, or maps. Reads see what was written before, also within an unfinished batch. A conversation is put before
 * anything in it.
 */
export interface Rows {
  readonly conversation: (conv: ConversationId) => ConversationRow | undefined
  readonly putConversation: (row: ConversationRow) => void
  readonly member: (conv: ConversationId, user: UserId) => MemberRow | undefined
  readonly putMember: (conv: ConversationId, row: MemberRow) => void
  /** Any admin, and the member who has been there longest (among equals the first by id): of those who have not left and are not in `except`. */
  readonly successors: (
    conv: ConversationId,
    except: ReadonlySet<UserId>
  ) => { readonly admin: MemberRow | undefined; readonly eldest: MemberRow | undefined }
  readonly message: (conv: ConversationId, seq: Seq) => MessageRow | undefined
  readonly putMessage: (conv: ConversationId, seq: Seq, row: MessageRow) => void
  readonly react: (conv: ConversationId, seq: Seq, emoji: string, user: UserId, on: boolean) => void
  readonly clearReactions: (conv: ConversationId, seq: Seq) => void
  /** How many messages with `after < seq <= upTo` are not by this user. */
  readonly countByOthers: (conv: ConversationId, user: UserId, after: Seq, upTo: Seq) => number
}

/** Messages by others after `seen`: known without counting. */
export const unreadOf = (conversation: ConversationRow, member: MemberRow): number =>
  conversation.messages - member.own - member.read

const emptyConversation = (event: StoredEvent): ConversationRow => ({
  conv: event.conv,
  kind: initial(event.conv).kind,
  partition: event.partition,
  head: 0,
  at: 0,
  position: 0,
  members: 0,
  messages: 0,
  last: 0
})

const here = (row: MemberRow | undefined): row is MemberRow => row !== undefined && row.left === 0

/**
 * Brings the rows from before an event to after it. Total: an event that refers to nothing changes nothing. What the domain decides about members
 * and watermarks is not decided again here: its `evolve` runs on the few members that the event can concern.
 */
export const project = (rows: Rows, event: StoredEvent): void => {
  const row = rows.conversation(event.conv)
  if (event.type === "marked") {
    if (row !== undefined) mark(rows, event)
    return
  }
  const before = row ?? emptyConversation(event)
  const state = concerned(rows, before, event)
  const after = evolve(state, event, event.position)
  const isMessage = event.type === "message"
  // In a conversation that begins nobody can be known yet: nobody is looked up.
  const known = row === undefined ? () => undefined : (user: UserId) => rows.member(event.conv, user)
  const members = changedMembers(known, state, after, event)
  rows.putConversation({
    conv: before.conv,
    kind: before.kind,
    ...(after.title === undefined ? {} : { title: after.title }),
    partition: before.partition,
    head: after.seq,
    at: after.at,
    position: after.position,
    members: before.members + members.grown,
    messages: before.messages + (isMessage ? 1 : 0),
    last: isMessage ? event.seq : before.last
  })
  for (const member of members.changed) rows.putMember(event.conv, member)
  switch (event.type) {
    case "message": {
      rows.putMessage(event.conv, event.seq, messageRow(event))
      const author = rows.member(event.conv, event.by)
      if (author !== undefined) rows.putMember(event.conv, { ...author, own: author.own + 1 })
      return
    }
    case "edited":
    case "deleted": {
      const message = rows.message(event.conv, event.data.target)
      if (message === undefined || message.deleted === true) return
      rows.putMessage(event.conv, event.data.target, amended(message, event))
      if (event.type === "deleted") rows.clearReactions(event.conv, event.data.target)
      return
    }
    case "reaction": {
      const message = rows.message(event.conv, event.data.target)
      if (message === undefined || message.deleted === true) return
      rows.react(event.conv, event.data.target, event.data.emoji, event.by, event.data.on)
      return
    }
    case "created":
    case "members":
    case "title":
      return
  }
}

/** The conversation with those members only whom the event can change, or on whom its outcome depends. */
const concerned = (rows: Rows, row: ConversationRow, event: StoredEvent): Conversation => {
  const state = {
    conv: row.conv,
    kind: row.kind,
    ...(row.title === undefined ? {} : { title: row.title }),
    seq: row.head,
    at: row.at,
    position: row.position
  }
  // A dm begins with its first message; its two members are known from its id.
  if (row.head === 0) return { ...state, members: initial(row.conv).members }
  if (event.type !== "members") return { ...state, members: HashMap.empty() }
  const members = new Map<UserId, Member>()
  const take = (member: MemberRow | undefined) => {
    if (here(member)) members.set(member.user, member)
  }
  for (const user of event.data.added ?? []) take(rows.member(event.conv, user))
  let adminLeaves = false
  for (const user of event.data.removed ?? []) {
    const member = rows.member(event.conv, user)
    adminLeaves ||= here(member) && member.admin
    take(member)
  }
  if (adminLeaves) {
    const { admin, eldest } = rows.successors(event.conv, new Set(event.data.removed))
    take(admin)
    take(eldest)
  }
  return { ...state, members: HashMap.fromIterable(members) }
}

/** The rows of the members that `evolve` changed, and by how many their number grew. */
const changedMembers = (
  lookUp: (user: UserId) => MemberRow | undefined,
  before: Conversation,
  after: Conversation,
  event: StoredEvent
): { readonly changed: ReadonlyArray<MemberRow>; readonly grown: number } => {
  if (before.members === after.members) return { changed: [], grown: 0 }
  const changed: Array<MemberRow> = []
  let grown = 0
  for (const [user, member] of after.members) {
    const known = lookUp(user)
    if (known !== undefined && known.left === 0) {
      if (known.admin !== member.admin) changed.push({ ...known, admin: member.admin })
    } else {
      grown++
      changed.push(memberRow(member, known?.own ?? 0, 0))
    }
  }
  for (const [user] of before.members) {
    if (HashMap.has(after.members, user)) continue
    const known = lookUp(user)
    if (!here(known)) continue
    grown--
    changed.push(memberRow({ user, admin: false, since: 0, delivered: 0, seen: 0 }, known.own, event.position))
  }
  return { changed, grown }
}

const memberRow = (member: Member, own: number, left: number): MemberRow => ({
  user: member.user,
  admin: member.admin,
  since: member.since,
  delivered: member.delivered,
  seen: member.seen,
  own,
  read: 0,
  left
})

const mark = (rows: Rows, event: Extract<StoredEvent, { readonly type: "marked" }>): void => {
  const member = rows.member(event.conv, event.by)
  if (!here(member)) return
  const state = { ...initial(event.conv), members: HashMap.make([member.user, member as Member]) }
  const marked = HashMap.getUnsafe(evolve(state, event, event.position).members, member.user)
  if (marked.seen === member.seen && marked.delivered === member.delivered) return
  rows.putMember(event.conv, {
    ...member,
    delivered: marked.delivered,
    seen: marked.seen,
    read: member.read + rows.countByOthers(event.conv, member.user, member.seen, marked.seen)
  })
}
