import type { StoredEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { MessageRow } from "./messages.ts"
import type { ConversationRow, MemberRow, Rows } from "./projection.ts"
import { encodeConversation, encodeMember, encodeMessage, encodeReaction, TAIL } from "./ReadModelsRedisRows.ts"

/** Conversations, and members of them, in each of the two generations of all caches together: some 60 MB when all are full. */
const CONVERSATIONS = 16_000
const MEMBERS = 64_000
/** Messages of a conversation of which the author is remembered, at least, and less than twice as many. Far fewer than the tail has. */
const RECENT = 32
/** Members that stay in memory with a conversation: more are asked for one by one. */
const MEMBERS_KEPT = 500
/** Arguments that a script takes apart at once. */
const ARGUMENTS = 2_000

/** Thrown where a row is asked for that was not fetched: what precedes the event is applied first, and then its rows are exactly known. */
export class NotFetched extends Error {
  override readonly name = "NotFetched"
}

/** A conversation in memory: what is known of it, and what of that is not written yet. */
export class Held {
  row: ConversationRow
  /** Whether anybody ever reacted to anything in it. */
  reacted: boolean
  /** Absent: unknown, unless `complete`. Undefined: no such member. */
  readonly members = new Map<UserId, MemberRow | undefined>()
  /** Whether all members are in `members`. */
  complete: boolean
  /** The messages from `recentFrom` on: seqs, their authors, and which are deleted. */
  recentFrom: Seq
  readonly seqs: Array<Seq> = []
  readonly authors: Array<UserId> = []
  readonly deleted = new Set<Seq>()

  /** Not written: whether it is new, and how many members Redis knows it to have. */
  fresh: boolean
  writtenMembers: number
  writtenTitle: string | undefined
  dirty = false
  readonly changed = new Set<UserId>()
  /** Who came in or left. */
  readonly moved = new Set<UserId>()
  readonly added: Array<Seq> = []
  /** Messages of this batch: new ones, and those it amends with the entry as it was; undefined where there is none in the tail. */
  readonly messages = new Map<
    Seq,
    { row: MessageRow; readonly entry: string | undefined; changed: boolean } | undefined
  >()
  /** Reactions, ready to be written. */
  readonly operations: Array<string> = []
  /** Blocks of older messages that were amended. */
  readonly blocks = new Set<number>()
  /** How many of `members` the cache has counted. */
  counted = 0

  constructor(row: ConversationRow, reacted: boolean, fresh: boolean) {
    this.row = row
    this.reacted = reacted
    this.fresh = fresh
    this.complete = fresh
    this.writtenMembers = fresh ? 0 : row.members
    this.writtenTitle = fresh ? undefined : row.title
    this.recentFrom = fresh ? 1 : row.last + 1
  }

  /** Whether nothing newer is between this seq and what is remembered. */
  remembers(seq: Seq): boolean {
    return seq >= this.recentFrom
  }

  addRecent(seq: Seq, by: UserId): void {
    this.seqs.push(seq)
    this.authors.push(by)
    if (this.seqs.length < 2 * RECENT) return
    this.seqs.splice(0, RECENT)
    this.authors.splice(0, RECENT)
    this.recentFrom = this.seqs[0]!
    for (const old of this.deleted) if (old < this.recentFrom) this.deleted.delete(old)
  }

  /** Messages after `seq` by others than this user; expects that it remembers `seq + 1`. */
  countAfter(seq: Seq, user: UserId): number {
    let count = 0
    for (let i = this.seqs.length - 1; i >= 0 && this.seqs[i]! > seq; i--) if (this.authors[i] !== user) count++
    return count
  }

  written(): void {
    this.fresh = false
    this.writtenMembers = this.row.members
    this.writtenTitle = this.row.title
    this.dirty = false
    this.changed.clear()
    this.moved.clear()
    this.added.length = 0
    this.messages.clear()
    this.operations.length = 0
    this.blocks.clear()
    if (this.members.size <= MEMBERS_KEPT) return
    this.members.clear()
    this.complete = false
  }
}

/** Messages by seq in one block of older messages. */
export const BLOCK = 64
export const blockOf = (seq: Seq): number => Math.floor((seq - 1) / BLOCK)

/**
 * Counts that only the log could tell, found before they are asked for: of a mark, how many messages by others lie between the old `seen` and the new one, or between
 * the new one and `bound`, from which on all are remembered.
 */
export type Counted = ReadonlyMap<string, { readonly bound: Seq | undefined; readonly count: number }>
export const countKey = (conv: ConversationId, user: UserId, after: Seq, upTo: Seq): string =>
  `${conv} ${user} ${after} ${upTo}`

/**
 * The rows of one partition that were used lately, in two generations of which the older is dropped when the younger is full, with what is changed and not
 * written. Right only for the pointer at which it was filled and written last; whoever finds another one drops all of it.
 */
export class RowCache implements Rows {
  #young = new Map<ConversationId, Held>()
  #old = new Map<ConversationId, Held>()
  #members = 0
  readonly #dirty: Array<Held> = []
  #event: StoredEvent | undefined
  #counted: Counted = new Map()
  readonly #partitions: number

  constructor(partitions: number) {
    this.#partitions = partitions
  }

  get(conv: ConversationId): Held | undefined {
    const young = this.#young.get(conv)
    if (young !== undefined) return young
    const old = this.#old.get(conv)
    if (old === undefined) return undefined
    old.counted = 0
    this.#young.set(conv, old)
    return old
  }

  put(conv: ConversationId, held: Held): void {
    this.#young.set(conv, held)
  }

  /** What the rows are asked for next is for this event. */
  begin(event: StoredEvent, counted: Counted): this {
    this.#event = event
    this.#counted = counted
    return this
  }

  conversation = (conv: ConversationId): ConversationRow | undefined => this.get(conv)?.row

  putConversation = (row: ConversationRow): void => {
    let held = this.get(row.conv)
    if (held === undefined) this.put(row.conv, (held = new Held(row, false, true)))
    held.row = row
    this.#touch(held)
  }

  member = (conv: ConversationId, user: UserId): MemberRow | undefined => {
    const held = this.get(conv)
    if (held === undefined) return undefined
    const known = held.members.get(user)
    if (known !== undefined || held.complete || held.members.has(user)) return known
    throw new NotFetched()
  }

  putMember = (conv: ConversationId, row: MemberRow): void => {
    const held = this.get(conv)!
    const before = held.members.get(row.user)
    if (before === undefined || before.left !== row.left) held.moved.add(row.user)
    held.members.set(row.user, row)
    held.changed.add(row.user)
    this.#touch(held)
  }

  successors = (conv: ConversationId, except: ReadonlySet<UserId>) => {
    const held = this.get(conv)!
    if (!held.complete) throw new NotFetched()
    let admin: MemberRow | undefined
    let eldest: MemberRow | undefined
    for (const member of held.members.values()) {
      if (member === undefined || member.left > 0 || except.has(member.user)) continue
      if (member.admin && (admin === undefined || member.user < admin.user)) admin = member
      if (
        eldest === undefined ||
        member.since < eldest.since ||
        (member.since === eldest.since && member.user < eldest.user)
      ) {
        eldest = member
      }
    }
    return { admin, eldest }
  }

  message = (conv: ConversationId, seq: Seq): MessageRow | undefined => {
    const held = this.get(conv)!
    const known = held.messages.get(seq)
    if (known !== undefined) return known.row
    if (held.remembers(seq)) {
      const index = held.seqs.lastIndexOf(seq)
      if (index < 0) return undefined
      // For a reaction it is enough that the message is there.
      if (this.#event!.type === "reaction") {
        return { ...STANDING, by: held.authors[index]!, ...(held.deleted.has(seq) ? { deleted: true } : {}) }
      }
    }
    if (!held.messages.has(seq)) throw new NotFetched()
    held.blocks.add(blockOf(seq))
    return undefined
  }

  putMessage = (conv: ConversationId, seq: Seq, row: MessageRow): void => {
    const held = this.get(conv)!
    const known = held.messages.get(seq)
    if (known === undefined) {
      held.messages.set(seq, { row, entry: undefined, changed: true })
      held.added.push(seq)
      held.addRecent(seq, row.by)
      return
    }
    known.row = row
    known.changed = true
    if (row.deleted === true && held.remembers(seq)) held.deleted.add(seq)
  }

  react = (conv: ConversationId, seq: Seq, emoji: string, user: UserId, on: boolean): void => {
    const held = this.get(conv)!
    if (!on && !held.reacted) return
    held.reacted = true
    held.operations.push("r", conv, String(seq), encodeReaction(seq, emoji, user), on ? "1" : "0")
  }

  clearReactions = (conv: ConversationId, seq: Seq): void => {
    const held = this.get(conv)!
    if (held.reacted) held.operations.push("x", conv, String(seq))
  }

  countByOthers = (conv: ConversationId, user: UserId, after: Seq, upTo: Seq): number => {
    if (upTo <= after) return 0
    const held = this.get(conv)!
    // Those after `seen` are known without counting, and of these those after `upTo` are few as a rule.
    const { own, read } = this.member(conv, user)!
    const unread = held.row.messages - own - read
    if (upTo >= held.row.last) return unread
    if (held.remembers(upTo + 1)) return unread - held.countAfter(upTo, user)
    const counted = this.#counted.get(countKey(conv, user, after, upTo))
    if (counted === undefined) throw new NotFetched()
    if (counted.bound === undefined) return counted.count
    if (!held.remembers(counted.bound + 1)) throw new NotFetched()
    return unread - counted.count - held.countAfter(counted.bound, user)
  }

  /** The operations of the script that writes what is changed, and by how many the members grew. */
  encode(): { readonly operations: ReadonlyArray<string>; readonly grown: number } {
    const out: Array<string> = []
    let grown = 0
    for (const held of this.#dirty) {
      grown += held.row.members - held.writtenMembers
      encodeHeld(held, out)
    }
    return { operations: out, grown }
  }

  /** After what was encoded has been written. */
  written(): void {
    for (const held of this.#dirty) {
      held.written()
      this.#members += held.members.size - held.counted
      held.counted = held.members.size
    }
    this.#dirty.length = 0
    if (this.#young.size * this.#partitions < CONVERSATIONS && this.#members * this.#partitions < MEMBERS) return
    this.#old = this.#young
    this.#young = new Map()
    this.#members = 0
  }

  #touch(held: Held): void {
    if (held.dirty) return
    held.dirty = true
    this.#dirty.push(held)
  }
}

/** A message of which only the author and whether it is deleted are known: nobody reads the rest for a reaction. */
const STANDING: MessageRow = { by: "", at: 0, cid: "", kind: "" }

const encodeHeld = (held: Held, out: Array<string>): void => {
  const { row } = held
  const { conv } = row
  const fields = ["", encodeConversation(row, held.reacted)]
  if (row.title !== undefined && row.title !== held.writtenTitle) fields.push("t", row.title)
  for (const user of held.changed) fields.push(`:${user}`, encodeMember(held.members.get(user)!))
  // What the tail would drop again at once is not sent.
  const entries: Array<string> = []
  for (const seq of held.added.slice(-TAIL)) entries.push(encodeMessage(seq, held.messages.get(seq)!.row))
  for (let i = 0; i < fields.length || i === 0; i += ARGUMENTS) {
    const part = fields.length <= ARGUMENTS ? fields : fields.slice(i, i + ARGUMENTS)
    const added = i === 0 ? entries : []
    out.push("c", conv, String(part.length), String(added.length))
    for (const text of part) out.push(text)
    for (const text of added) out.push(text)
  }
  for (const [seq, message] of held.messages) {
    if (message?.entry === undefined || !message.changed) continue
    out.push("e", conv, message.entry, encodeMessage(seq, message.row))
  }
  for (const text of held.operations) out.push(text)
  if (held.reacted && row.messages > TAIL && (held.added.length > 0 || held.operations.length > 0)) out.push("k", conv)
  if (row.kind === "group" && held.moved.size > 0) {
    const [inside, outside] = [[...held.moved], [...held.moved]].map((users, left) =>
      users.filter((user) => held.members.get(user)!.left > 0 === (left === 1))
    ) as [Array<string>, Array<string>]
    if (inside.length > 0) out.push("o", conv, String(inside.length), ...inside)
    if (outside.length > 0) out.push("q", conv, String(outside.length), ...outside)
  }
  for (const user of held.moved) out.push("u", user, conv, String(held.members.get(user)!.left))
  for (const block of held.blocks) out.push("b", conv, String(block))
  if (held.fresh) out.push("a", conv)
}
