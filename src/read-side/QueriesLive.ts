import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import { type Conversation, initial, isBigConversation, MAX_MEMBERS, memberOf } from "../domain/conversation.ts"
import { type ConversationId, dmConversation, dmMembers, isDm, type UserId } from "../domain/ids.ts"
import { partitionOf, type Vector, zeroVector } from "../domain/partition.ts"
import { noConversation } from "../domain/rejections.ts"
import { EventLog, type EventReader, type LogUnavailable } from "../write-side/EventLog.ts"
import { decodeConversationsCursor, encodeConversationsCursor } from "./conversationsCursor.ts"
import { allMemberships, conversationsFromLog, membersOf, pageFromLog, wireEvent } from "./fromLog.ts"
import { findMissed, missedReceipts, usableCursor } from "./missed.ts"
import { fitting, jsonBytes } from "./paging.ts"
import { type MissedRequest, Queries, QueryRefused } from "./Queries.ts"
import {
  type Access,
  type InboxEntry,
  type Page,
  type PageRequest,
  ReadModels,
  type ReadModelsUnavailable
} from "./ReadModels.ts"
import { receiptsOf } from "./Store.ts"

/** How long an answer waits for the read models to have what the asker has seen; then the log answers. */
const BEHIND_MS = 500
/** How long the read models may take to answer; then the log answers. */
const ANSWER_MS = 2_000
/** Conversations of a user that are read at once. */
const INBOX_PAGE = 1_000
/** Inboxes of others that are read at once for one question: those on their way together are one round trip. */
const INBOXES_AT_ONCE = 50

/** Answers from the read models, and from the log where they are behind or away. */
export const layer: Layer.Layer<Queries, never, ReadModels | EventLog> = Layer.effect(
  Queries,
  Effect.gen(function* () {
    return Queries.of(make(yield* ReadModels, yield* EventLog))
  })
)

type Refusal = ReadModelsUnavailable | LogUnavailable | QueryRefused

