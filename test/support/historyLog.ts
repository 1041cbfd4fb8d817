import { Effect } from "effect"
import { changedMembers } from "../../src/domain/changes.ts"
import { type Conversation, evolve, initial, memberOf } from "../../src/domain/conversation.ts"
import type { StoredEvent } from "../../src/domain/events.ts"
import type { ConversationId } from "../../src/domain/ids.ts"
import type { EventLog, MemberRow } from "../../src/write-side/EventLog.ts"
import type { History } from "./histories.ts"

/** Appends a history to an empty log, as a committer would, in batches of `size` events. */
export const appendHistory = Effect.fnUntraced(function* (log: EventLog["Service"], history: History, size = 50) {
  const append = yield* appender(log)
  for (let i = 0; i < history.events.length; i += size) yield* append(history.events.slice(i, i + size))
})

/** Appends events that follow on one another to an empty log, a batch a call. */
export const appender = Effect.fnUntraced(function* (log: EventLog["Service"]) {
  const heads = yield* log.claim(
    Array.from({ length: log.partitions }, (_, partition) => partition),
    "test"
  )
  const positions = heads.map(({ position }) => position)
  const states = new Map<ConversationId, Conversation>()
  return Effect.fnUntraced(function* (events: ReadonlyArray<StoredEvent>) {
    const conversations = new Set<ConversationId>()
    const members = new Map<string, MemberRow>()
    for (const event of events) {
      const before = states.get(event.conv) ?? initial(event.conv)
      const after = evolve(before, event, event.position)
      states.set(event.conv, after)
      if (event.type !== "marked") conversations.add(event.conv)
      for (const user of changedMembers(before, event, after)) {
        const member = memberOf(after, user)
        const gone = { user, admin: false, since: 0, delivered: 0, seen: 0 }
        if (member === undefined && memberOf(before, user) === undefined) continue
        members.set(`${event.conv} ${user}`, {
          ...(member ?? gone),
          conv: event.conv,
          left: member === undefined ? event.position : 0
        })
      }
    }
    const partitions = [...new Set(events.map(({ partition }) => partition))]
    yield* log.append({
      runs: partitions.map((partition) => ({
        partition,
        epoch: heads[partition]!.epoch,
        position: positions[partition]!,
        events: events.filter((event) => event.partition === partition),
        counters: {}
      })),
      conversations: [...conversations].map((conv) => states.get(conv)!),
      members: [...members.values()],
      relayed: [],
      at: 0
    })
    for (const { partition } of events) positions[partition]!++
  })
})
