import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import { type Conversation, type Member, NAMED_RECEIPTS_MAX } from "../domain/conversation.ts"
import type { Seq, UserId } from "../domain/ids.ts"
import type { ConversationItem, FoldedMessage, TimelineEvent as WireEvent } from "../domain/protocol/server-frames.ts"
import type { TimelineEvent } from "../domain/events.ts"
import type { EventReader, LogUnavailable, Membership } from "../write-side/EventLog.ts"
import { foldMessages, type MessageEvent } from "./messages.ts"
import { choose, fitting, jsonBytes, lookups, withinReactionBytes } from "./paging.ts"
import type { Conversations, ConversationsBefore, Page, PageRequest } from "./ReadModels.ts"
import { QueryRefused } from "./Queries.ts"
import { receiptsOf } from "./Store.ts"

/** Events read from the log at once, when looking for messages among them. */
const SCAN_PAGE = 500
/** Events read for one answer. Beyond that the answer waits for the read models. */
const SCAN_EVENTS = 50_000
/** A user's conversations, all of which must be looked at to sort them. */
const SCAN_CONVERSATIONS = 2_000

const tooMuch = (what: string): QueryRefused =>
  new QueryRefused({
    code: "unavailable",
    message: `${what} cannot be answered while the read models catch up with the log; try again in a few seconds.`
  })

/** An event as clients are given it: without what only the log needs. */
export const wireEvent = ({ at, by, cid, conv, data, seq, type }: TimelineEvent): WireEvent =>
  ({ conv, seq, type, by, at, cid, data }) as WireEvent

export const isMessage = (event: TimelineEvent): event is MessageEvent => event.type === "message"

/** Members in the order of ids. */
export const membersOf = (state: Conversation): ReadonlyArray<Member> =>
  [...HashMap.values(state.members)].sort((a, b) => (a.user < b.user ? -1 : 1))

/** All conversations that a user is or was in. */
export const allMemberships = Effect.fnUntraced(function* (
  log: EventReader,
  user: UserId
): Effect.fn.Return<ReadonlyArray<Membership>, LogUnavailable> {
  const found: Array<Membership> = []
  for (;;) {
    const page = yield* log.memberships(user, found.at(-1)?.conv ?? "", 1_000)
    found.push(...page)
    if (page.length < 1_000) return found
  }
})

/** Messages beyond a bound and up to the state's head, nearest to the bound first. Nothing after the head: it may come after a removal. */
const scan = Effect.fnUntraced(function* (
  log: EventReader,
  { conv, seq }: Conversation,
  bound: { readonly before: Seq } | { readonly after: Seq },
  limit: number
): Effect.fn.Return<ReadonlyArray<MessageEvent>, LogUnavailable | QueryRefused> {
  const older = "before" in bound
  const found: Array<MessageEvent> = []
  let slice = older ? { before: Math.min(bound.before, seq + 1) } : { after: bound.after, before: seq + 1 }
  for (let read = 0; read < SCAN_EVENTS; read += SCAN_PAGE) {
    const events = yield* log.timeline(conv, { ...slice, limit: SCAN_PAGE, take: older ? "newest" : "oldest" })
    const messages = events.filter(isMessage)
    found.push(...(older ? messages.reverse() : messages))
    if (found.length >= limit || events.length < SCAN_PAGE) return found.slice(0, limit)
    slice = older ? { before: events[0]!.seq } : { after: events.at(-1)!.seq, before: seq + 1 }
  }
  return yield* tooMuch(`This part of ${conv}`)
})

const fold = (log: EventReader, { conv, seq }: Conversation, messages: ReadonlyArray<MessageEvent>) =>
  messages.length === 0
    ? Effect.succeed([])
    : Effect.map(
        log.amendments(
          conv,
          messages.map((message) => message.seq)
        ),
        (amendments) =>
          foldMessages(
            messages,
            amendments.filter((event) => event.seq <= seq)
          ).map(withinReactionBytes)
      )

/** The page that the read models would answer. */
export const pageFromLog = Effect.fnUntraced(function* (
  log: EventReader,
  state: Conversation,
  request: PageRequest
): Effect.fn.Return<Page, LogUnavailable | QueryRefused> {
  const { newer, older } = lookups(request)
  const below = older === undefined ? [] : yield* scan(log, state, { before: older.before }, older.limit)
  const above = newer === undefined ? [] : yield* scan(log, state, { after: newer.after }, newer.limit)
  const folded = yield* fold(log, state, [...below, ...above])
  const candidates = folded.map((message) => ({ message, bytes: jsonBytes(message) }))
  const { chosen, more } = choose(request, candidates.slice(0, below.length), candidates.slice(below.length))
  return {
    messages: chosen.map(({ message }) => message),
    head: state.seq,
    more,
    ...(HashMap.size(state.members) > NAMED_RECEIPTS_MAX ? {} : { receipts: receiptsOf(membersOf(state)) })
  }
})

/** Unread messages of a user, counted; and the newest message. */
const unreadAndLast = Effect.fnUntraced(function* (
  log: EventReader,
  state: Conversation,
  me: Member
): Effect.fn.Return<
  { readonly unread: number; readonly last: FoldedMessage | undefined },
  LogUnavailable | QueryRefused
> {
  let unread = 0
  let after = me.seen
  for (let read = 0; after < state.seq; read += SCAN_PAGE) {
    if (read >= SCAN_EVENTS) return yield* tooMuch("The list of conversations")
    const events = yield* log.timeline(state.conv, { after, before: state.seq + 1, limit: SCAN_PAGE, take: "oldest" })
    if (events.length === 0) break
    for (const event of events) if (isMessage(event) && event.by !== me.user) unread++
    after = events.at(-1)!.seq
  }
  const newest = yield* scan(log, state, { before: Number.MAX_SAFE_INTEGER }, 1)
  return { unread, last: (yield* fold(log, state, newest))[0] }
})

/** The page of a user's conversations that the read models would answer. */
export const conversationsFromLog = Effect.fnUntraced(function* (
  log: EventReader,
  user: UserId,
  before: ConversationsBefore | undefined,
  limit: number
): Effect.fn.Return<Conversations, LogUnavailable | QueryRefused> {
  const memberships = (yield* allMemberships(log, user)).filter(({ left }) => left === 0)
  if (memberships.length > SCAN_CONVERSATIONS) return yield* tooMuch("The list of conversations")
  const found: Array<Conversation> = []
  for (const { conv } of memberships) {
    const state = yield* log.conversation(conv)
    if (state === undefined || state.seq === 0 || !HashMap.has(state.members, user)) continue
    if (before === undefined || state.at < before.at || (state.at === before.at && conv < before.conv))
      found.push(state)
  }
  found.sort((a, b) => (a.at !== b.at ? b.at - a.at : a.conv < b.conv ? 1 : -1))
  const items: Array<{ readonly item: ConversationItem; readonly at: number }> = []
  for (const state of found.slice(0, limit)) {
    const me = HashMap.getUnsafe(state.members, user)
    const { last, unread } = yield* unreadAndLast(log, state, me)
    const small = HashMap.size(state.members) <= NAMED_RECEIPTS_MAX
    items.push({
      at: state.at,
      item: {
        conv: state.conv,
        kind: state.kind,
        ...(state.title === undefined ? {} : { title: state.title }),
        ...(small ? { members: membersOf(state).map((member) => member.user) } : {}),
        head: state.seq,
        seen: me.seen,
        unread,
        ...(last === undefined ? {} : { last })
      }
    })
  }
  const count = fitting(items.map(({ item }) => jsonBytes(item)))
  return { items: items.slice(0, count), more: found.length > count }
})