const make = (readModels: ReadModels["Service"], log: EventReader): Queries["Service"] => {
  const { partitions } = log

  const answer = <A>(atLeast: Vector, models: Effect.Effect<A, Refusal>, instead: Effect.Effect<A, Refusal>) => {
    // Models that were emptied while they were read say that there is nothing, or nobody.
    const checked = Effect.flatMap(Effect.result(models), (found) =>
      Effect.flatMap(readModels.reached(atLeast, 0), (still) => (still ? Effect.fromResult(found) : instead))
    )
    return readModels.reached(atLeast, BEHIND_MS).pipe(
      Effect.flatMap((reached) => (reached ? checked : instead)),
      Effect.timeoutOrElse({ duration: BEHIND_MS + ANSWER_MS, orElse: () => instead }),
      Effect.catchTag("ReadModelsUnavailable", () => instead),
      Effect.catchTags({ ReadModelsUnavailable: unavailable, LogUnavailable: unavailable })
    )
  }

  /** What an answer about one conversation must include: other partitions may be behind. */
  const only = (conv: ConversationId, atLeast: Vector): Vector => {
    const vector = [...zeroVector(partitions)]
    const partition = partitionOf(conv, partitions)
    vector[partition] = atLeast[partition] ?? 0
    return vector
  }
  const accessOf = (user: UserId, conv: ConversationId): Effect.Effect<Access, Refusal> =>
    Effect.flatMap(readModels.access(conv, user), (access) => {
      if (access?.member === true) return Effect.succeed(access)
      return access === undefined && isOwnDm(conv, user) ? Effect.succeed({ member: true, head: 0 }) : stranger(conv)
    })
  /** The conversation from the log, for a member. */
  const stateOf = (user: UserId, conv: ConversationId): Effect.Effect<Conversation, Refusal> =>
    Effect.flatMap(log.conversation(conv), (known) => {
      const state = known ?? initial(conv)
      return memberOf(state, user) === undefined ? stranger(conv) : Effect.succeed(state)
    })

  const history = (user: UserId, request: PageRequest & { readonly conv: ConversationId }, atLeast: Vector) => {
    const { conv, ...page } = request
    const instead = Effect.flatMap(stateOf(user, conv), (state) => pageFromLog(log, state, page))
    // Access last: who is a member after the page was read may read all of it, and one removed meanwhile gets nothing of it.
    const models = Effect.gen(function* () {
      const found = yield* readModels.page(conv, page)
      yield* accessOf(user, conv)
      return found ?? emptyPage(conv)
    })
    return answer(only(conv, atLeast), models, instead)
  }

  const sync: Queries["Service"]["sync"] = (user, { after, conv, limit }, atLeast) => {
    const head = answer(
      only(conv, atLeast),
      Effect.map(accessOf(user, conv), (access) => access.head),
      Effect.map(stateOf(user, conv), (state) => state.seq)
    )
    return Effect.gen(function* () {
      const known = yield* head
      // Not past the head at which the user was a member: a removal may be what comes next.
      const found =
        after >= known ? [] : yield* log.timeline(conv, { after, before: known + 1, limit: limit + 1, take: "oldest" })
      const events = found.slice(0, limit).map(wireEvent)
      const count = fitting(events.map(jsonBytes))
      return { events: events.slice(0, count), head: known, more: found.length > count }
    }).pipe(Effect.catchTag("LogUnavailable", unavailable))
  }

  const convs: Queries["Service"]["convs"] = (user, { after, limit }, atLeast) => {
    const before = after === undefined ? undefined : decodeConversationsCursor(after)
    if (after !== undefined && before === undefined) {
      return Effect.fail(
        new QueryRefused({
          code: "bad_request",
          message: `"after" is not a cursor that this server gave out; leave it out to begin anew.`
        })
      )
    }
    return answer(
      atLeast,
      readModels.conversations(user, before, limit),
      conversationsFromLog(log, user, before, limit)
    ).pipe(
      Effect.map(({ items, more }) => {
        const last = items.at(-1)
        return {
          items: items.map(({ item }) => item),
          ...(more && last !== undefined
            ? { next: encodeConversationsCursor({ at: last.at, conv: last.item.conv }) }
            : {})
        }
      })
    )
  }

  const roster: Queries["Service"]["roster"] = (user, { after = "", conv, limit }, atLeast) => {
    const instead = Effect.map(stateOf(user, conv), (state) =>
      membersOf(state)
        .filter((member) => member.user > after)
        .slice(0, limit + 1)
        .map(({ admin, since, user }) => ({ user, admin, since }))
    )
    const models = Effect.gen(function* () {
      const found = yield* readModels.roster(conv, after, limit + 1)
      const access = yield* accessOf(user, conv)
      // Nobody found: it may have begun between the two, and the log knows.
      return access.head === 0 || found.length === 0 ? yield* instead : found
    })
    return Effect.map(answer(only(conv, atLeast), models, instead), (found) => {
      const members = found.slice(0, limit)
      return { members, ...(found.length > limit ? { next: members.at(-1)!.user } : {}) }
    })
  }

  /** A user's conversations in which anything happened past a vector, those that they have left too. */
  const inboxOf = Effect.fnUntraced(function* (user: UserId, since: Vector) {
    const found: Array<InboxEntry> = []
    for (;;) {
      const page = yield* readModels.inbox(user, since, found.at(-1)?.conv ?? "", INBOX_PAGE)
      found.push(...page)
      if (page.length < INBOX_PAGE) return found
    }
  })

  const missed = Effect.fn("Queries.missed")(
    function* (request: MissedRequest) {
      // Seqs may name conversations in which nothing happened since: then all of them are needed.
      const everything = usableCursor(request) === undefined || Object.keys(request.seqs).length > 0
      const since = everything ? zeroVector(partitions) : request.since!
      const models = inboxOf(request.user, since)
      const instead = Effect.map(allMemberships(log, request.user), (memberships) =>
        memberships.map(({ conv, left, position, seq }) => ({ conv, head: seq, position, left }))
      )
      const entries = yield* answer<ReadonlyArray<Omit<InboxEntry, "members">>>(request.barrier, models, instead)
      return yield* findMissed(log, request, entries)
    },
    Effect.catchTag("LogUnavailable", unavailable)
  )

  const audience: Queries["Service"]["audience"] = (user, conv, atLeast) =>
    answer<ReadonlyArray<UserId>>(
      only(conv, atLeast),
      Effect.flatMap(accessOf(user, conv), ({ head }) =>
        head === 0
          ? Effect.succeed(dmMembers(conv)!)
          : Effect.map(readModels.roster(conv, "", MAX_MEMBERS), (members) => members.map((member) => member.user))
      ),
      Effect.map(stateOf(user, conv), (state) => [...HashMap.keys(state.members)])
    ).pipe(
      Effect.catchIf(
        (error) => error.code === "not_found",
        () => Effect.succeed(undefined)
      )
    )

  const bigConversations: Queries["Service"]["bigConversations"] = (user, atLeast) =>
    answer(
      atLeast,
      Effect.map(inboxOf(user, zeroVector(partitions)), (entries) =>
        entries
          .filter(({ conv, left, members }) => left === 0 && isBigConversation(conv, members))
          .map(({ conv }) => conv)
      ),
      Effect.map(allMemberships(log, user), (memberships) =>
        memberships.filter(({ conv, left }) => left === 0 && !isDm(conv)).map(({ conv }) => conv)
      )
    )

  const standing: Queries["Service"]["standing"] = (conv, users, atLeast) => {
    const models = Effect.gen(function* () {
      const found = yield* Effect.forEach(users, (user) => readModels.access(conv, user), {
        concurrency: INBOXES_AT_ONCE
      })
      // Each is of its own moment: what is at the lowest head was there for all of them.
      const heads = found.flatMap((access) => (access?.member === true ? [access.head] : []))
      return {
        members: users.filter((_, i) => found[i]?.member === true),
        head: heads.length === 0 ? 0 : Math.min(...heads)
      }
    })
    const instead = Effect.map(log.conversation(conv), (state = initial(conv)) => ({
      members: users.filter((user) => HashMap.has(state.members, user)),
      head: state.seq
    }))
    return answer(only(conv, atLeast), models, instead)
  }

  const acquainted: Queries["Service"]["acquainted"] = (user, users, atLeast) => {
    /** `inbox`: all conversations of one user, those that they have left too. */
    const among = Effect.fnUntraced(function* <E>(
      inbox: (user: UserId) => Effect.Effect<ReadonlyArray<{ readonly conv: ConversationId; readonly left: number }>, E>
    ) {
      const own = new Set<ConversationId>()
      for (const { conv, left } of yield* inbox(user)) if (left === 0) own.add(conv)
      return yield* Effect.filter(
        users,
        (other) => {
          if (other === user || own.has(dmConversation(user, other))) return Effect.succeed(true)
          if (own.size === 0) return Effect.succeed(false)
          return Effect.map(inbox(other), (theirs) => theirs.some(({ conv, left }) => left === 0 && own.has(conv)))
        },
        { concurrency: INBOXES_AT_ONCE }
      )
    })
    return answer(
      atLeast,
      among((one) => inboxOf(one, zeroVector(partitions))),
      among((one) => allMemberships(log, one))
    )
  }

  return {
    history,
    sync,
    convs,
    roster,
    missed,
    pull: (conv, after, limit) =>
      Effect.catchTag(log.timeline(conv, { after, limit, take: "oldest" }), "LogUnavailable", unavailable),
    audience,
    bigConversations,
    standing,
    receipts: (since, until) => Effect.catchTag(missedReceipts(log, since, until), "LogUnavailable", unavailable),
    acquainted
  }
}

const emptyPage = (conv: ConversationId): Page => ({
  messages: [],
  head: 0,
  more: false,
  receipts: receiptsOf(membersOf(initial(conv)))
})

/** A direct conversation of one's own exists before its first message: it is empty. */
const isOwnDm = (conv: ConversationId, user: UserId): boolean => dmMembers(conv)?.includes(user) === true

const unavailable = (error: ReadModelsUnavailable | LogUnavailable): Effect.Effect<never, QueryRefused> =>
  Effect.fail(new QueryRefused({ code: "unavailable", message: `${error.message} Try again in a few seconds.` }))

const stranger = (conv: ConversationId): Effect.Effect<never, QueryRefused> =>
  Effect.fail(new QueryRefused({ code: "not_found", message: noConversation(conv).message }))
