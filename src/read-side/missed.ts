import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import { NAMED_RECEIPTS_MAX, receiptOf } from "../domain/conversation.ts"
import { type ConversationId, dmMembers, type Seq, type UserId } from "../domain/ids.ts"
import { partitionOf, type Vector } from "../domain/partition.ts"
import { REPLAY_PER_CONVERSATION, REPLAY_TOTAL } from "../domain/protocol/limits.ts"
import type { EventReader, LogUnavailable } from "../write-side/EventLog.ts"
import type { MissedConversation, MissedReceipt, MissedRequest } from "./Queries.ts"
import type { InboxEntry } from "./ReadModels.ts"

/** Events read first when looking for where a cursor stands in a conversation: most devices missed a few. */
const FIRST_LOOK = 10
/** Events that are looked through for marks, and at once: what comes in within some seconds. */
const MARKED_EVENTS = 10_000
const MARKED_PAGE = 500

/**
 * Whether the cursor can be used: it is of this log (the edge has seen to that) and not ahead of it, as one is that was given before the log was put
 * back from a backup.
 */
export const usableCursor = ({ barrier, since }: MissedRequest): Vector | undefined =>
  since === undefined || since.some((position, partition) => position > (barrier[partition] ?? 0)) ? undefined : since

/**
 * What a device missed, given the user's conversations: all of them when the request names seqs or has no usable cursor, otherwise at least
 * those in which something happened after it.
 *
 * - after an unusable cursor: `Reset` for every conversation, `Gone` for every one that was left
 * - `Gone` where a removal came after the cursor, and for conversations in `seqs` that the user is not in
 * - `Reset` for a seq beyond the head, for more than 200 events, and for what does not fit into 2,000 events in all
 * - otherwise `Replay`: from what the device says it has, or from the first event after the cursor, whichever is lower. A conversation
 *   without anything after the cursor is replayed too when the device says that it has less than there is.
 */
export const findMissed = Effect.fnUntraced(function* (
  log: EventReader,
  request: MissedRequest,
  entries: ReadonlyArray<Omit<InboxEntry, "members">>
): Effect.fn.Return<ReadonlyArray<MissedConversation>, LogUnavailable> {
  const since = usableCursor(request)
  const seqs = new Map<ConversationId, Seq>(Object.entries(request.seqs))
  const missed: Array<MissedConversation> = []
  let room = REPLAY_TOTAL
  let looks = 0
  for (const { conv, head, left, position } of entries) {
    const given = seqs.get(conv)
    seqs.delete(conv)
    const cursor = since?.[partitionOf(conv, log.partitions)] ?? 0
    if (left > 0) {
      if (left > cursor || given !== undefined) missed.push({ _tag: "Gone", conv })
      continue
    }
    const moved = position > cursor
    if (!moved && (given === undefined || given === head)) continue
    const far = given !== undefined && (given > head || head - given > REPLAY_PER_CONVERSATION)
    if (since === undefined || far || room === 0 || looks >= REPLAY_TOTAL) {
      missed.push({ _tag: "Reset", conv, head })
      continue
    }
    let after = given
    if (moved) {
      looks++
      const atCursor = yield* seqAt(log, conv, head, cursor)
      after = atCursor === undefined ? undefined : Math.min(given ?? head, atCursor)
    }
    if (after === undefined || head - after > Math.min(REPLAY_PER_CONVERSATION, room)) {
      missed.push({ _tag: "Reset", conv, head })
      continue
    }
    room -= head - after
    missed.push({ _tag: "Replay", conv, after, head })
  }
  for (const [conv, seq] of seqs) {
    // A dm in which nobody has written yet is no stranger's conversation.
    const own = dmMembers(conv)?.includes(request.user) === true
    if (!own) missed.push({ _tag: "Gone", conv })
    else if (seq > 0) missed.push({ _tag: "Reset", conv, head: 0 })
  }
  return missed
})

/** The seq of the last event at or before a position; undefined when more than 200 events came after it. */
const seqAt = Effect.fnUntraced(function* (
  log: EventReader,
  conv: ConversationId,
  head: Seq,
  position: number
): Effect.fn.Return<Seq | undefined, LogUnavailable> {
  const before = head + 1
  for (const limit of [FIRST_LOOK, REPLAY_PER_CONVERSATION]) {
    if (limit > FIRST_LOOK && head > REPLAY_PER_CONVERSATION) {
      const [last] = yield* log.timeline(conv, { before: before - REPLAY_PER_CONVERSATION, limit: 1, take: "newest" })
      if (last !== undefined && last.position > position) return undefined
    }
    const events = yield* log.timeline(conv, { before, limit, take: "newest" })
    const first = events.findIndex((event) => event.position > position)
    if (first < 0) return head
    if (first > 0 || events.length < limit) return events[first]!.seq - 1
    if (limit === REPLAY_PER_CONVERSATION) return events[0]!.seq - 1
  }
  return undefined
})

/** What was marked after `since` and up to `until`, as it is now: of every user, and in large groups the counts of the furthest mark. */
export const missedReceipts = Effect.fnUntraced(function* (
  log: EventReader,
  since: Vector,
  until: Vector
): Effect.fn.Return<ReadonlyArray<MissedReceipt>, LogUnavailable> {
  const marked = new Map<ConversationId, Map<UserId, Seq>>()
  let read = 0
  for (const [partition, last] of until.entries()) {
    let after = since[partition] ?? 0
    while (after < last && read < MARKED_EVENTS) {
      const events = yield* log.read(partition, after, Math.min(MARKED_PAGE, last - after))
      if (events.length === 0) break
      for (const event of events) {
        if (event.type !== "marked") continue
        let users = marked.get(event.conv)
        if (users === undefined) marked.set(event.conv, (users = new Map<UserId, Seq>()))
        users.set(event.by, Math.max(users.get(event.by) ?? 0, event.data.seen ?? 0, event.data.delivered ?? 0))
      }
      read += events.length
      after = events.at(-1)!.position
    }
  }
  const found: Array<MissedReceipt> = []
  for (const [conv, marks] of marked) {
    const state = yield* log.conversation(conv)
    if (state === undefined) continue
    const users = [...HashMap.keys(state.members)]
    const furthest = Math.max(...marks.values())
    for (const user of marks.keys()) {
      if (!HashMap.has(state.members, user)) continue
      found.push({ receipt: receiptOf(state, user, furthest), users })
      if (users.length > NAMED_RECEIPTS_MAX) break
    }
  }
  return found
})
