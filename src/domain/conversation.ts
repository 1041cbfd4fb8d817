import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import type { EventData, NewEvent } from "./events.ts"
import { type ConversationId, dmMembers, isDm, type Seq, type UserId } from "./ids.ts"

/** Members that a group may have. A command that would pass it is refused whole. */
export const MAX_MEMBERS = 10_000

/** Groups up to this size name who has seen what; larger ones only count. */
export const NAMED_RECEIPTS_MAX = 50

/**
 * Conversations of more members are big: what happens in them is told to the nodes that are interested in the conversation, and no longer to those that hold its members,
 * each of whom would have to be looked up.
 */
const BIG_MEMBERS = 200

/** Whether a conversation of so many members is big; a direct one never is. */
export const isBigConversation = (conv: ConversationId, members: number): boolean =>
  members > BIG_MEMBERS && !isDm(conv)

/** Watermarks that moved. `user` names whose in conversations of up to {@link NAMED_RECEIPTS_MAX} members; larger ones have counts for one seq. */
export type ReceiptChange =
  | { readonly conv: ConversationId; readonly user: UserId; readonly delivered?: Seq; readonly seen?: Seq }
  | { readonly conv: ConversationId; readonly seq: Seq; readonly deliveredCount: number; readonly seenCount: number }

/** One person in one conversation. Watermarks only grow, and `seen <= delivered <= head`. */
export interface Member {
  readonly user: UserId
  readonly admin: boolean
  /** When they joined, in milliseconds. */
  readonly since: number
  readonly delivered: Seq
  readonly seen: Seq
}

/** A conversation as the command side needs it: the fold of its events. Immutable, so that a refused batch leaves no trace. */
export interface Conversation {
  readonly conv: ConversationId
  readonly kind: "dm" | "group"
  readonly title?: string
  /** The seq of the newest timeline event, 0 before the first. */
  readonly seq: Seq
  /** The time of the newest timeline event. */
  readonly at: number
  /** The position of the newest timeline event in its partition. */
  readonly position: number
  readonly members: HashMap.HashMap<UserId, Member>
}

/** The state before the first event. A dm's two members are known from its id; a group without events has none. */
export const initial = (conv: ConversationId): Conversation => {
  const pair = dmMembers(conv)
  return {
    conv,
    kind: pair === undefined ? "group" : "dm",
    seq: 0,
    at: 0,
    position: 0,
    members: HashMap.fromIterable((pair ?? []).map((user) => [user, newMember(user, false, 0)] as const))
  }
}

export const newMember = (user: UserId, admin: boolean, since: number): Member => ({
  user,
  admin,
  since,
  delivered: 0,
  seen: 0
})

export const memberOf = (state: Conversation, user: UserId): Member | undefined =>
  Option.getOrUndefined(HashMap.get(state.members, user))

/** The next state. Never fails: what `decide` let through is a fact. `position` is the event's place in its partition. */
export const evolve = (state: Conversation, event: NewEvent, position: number): Conversation => {
  if (event.type === "marked") return { ...state, members: marked(state.members, event.by, event.data) }
  const next = { ...state, seq: event.seq, at: event.at, position }
  switch (event.type) {
    case "created":
      return {
        ...next,
        ...(event.data.title === undefined ? {} : { title: event.data.title }),
        members: HashMap.fromIterable(
          event.data.members.map((user) => [user, newMember(user, user === event.by, event.at)] as const)
        )
      }
    case "members":
      return { ...next, members: changed(state.members, event.data, event.at) }
    case "title":
      return { ...next, title: event.data.title }
    case "message":
      return state.seq === 0
        ? { ...next, members: HashMap.map(state.members, (member) => ({ ...member, since: event.at })) }
        : next
    case "edited":
    case "deleted":
    case "reaction":
      return next
  }
}

const marked = (members: Conversation["members"], user: UserId, data: EventData["marked"]): Conversation["members"] =>
  HashMap.modify(members, user, (member) => {
    const seen = Math.max(member.seen, data.seen ?? 0)
    return { ...member, seen, delivered: Math.max(member.delivered, data.delivered ?? 0, seen) }
  })

const changed = (members: Conversation["members"], data: EventData["members"], at: number): Conversation["members"] => {
  let next = members
  for (const user of data.added ?? [])
    if (!HashMap.has(next, user)) next = HashMap.set(next, user, newMember(user, false, at))
  let adminLeft = false
  for (const user of data.removed ?? []) {
    adminLeft ||= Option.getOrUndefined(HashMap.get(next, user))?.admin === true
    next = HashMap.remove(next, user)
  }
  return adminLeft ? withAnAdmin(next) : next
}

/** When the last admin is gone the longest-standing member is admin; among equals the first by user id. */
const withAnAdmin = (members: Conversation["members"]): Conversation["members"] => {
  let heir: Member | undefined
  for (const member of HashMap.values(members)) {
    if (member.admin) return members
    if (heir === undefined || member.since < heir.since || (member.since === heir.since && member.user < heir.user))
      heir = member
  }
  return heir === undefined ? members : HashMap.set(members, heir.user, { ...heir, admin: true })
}

/** How far a member is, without what they have not reached at all, since 0 is no seq; in large groups how many have got as far as `seq`. */
export const receiptOf = (state: Conversation, user: UserId, seq: Seq): ReceiptChange => {
  const { conv } = state
  if (HashMap.size(state.members) > NAMED_RECEIPTS_MAX) return { conv, seq, ...receiptCounts(state, seq) }
  const { delivered = 0, seen = 0 } = memberOf(state, user) ?? {}
  return { conv, user, ...(delivered === 0 ? {} : { delivered }), ...(seen === 0 ? {} : { seen }) }
}

/** How many members have been given, and have seen, everything up to `seq`. */
export const receiptCounts = (state: Conversation, seq: Seq): { deliveredCount: number; seenCount: number } => {
  let deliveredCount = 0
  let seenCount = 0
  for (const member of HashMap.values(state.members)) {
    if (member.delivered >= seq) deliveredCount++
    if (member.seen >= seq) seenCount++
  }
  return { deliveredCount, seenCount }
}
