import fc from "fast-check"
import type { Intent } from "../../src/domain/commands.ts"
import { sortedUsers } from "../../src/domain/commands.ts"
import { type Conversation, evolve, initial, memberOf } from "../../src/domain/conversation.ts"
import { decide, type Prior } from "../../src/domain/decide.ts"
import { EVENT_VERSION, type StoredEvent } from "../../src/domain/events.ts"
import { groupConversation } from "../../src/domain/groupId.ts"
import { type ConversationId, dmConversation, type Seq, type UserId } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"

/**
 * A random wish of a user. Its numbers are reduced to what exists when it is carried out, so that most wishes become events and every
 * shrunk one still makes sense.
 */
export interface Wish {
  readonly what: "send" | "edit" | "delete" | "react" | "create" | "members" | "leave" | "title" | "mark"
  readonly user: number
  readonly conv: number
  readonly target: number
  readonly others: ReadonlyArray<number>
  readonly text: string
  readonly on: boolean
  /** Milliseconds by which the clock moves; may be none, and may go back. */
  readonly tick: number
}

const EMOJIS = ["👍", "❤️", "\uE000", "a", "10", "9", "__proto__"]

/** Wishes, mostly messages. */
export const wish: fc.Arbitrary<Wish> = fc.record({
  what: fc.oneof(
    { weight: 8, arbitrary: fc.constant("send" as const) },
    { weight: 3, arbitrary: fc.constantFrom("edit" as const, "delete" as const, "mark" as const) },
    { weight: 3, arbitrary: fc.constantFrom("react" as const, "mark" as const) },
    { weight: 3, arbitrary: fc.constantFrom("create" as const, "members" as const, "leave" as const, "title" as const) }
  ),
  user: fc.nat(1000),
  conv: fc.nat(1000),
  target: fc.nat(1000),
  others: fc.array(fc.nat(1000), { maxLength: 4 }),
  text: fc.string({ minLength: 1, maxLength: 12 }),
  on: fc.boolean(),
  tick: fc.constantFrom(0, 0, 1, 7, 1000, -5)
})

/** Events as the log would hold them, and what they come to. */
export interface History {
  readonly partitions: number
  readonly users: ReadonlyArray<UserId>
  /** In the order in which they happened. */
  readonly events: ReadonlyArray<StoredEvent>
  /** The same, by partition, in the order of positions. */
  readonly logs: ReadonlyArray<ReadonlyArray<StoredEvent>>
  readonly conversations: ReadonlyMap<ConversationId, Conversation>
}

/** Carries wishes out by `decide` and `evolve`; what is refused leaves no event. */
export const carryOut = (
  wishes: Iterable<Wish>,
  options: { readonly partitions?: number; readonly users?: number } = {}
): History => {
  const partitions = options.partitions ?? 4
  const users = Array.from({ length: options.users ?? 6 }, (_, i) => (i === 0 ? "__proto__" : `u${i}`))
  const events: Array<StoredEvent> = []
  const logs = Array.from({ length: partitions }, (): Array<StoredEvent> => [])
  const conversations = new Map<ConversationId, Conversation>()
  const groups: Array<ConversationId> = []
  const authors = new Map<ConversationId, Map<Seq, UserId>>()
  const priors = new Map<string, Prior>()
  let now = 1_700_000_000_000
  let counter = 0

  const pick = <A>(items: ReadonlyArray<A>, n: number): A => items[n % items.length]!
  for (const wish of wishes) {
    now += wish.tick
    const by = pick(users, wish.user)
    // Every 20th command is a repeat of an earlier cid, with the same content or another.
    const cid = `c${wish.target % 20 === 0 ? Math.floor(counter / 2) : counter}`
    counter++
    const known =
      wish.conv % 3 === 0 || groups.length === 0 ? dmConversation(by, pick(users, wish.conv)) : pick(groups, wish.conv)
    const conv = wish.what === "create" ? groupConversation(by, cid) : known
    const state = conversations.get(conv) ?? initial(conv)
    const intent = intentOf(wish, state, users)
    const target = "target" in intent ? intent.target : "replyTo" in intent ? intent.replyTo : undefined
    const decision = decide(
      state,
      { conv, by, cid: intent.type === "mark" ? "" : cid, intent, origin: { node: "n", session: "s" } },
      {
        now,
        prior: priors.get(`${conv} ${by} ${cid}`),
        author: target === undefined ? undefined : authors.get(conv)?.get(target),
        recentDms: 0,
        newDmsPerHour: 60
      }
    )
    if (decision._tag !== "Accepted") continue
    const partition = partitionOf(conv, partitions)
    const log = logs[partition]!
    const event: StoredEvent = {
      ...decision.event,
      v: EVENT_VERSION,
      partition,
      position: log.length + 1,
      prev: state.position
    }
    log.push(event)
    events.push(event)
    conversations.set(conv, evolve(state, event, event.position))
    if (event.type === "created") groups.push(conv)
    if (event.type === "message") authors.set(conv, (authors.get(conv) ?? new Map()).set(event.seq, by))
    if (event.type !== "marked")
      priors.set(`${conv} ${by} ${cid}`, { seq: event.seq, at: event.at, digest: event.digest })
  }
  const history: History = { partitions, users, events, logs, conversations }
  return Object.defineProperty(history, fc.toStringMethod, { enumerable: false, value: () => describe(events) })
}

/** One line an event, so that a counterexample can be read. */
const describe = (events: ReadonlyArray<StoredEvent>): string =>
  events
    .map(
      ({ at, by, conv, data, position, partition, seq, type }) =>
        `\n  ${partition}/${position} ${conv} #${seq} ${type} by ${by} at ${at} ${JSON.stringify(data)}`
    )
    .join("")

const intentOf = (wish: Wish, state: Conversation, users: ReadonlyArray<UserId>): Intent => {
  const target = state.seq === 0 ? 1 : 1 + (wish.target % state.seq)
  const others = sortedUsers(wish.others.map((n) => users[n % users.length]!))
  switch (wish.what) {
    case "send":
      return { type: "send", kind: "text", body: wish.text, ...(wish.on ? {} : { replyTo: target }) }
    case "edit":
      return { type: "edit", target, body: wish.text }
    case "delete":
      return { type: "delete", target }
    case "react":
      return { type: "react", target, emoji: EMOJIS[wish.conv % EMOJIS.length]!, on: wish.on || wish.target % 3 > 0 }
    case "create":
      return { type: "create", members: others, ...(wish.on ? { title: wish.text } : {}) }
    case "members": {
      const remove = others.filter((user) => memberOf(state, user) !== undefined && wish.on)
      return { type: "members", add: others.filter((user) => !remove.includes(user)), remove }
    }
    case "leave":
      return { type: "leave" }
    case "title":
      return { type: "title", title: wish.text }
    case "mark":
      return wish.on ? { type: "mark", seen: target } : { type: "mark", delivered: target }
  }
}

/** Whole histories of up to `wishes` wishes. */
export const history = (
  options: { readonly wishes?: number; readonly partitions?: number; readonly users?: number } = {}
): fc.Arbitrary<History> =>
  fc.array(wish, { maxLength: options.wishes ?? 120, size: "max" }).map((wishes) => carryOut(wishes, options))

/** One history that is always the same for a seed: for tests and measurements that want one of a certain length. */
export const historyOf = (
  seed: number,
  wishes: number,
  options: { readonly partitions?: number; readonly users?: number } = {}
): History => carryOut(fc.sample(wish, { seed, numRuns: wishes }), options)
