import type { StoredEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import { countKey, Held, type RowCache } from "./ReadModelsRedisCache.ts"
import { decodeConversation, decodeMember, decodeMessage } from "./ReadModelsRedisRows.ts"

/** Rows of one conversation that its events of a batch concern and that are not in memory. */
export interface Need {
  readonly conv: ConversationId
  /** Nothing of it is in memory. */
  readonly unknown: boolean
  readonly users: Set<UserId>
  readonly removed: Set<UserId>
  readonly seqs: Set<Seq>
  /** Messages after this seq, for a mark that is behind the newest. */
  after: Seq | undefined
}

/**
 * What a batch needs. What cannot be foreseen (a member who becomes admin and leaves within the batch) is not in it, and asking for it then cuts the batch: of the
 * first event of a batch everything is foreseen.
 */
export const needsOf = (cache: RowCache, events: ReadonlyArray<StoredEvent>): ReadonlyArray<Need> => {
  const needs = new Map<ConversationId, Need>()
  /** New messages of the batch. */
  const added = new Map<ConversationId, Set<Seq>>()
  for (const event of events) {
    const held = cache.get(event.conv)
    const need = (): Need => {
      let known = needs.get(event.conv)
      if (known === undefined) {
        known = {
          conv: event.conv,
          unknown: held === undefined,
          users: new Set(),
          removed: new Set(),
          seqs: new Set(),
          after: undefined
        }
        needs.set(event.conv, known)
      }
      return known
    }
    const user = (user: UserId): void => {
      if (held === undefined || (!held.complete && !held.members.has(user))) need().users.add(user)
    }
    if (held === undefined) need()
    switch (event.type) {
      case "message": {
        user(event.by)
        const known = added.get(event.conv)
        if (known === undefined) added.set(event.conv, new Set([event.seq]))
        else known.add(event.seq)
        break
      }
      case "edited":
      case "deleted":
      case "reaction": {
        const { target } = event.data
        if (added.get(event.conv)?.has(target) === true) break
        if (event.type === "reaction" && held?.remembers(target) === true) break
        need().seqs.add(target)
        break
      }
      case "members":
        for (const name of event.data.added ?? []) user(name)
        for (const name of event.data.removed ?? []) {
          if (held === undefined || !held.complete) need().removed.add(name)
        }
        break
      case "created":
        if (held !== undefined) for (const name of event.data.members) user(name)
        break
      case "marked": {
        user(event.by)
        const { seen } = event.data
        if (seen === undefined || (held !== undefined && (seen >= held.row.last || held.remembers(seen + 1)))) break
        const known = need()
        known.after = Math.min(known.after ?? seen, seen)
        break
      }
      case "title":
        break
    }
  }
  return [...needs.values()]
}

/** The arguments by which a script is asked for them. */
export const askFor = (needs: ReadonlyArray<Need>): ReadonlyArray<string> => {
  const out: Array<string> = []
  for (const { after, conv, removed, seqs, users } of needs) {
    for (const user of removed) users.delete(user)
    out.push(conv, String(removed.size + users.size), String(removed.size), String(seqs.size), String(after ?? ""))
    for (const user of removed) out.push(user)
    for (const user of users) out.push(user)
    for (const seq of seqs) out.push(String(seq))
  }
  return out
}

/** What the script answers for one of them. */
export type Answered = readonly [
  fields: ReadonlyArray<string | null>,
  messages: ReadonlyArray<string>,
  tail: ReadonlyArray<string>,
  index: number,
  all: ReadonlyArray<string>
]

/** Puts what was answered into memory. */
export const remember = (
  cache: RowCache,
  partition: number,
  needs: ReadonlyArray<Need>,
  answers: ReadonlyArray<Answered>
): void => {
  for (const [i, { after, conv, removed, seqs, unknown, users }] of needs.entries()) {
    const [[text, title, ...members], messages, tail, index, all] = answers[i]!
    // It begins with this batch.
    if (text === null || text === undefined) continue
    let held = cache.get(conv)
    if (unknown || held === undefined) {
      const { reacted, row } = decodeConversation(conv, partition, text, title ?? null)
      cache.put(conv, (held = new Held(row, reacted, false)))
    }
    for (const [j, user] of [...removed, ...users].entries()) {
      const member = members[j]
      held.members.set(user, member === null || member === undefined ? undefined : decodeMember(user, member))
    }
    for (let j = 0; j < all.length; j += 2) {
      const field = all[j]!
      if (field.startsWith(":")) held.members.set(field.slice(1), decodeMember(field.slice(1), all[j + 1]!))
    }
    if (all.length > 0) held.complete = true
    for (const [j, seq] of [...seqs].entries()) {
      const entry = messages[j] ?? ""
      held.messages.set(seq, entry === "" ? undefined : { row: decodeMessage(entry).row, entry, changed: false })
    }
    if (after !== undefined && tail.length > 0 && !held.remembers(after + 1)) rememberTail(held, after, tail, index)
  }
}

/** Who wrote the newest messages. `index`: of the first of them in the tail; where that is 0 there may be older ones after `after`. */
const rememberTail = (held: Held, after: Seq, tail: ReadonlyArray<string>, index: number): void => {
  held.seqs.length = 0
  held.authors.length = 0
  held.deleted.clear()
  for (const entry of tail) {
    const { row, seq } = decodeMessage(entry)
    held.seqs.push(seq)
    held.authors.push(row.by)
    if (row.deleted === true) held.deleted.add(seq)
  }
  const whole = index > 0 || held.row.messages === tail.length
  held.recentFrom = whole ? after + 1 : held.seqs[0]!
}

/** A mark for which the log must be asked, and between which seqs: (`from`, `to`]. */
export interface MarkToCount {
  readonly key: string
  readonly conv: ConversationId
  readonly user: UserId
  readonly from: Seq
  readonly to: Seq
  readonly bound: Seq | undefined
}

/** Marks of the batch that are behind what is remembered. They are rare: most are at the newest message, or a few behind it. */
export const marksToCount = (cache: RowCache, events: ReadonlyArray<StoredEvent>): ReadonlyArray<MarkToCount> => {
  const marks: Array<MarkToCount> = []
  const seen = new Map<string, Seq>()
  for (const event of events) {
    if (event.type !== "marked" || event.data.seen === undefined) continue
    const held = cache.get(event.conv)
    const member = held?.members.get(event.by)
    if (held === undefined || member === undefined || member.left > 0) continue
    const name = `${event.conv} ${event.by}`
    const after = seen.get(name) ?? member.seen
    const upTo = event.data.seen
    if (upTo <= after) continue
    seen.set(name, upTo)
    // A seq of this batch is remembered when its turn comes.
    if (upTo >= held.row.last || held.remembers(upTo + 1)) continue
    const bound = held.recentFrom - 1
    const key = countKey(event.conv, event.by, after, upTo)
    const { by: user, conv } = event
    marks.push(
      bound - upTo < upTo - after
        ? { key, conv, user, from: upTo, to: bound, bound }
        : { key, conv, user, from: after, to: upTo, bound: undefined }
    )
  }
  return marks
}
