import * as Effect from "effect/Effect"
import { NAMED_RECEIPTS_MAX } from "../domain/conversation.ts"
import { type ConversationId, dmMembers, type UserId } from "../domain/ids.ts"
import { partitionOf, type Vector } from "../domain/partition.ts"
import type { Member } from "../domain/protocol/server-frames.ts"
import { makeRedisBatch } from "../platform/RedisBatch.ts"
import type { RedisCommand } from "../platform/RedisConnection.ts"
import { makeGather } from "./gather.ts"
import { choose, fitting, jsonBytes, lookups } from "./paging.ts"
import type { MemberRow } from "./projection.ts"
import {
  type Access,
  type Conversations,
  type ConversationsBefore,
  type InboxEntry,
  type Page,
  type PageRequest,
  type ReadModels,
  type ReadModelsUnavailable
} from "./ReadModels.ts"
import { pointerKey, type RedisSet, redisAway, unavailable } from "./ReadModelsRedisApply.ts"
import type { Older } from "./ReadModelsRedisOlder.ts"
import type { RedisProgress } from "./ReadModelsRedisProgress.ts"
import {
  decodeConversation,
  decodeMember,
  decodeReactions,
  seqOf,
  tailMessage,
  type TailMessage
} from "./ReadModelsRedisRows.ts"
import { conversationItem, receiptsOf } from "./Store.ts"

type Texts = ReadonlyArray<string | null>
type Reads = Pick<ReadModels["Service"], "access" | "page" | "roster" | "conversations" | "inbox">

/** Members read at once: a large group's keep Redis from everything else for milliseconds. */
const ROSTER_PAGE = 1_000
/** Users whose inboxes are read in one script. */
const INBOXES = 50

/** Stands for a message that is there and will not be part of the page. */
const ANOTHER: TailMessage = {
  seq: 0,
  bytes: 0,
  message: () => {
    throw new Error("more messages than were asked for")
  }
}

/** Rows that are there, of members who have not left. */
const membersOf = (users: ReadonlyArray<UserId>, rows: Texts): ReadonlyArray<MemberRow> => {
  const found: Array<MemberRow> = []
  for (const [i, user] of users.entries()) {
    const text = rows[i]
    if (text === null || text === undefined) continue
    const member = decodeMember(user, text)
    if (member.left === 0) found.push(member)
  }
  return found
}

