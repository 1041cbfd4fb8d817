/** The event log of a test at rest: read to the end through the port, and judged by itself. */
import { Effect, HashMap } from "effect"
import { type Conversation, evolve, initial } from "../../src/domain/conversation.ts"
import { isTimeline, type StoredEvent } from "../../src/domain/events.ts"
import { decodeCursor } from "../../src/edge/cursor.ts"
import type { EventLog } from "../../src/write-side/EventLog.ts"
import type { ClientHistory, LogEvent } from "./checker.ts"
import type { Evidence } from "./checker-timeline.ts"
import { stateText } from "./sim-observer.ts"

type Log = EventLog["Service"]

/** Opens the log for one look at it. */
export type WithLog = <A, E>(look: (log: Log) => Effect.Effect<A, E>) => Promise<A>

const PAGE = 5_000

export interface WholeLog {
  readonly id: string
  /** Every event, by partition, in the order of positions. */
  readonly partitions: ReadonlyArray<ReadonlyArray<StoredEvent>>
  /** What each conversation comes to. */
  readonly states: ReadonlyMap<string, Conversation>
  /** Every conversation's timeline, as the checker takes it. */
  readonly timelines: Readonly<Record<string, ReadonlyArray<LogEvent>>>
}

/** Reads all of it. */
export const readWholeLog = Effect.fnUntraced(function* (log: Log) {
  const heads = yield* log.heads
  const partitions: Array<Array<StoredEvent>> = []
  for (const [partition, head] of heads.entries()) {
    const events: Array<StoredEvent> = []
    while (events.length < head) {
      const page = yield* log.read(partition, events.length, PAGE)
      events.push(...page)
      // A hole at the end is for whoever judges it.
      if (page.length === 0) break
    }
    partitions.push(events)
  }
  const states = new Map<string, Conversation>()
  const timelines: Record<string, Array<LogEvent>> = {}
  for (const events of partitions) {
    for (const event of events) {
      states.set(event.conv, evolve(states.get(event.conv) ?? initial(event.conv), event, event.position))
      if (!isTimeline(event)) continue
      const { at, by, cid, conv, data, seq, type } = event
      ;(timelines[conv] ??= []).push({ seq, type, by, at, cid, data })
    }
  }
  return { id: log.id, partitions, states, timelines } satisfies WholeLog
})

/** I7 to I9: positions without a hole, documents that are what the events come to, and nothing left in the outbox. */
export const judgeLog = Effect.fnUntraced(function* (log: Log, whole: WholeLog, evidence: Evidence) {
  const heads = yield* log.heads
  for (const [partition, events] of whole.partitions.entries()) {
    const where = `partition ${partition}`
    const last = new Map<string, number>()
    evidence.expect(
      "I8",
      events.length === heads[partition],
      where,
      () => `${events.length} events of ${heads[partition]}`
    )
    for (const [index, event] of events.entries()) {
      evidence.expect("I8", event.position === index + 1, where, () => `position ${event.position} is at ${index + 1}`)
      const prev = last.get(event.conv) ?? 0
      evidence.expect(
        "I7",
        event.prev === prev,
        where,
        () => `${JSON.stringify(event)} follows ${prev} of its conversation`
      )
      if (isTimeline(event)) last.set(event.conv, event.position)
    }
  }
  for (const [conv, state] of whole.states) {
    const kept = yield* log.conversation(conv)
    evidence.expect(
      "I7",
      kept !== undefined && stateText(kept) === stateText(state),
      conv,
      () => `is kept as ${kept === undefined ? "nothing" : stateText(kept)}, and its events come to ${stateText(state)}`
    )
  }
  const outbox = yield* log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 100 })
  evidence.expect("I9", outbox.length === 0, "outbox", () => `still holds ${JSON.stringify(outbox)}`)
})

/** Who is in a conversation at the end. */
export const membersOf = (whole: WholeLog, conv: string): ReadonlySet<string> => {
  const state = whole.states.get(conv)
  return new Set(state === undefined ? [] : HashMap.keys(state.members))
}

/** What the cursors stand for that these clients were given. */
export const cursorsOf = (
  whole: WholeLog,
  clients: ReadonlyArray<ClientHistory>
): Readonly<Record<string, Readonly<Record<string, number>>>> => {
  const found: Record<string, Record<string, number>> = {}
  for (const { sessions } of clients) {
    for (const { entries } of sessions) {
      for (const entry of entries) {
        const cursor = entry.dir === "received" ? entry.frame["cursor"] : undefined
        if (typeof cursor !== "string" || found[cursor] !== undefined) continue
        const vector = decodeCursor(whole.id, whole.partitions.length, cursor)
        if (vector === undefined) continue
        const heads: Record<string, number> = {}
        for (const [partition, events] of whole.partitions.entries()) {
          for (const event of events.slice(0, vector[partition])) if (isTimeline(event)) heads[event.conv] = event.seq
        }
        found[cursor] = heads
      }
    }
  }
  return found
}