/** Answers from the live set. What is not in it any more (messages older than the tail) comes from `older`. */
export const makeReads = Effect.fnUntraced(function* (
  set: RedisSet,
  progress: RedisProgress,
  older: Older
): Effect.fn.Return<Reads> {
  const { partitions } = set
  const batch = yield* makeRedisBatch(set.redis)

  /** Runs read scripts of several partitions in one round trip, and answers what each found after the pointer. */
  const ask = Effect.fnUntraced(function* (
    operation: string,
    calls: ReadonlyArray<readonly [partition: number, script: string, args: ReadonlyArray<string | number>]>
  ): Effect.fn.Return<ReadonlyArray<ReadonlyArray<unknown>>, ReadModelsUnavailable> {
    const commands = calls.map(([partition, script, args]): RedisCommand => [
      script,
      1,
      pointerKey(set, partition),
      args
    ])
    const told = progress.told()
    const replies = (yield* Effect.mapError(batch(operation, commands), redisAway)) as ReadonlyArray<
      readonly [string, ...ReadonlyArray<unknown>]
    >
    for (const [i, [pointer]] of replies.entries()) yield* progress.read(calls[i]![0], pointer, told)
    return replies.map((reply) => reply.slice(1))
  })
  const askOne = (operation: string, conv: ConversationId, script: string, args: ReadonlyArray<string | number>) =>
    Effect.map(ask(operation, [[partitionOf(conv, partitions), script, [conv, ...args]]]), ([found]) => found!)
  const askAll = (operation: string, script: string, args: (partition: number) => ReadonlyArray<string | number>) =>
    ask(
      operation,
      Array.from({ length: partitions }, (_, partition) => [partition, script, args(partition)] as const)
    )

  const access = Effect.fnUntraced(function* (
    conv: ConversationId,
    user: UserId
  ): Effect.fn.Return<Access | undefined, ReadModelsUnavailable> {
    const [row, member] = (yield* askOne("access", conv, "dardaAccess", [user])) as Texts
    if (row === null || row === undefined) return undefined
    return {
      member: member !== null && member !== undefined && decodeMember(user, member).left === 0,
      head: decodeConversation(conv, 0, row, null).row.head
    }
  })

  const page = Effect.fnUntraced(function* (
    conv: ConversationId,
    request: PageRequest
  ): Effect.fn.Return<Page | undefined, ReadModelsUnavailable> {
    const wanted = lookups(request)
    const reply = yield* askOne("page", conv, "dardaPage", [
      wanted.older?.before ?? 0,
      wanted.older?.limit ?? 0,
      wanted.newer?.after ?? 0,
      wanted.newer?.limit ?? 0,
      ...(dmMembers(conv) ?? [])
    ])
    if (reply.length === 0) return undefined
    const [text, kept, first, below, above, reacted, users, rows] = reply as unknown as readonly [
      string,
      number,
      string | null,
      ReadonlyArray<string>,
      ReadonlyArray<string>,
      ReadonlyArray<string>,
      ReadonlyArray<UserId>,
      Texts
    ]
    const { row } = decodeConversation(conv, 0, text, null)
    const reactions = decodeReactions(reacted)
    const taken = (entry: string): TailMessage => tailMessage(conv, entry, reactions)
    // Nearest to the bound first.
    const found = { older: below.map(taken).reverse(), newer: above.map(taken) }
    if (row.messages > kept && first !== null) {
      const oldest = seqOf(first)
      const missing = (wanted.older?.limit ?? 0) - found.older.length
      // One more than is asked for would only tell that there are more, which is known.
      if (missing === 1 && found.older.length >= request.limit) found.older.push(ANOTHER)
      else if (wanted.older !== undefined && missing > 0) {
        const before = Math.min(wanted.older.before, oldest)
        found.older.push(...(yield* older.below(row, oldest, before, missing)))
      }
      if (wanted.newer !== undefined && wanted.newer.after < oldest - 1) {
        const more = yield* older.above(row, oldest, wanted.newer.after, wanted.newer.limit)
        found.newer = [...more, ...found.newer].slice(0, wanted.newer.limit)
      }
    }
    const { chosen, more } = choose(request, found.older, found.newer)
    return {
      messages: chosen.map(({ message }) => message()),
      head: row.head,
      more,
      ...(row.members > NAMED_RECEIPTS_MAX ? {} : { receipts: receiptsOf(membersOf(users, rows)) })
    }
  })

  const roster = Effect.fnUntraced(function* (
    conv: ConversationId,
    after: UserId,
    limit: number
  ): Effect.fn.Return<ReadonlyArray<Member>, ReadModelsUnavailable> {
    const found: Array<Member> = []
    const pair = dmMembers(conv)
    while (found.length < limit) {
      const most = Math.min(ROSTER_PAGE, limit - found.length)
      const reply = yield* askOne("roster", conv, "dardaRoster", [found.at(-1)?.user ?? after, most, ...(pair ?? [])])
      const [users, rows] = reply as unknown as readonly [ReadonlyArray<UserId>, Texts]
      for (const { admin, since, user } of membersOf(users, rows)) {
        if (pair === undefined || user > after) found.push({ user, admin, since })
      }
      if (pair !== undefined || users.length < most) break
    }
    return found.slice(0, limit)
  })

  const conversations = Effect.fnUntraced(function* (
    user: UserId,
    before: ConversationsBefore | undefined,
    limit: number
  ): Effect.fn.Return<Conversations, ReadModelsUnavailable> {
    const own: Array<{ readonly conv: ConversationId; readonly at: number; readonly partition: number }> = []
    const lists = (yield* askAll("list", "dardaList", () => [user])) as unknown as ReadonlyArray<
      readonly [ReadonlyArray<string>]
    >
    for (const [partition, [list]] of lists.entries()) {
      for (let i = 0; i < list.length; i += 2) {
        const conv = list[i]!
        const { at } = decodeConversation(conv, partition, list[i + 1]!, null).row
        if (before === undefined || at < before.at || (at === before.at && conv < before.conv))
          own.push({ conv, at, partition })
      }
    }
    own.sort((a, b) => (a.at !== b.at ? b.at - a.at : a.conv < b.conv ? 1 : -1))
    const chosen = own.slice(0, limit)
    const byPartition = Map.groupBy(chosen, ({ partition }) => partition)
    const replies = yield* ask(
      "conversations",
      Array.from(byPartition, ([partition, list]) => [partition, "dardaItems", [user, ...list.map(({ conv }) => conv)]])
    )
    const found = new Map<ConversationId, ReadonlyArray<unknown>>()
    for (const [i, list] of [...byPartition.values()].entries()) {
      const [answers] = replies[i] as unknown as readonly [ReadonlyArray<ReadonlyArray<unknown>>]
      for (const [j, { conv }] of list.entries()) found.set(conv, answers[j]!)
    }
    const items: Array<Conversations["items"][number]> = []
    for (const { at, conv, partition } of chosen) {
      const [text, title, me, names, last, reacted] = found.get(conv) as unknown as readonly [
        string | undefined,
        string | null,
        string | null,
        ReadonlyArray<UserId>,
        string | null,
        ReadonlyArray<string>
      ]
      // Removed between the two looks.
      if (text === undefined || me === null) continue
      const member = decodeMember(user, me)
      if (member.left > 0) continue
      const { row } = decodeConversation(conv, partition, text, title)
      const members = row.members > NAMED_RECEIPTS_MAX ? undefined : (dmMembers(conv) ?? names)
      const message = last === null ? undefined : tailMessage(conv, last, decodeReactions(reacted)).message()
      // In the place that the list gave it: it may have moved on since, and the next page begins after its last place.
      items.push({ ...conversationItem(row, member, members, message), at })
    }
    const count = fitting(items.map(({ item }) => jsonBytes(item)))
    return { items: items.slice(0, count), more: own.length > limit || items.length > count }
  })

  /** What users missed, each as conversation, removal and row, by partition: many attach in the same moment, and every partition is asked once. */
  const missed = yield* makeGather(
    INBOXES,
    Effect.fnUntraced(function* (asked: ReadonlyArray<{ readonly user: UserId; readonly vector: Vector }>) {
      const replies = (yield* askAll("inbox", "dardaInbox", (partition) =>
        asked.flatMap(({ user, vector }) => [user, vector[partition] ?? 0])
      )) as unknown as ReadonlyArray<readonly [ReadonlyArray<ReadonlyArray<string>>]>
      return asked.map((_, i) => replies.map(([lists]) => lists[i]!))
    }),
    () => unavailable("inbox", "too many wait for theirs already")
  )
  const inbox = Effect.fnUntraced(function* (
    user: UserId,
    vector: Vector,
    after: ConversationId,
    limit: number
  ): Effect.fn.Return<ReadonlyArray<InboxEntry>, ReadModelsUnavailable> {
    const found: Array<InboxEntry> = []
    for (const [partition, list] of (yield* missed({ user, vector })).entries()) {
      for (let i = 0; i < list.length; i += 3) {
        const conv = list[i]!
        if (conv <= after) continue
        const { head, members, position } = decodeConversation(conv, partition, list[i + 2]!, null).row
        found.push({ conv, head, position, left: Number(list[i + 1]), members })
      }
    }
    found.sort((a, b) => (a.conv < b.conv ? -1 : 1))
    return found.slice(0, limit)
  })

  return { access, page, roster, conversations, inbox }
})
