import * as HashMap from "effect/HashMap"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import { initial } from "../domain/conversation.ts"
import { isTimeline, removedBy, type StoredEvent } from "../domain/events.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { type MetricsWriter, metricsWriter } from "../platform/Metrics.ts"
import { about, Tracing, type TracingOn } from "../platform/Tracing.ts"
import { type NodeItem, type RouteId, Router, type RouterUnavailable } from "../platform/Router.ts"
import { address, convOf, isByInterest, type Route, routeOf, streamOf } from "./addressing.ts"
import { type Outgoing, receiptOf } from "./Batch.ts"
import { EventBus, type EventBusUnavailable } from "./EventBus.ts"
import { EventLog, type LogUnavailable, type OutboxEntry, type PartitionHead } from "./EventLog.ts"

/** Commits that wait for the relay; the committer waits when there are more, so that what is not told is not piled up. */
const WAITING_COMMITS = 64
/** Entries of an outbox that are read at once. */
const SWEEP_ENTRIES = 100
/**
 * The age from which an entry is taken for forgotten by whoever wrote it: by the time that it was written, or, where that is of a clock that is ahead, by
 * the time since it was first seen.
 */
export const SWEEP_AFTER_MS = 2_000
/** Events that are read at once from the log, and published at once. */
const READ_EVENTS = 500
/** Conversations whose counts are owed; when there are more they are told at once. */
const OWED_COUNTS = 10_000

/** What a commit has to tell. */
export interface Committed {
  readonly outgoing: ReadonlyArray<Outgoing>
  readonly events: ReadonlyMap<number, ReadonlyArray<StoredEvent>>
  /** The time of the commit, by which its outbox entries are found again. */
  readonly at: number
}

/**
 * The outbox relay of one process: tells the nodes and the event bus what was committed, in order, and only then lets go of
 * the outbox entry. A crash repeats, and never loses.
 */
export class Relay extends Context.Service<
  Relay,
  {
    /** Hands a commit over. Waits while {@link WAITING_COMMITS} are waiting. */
    readonly hand: (committed: Committed) => Effect.Effect<void>
    /** Relays what former owners of these partitions left in their outboxes, before anything newer of them. */
    readonly recover: (heads: ReadonlyArray<PartitionHead>) => Effect.Effect<void, LogUnavailable>
    /** Entries that are relayed and may be removed by the next commit. Whoever takes them removes them or puts them back. */
    readonly takeRelayed: () => ReadonlyArray<OutboxEntry>
    readonly putRelayed: (entries: ReadonlyArray<OutboxEntry>) => void
    /** Waits until everything that was handed over is told, and lets go of its outbox entries: for a process that leaves. */
    readonly drain: Effect.Effect<void>
    /** The work itself: relays what is handed over, sweeps, tells all nodes how far it is. Never ends. */
    readonly run: Effect.Effect<never>
  }
>()("darda/write-side/Relay") {
  static readonly layer: Layer.Layer<Relay, never, EventLog | EventBus | Router> = Layer.effect(
    Relay,
    Effect.gen(function* () {
      const log = yield* EventLog
      const bus = yield* EventBus
      const router = yield* Router
      const queue = yield* Queue.bounded<Committed>(WAITING_COMMITS)
      /** What the nodes are told and the bus is not: nobody who chats waits for the confirms of the bus. */
      const told = yield* Queue.bounded<Committed>(WAITING_COMMITS)
      const metrics = yield* metricsWriter
      const live = new RelayLive(log, bus, router, metrics, yield* Tracing)
      return Relay.of({
        hand: (committed) => {
          live.expect(committed)
          return Queue.offer(queue, committed).pipe(Effect.asVoid)
        },
        recover: (heads) => live.recover(heads),
        takeRelayed: () => live.relayed.splice(0),
        putRelayed: (entries) => void live.relayed.push(...entries),
        drain: live.drain,
        run: Effect.all(
          [
            Effect.forever(
              Queue.takeAll(queue).pipe(
                Effect.tap((commits) => live.tell(commits)),
                Effect.flatMap((commits) => Queue.offerAll(told, commits))
              )
            ),
            Effect.forever(Queue.takeAll(told).pipe(Effect.flatMap((commits) => live.publish(commits)))),
            Effect.forever(
              live.tick.pipe(
                Effect.delay("1 second"),
                Effect.andThen(Effect.sync(() => metrics.update("relayWaiting", Queue.sizeUnsafe(queue))))
              )
            )
          ],
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.andThen(Effect.never))
      })
    })
  )
}

const followedIn = (outgoing: ReadonlyArray<Outgoing>): ReadonlyArray<string> =>
  outgoing.flatMap((item) => (item._tag === "Event" ? (item.event.origin?.traceparent ?? []) : []))

/** Made once: it is asked for with every commit. */
const AGAIN = Schedule.min([Schedule.exponential("20 millis"), Schedule.spaced("1 second")])

/** Until the engine answers: nothing may be skipped, since order is kept by waiting. */
const untilDone = <A>(
  self: Effect.Effect<A, RouterUnavailable | EventBusUnavailable | LogUnavailable>
): Effect.Effect<A> =>
  self.pipe(
    Effect.tapError((error) => Effect.logWarning(`Relay: ${error.message}`)),
    Effect.retry(AGAIN),
    Effect.orDie
  )

/** The events of some commits by partition: in as few runs without a hole as they make, since the bus costs by the run. */
const runsOf = (commits: ReadonlyArray<Committed>): ReadonlyMap<number, ReadonlyArray<ReadonlyArray<StoredEvent>>> => {
  const byPartition = new Map<number, Array<ReadonlyArray<StoredEvent>>>()
  for (const { events } of commits) {
    for (const [partition, run] of events) {
      if (run.length === 0) continue
      const runs = byPartition.get(partition)
      const last = runs?.at(-1)
      if (runs === undefined || last === undefined) byPartition.set(partition, [run])
      else if (last.at(-1)!.position + 1 === run[0]!.position && last.length + run.length <= READ_EVENTS)
        runs[runs.length - 1] = [...last, ...run]
      else runs.push(run)
    }
  }
  return byPartition
}

/**
 * What entries hold, in order, those that follow on one another as one: a writer that dies again and again under load leaves hundreds, and whoever takes over decides
 * nothing before they are told.
 */
const runsTogether = (entries: ReadonlyArray<OutboxEntry>): ReadonlyArray<Omit<OutboxEntry, "at">> => {
  const runs: Array<{ readonly partition: number; readonly from: number; to: number }> = []
  for (const { from, partition, to } of entries.toSorted((a, b) => a.partition - b.partition || a.from - b.from)) {
    const last = runs.at(-1)
    if (last?.partition === partition && last.to + 1 === from) last.to = to
    else runs.push({ partition, from, to })
  }
  return runs
}

const entryKey = (partition: number, from: number): string => `${partition} ${from}`

class RelayLive {
  readonly #log: EventLog["Service"]
  readonly #bus: EventBus["Service"]
  readonly #router: Router["Service"]
  /** Relayed and not yet removed. */
  readonly relayed: Array<OutboxEntry> = []
  /** Relayed but for counts that are owed: they stay in the outbox for so long, so that a crash does not lose these. */
  #unpaid: Array<OutboxEntry> = []
  /** Entries that this process will relay from memory, so that its own sweep leaves them alone. */
  readonly #expected = new Set<string>()
  /** How far each owned partition is relayed without a gap, and whether all nodes have been told. */
  readonly #progress = new Map<number, { position: number; told: boolean }>()
  /** When entries were first seen, as of the last sweep. */
  #seen: ReadonlyMap<string, number> = new Map()
  readonly #owedCounts = new Map<ConversationId, Extract<Outgoing, { readonly _tag: "Receipt" }>>()

  readonly #metrics: MetricsWriter

  readonly #tracing: TracingOn | undefined

  constructor(
    log: EventLog["Service"],
    bus: EventBus["Service"],
    router: Router["Service"],
    metrics: MetricsWriter,
    tracing: TracingOn | undefined
  ) {
    this.#tracing = tracing
    this.#metrics = metrics
    this.#log = log
    this.#bus = bus
    this.#router = router
  }

  expect(committed: Committed): void {
    for (const [partition, events] of committed.events) {
      if (events.length > 0) this.#expected.add(entryKey(partition, events[0]!.position))
    }
  }

  /** The first half: the nodes. */
  readonly tell = Effect.fnUntraced({ self: this }, function* (this: RelayLive, commits: ReadonlyArray<Committed>) {
    const outgoing = commits.length === 1 ? commits[0]!.outgoing : commits.flatMap((commit) => commit.outgoing)
    const reached = new Map<number, number>()
    for (const { events } of commits) {
      for (const [partition, run] of events) if (run.length > 0) reached.set(partition, run[run.length - 1]!.position)
    }
    const progress = Array.from(reached, ([partition, position]): NodeItem => ({
      _tag: "Progress",
      partition,
      position
    }))
    const from = Date.now()
    yield* untilDone(this.#toNodes(outgoing, progress)).pipe(about(this.#tracing, () => followedIn(outgoing)))
    if (this.#tracing !== undefined) this.#trace(this.#tracing, outgoing, from)
    if (this.#owedCounts.size > OWED_COUNTS) yield* this.#payCounts()
  })

  #trace(tracing: TracingOn, outgoing: ReadonlyArray<Outgoing>, from: number): void {
    const followed = followedIn(outgoing)
    for (const traceparent of followed) tracing.part({ name: "relay", traceparent, from, with: followed })
  }

  /** The second half: the event bus, all partitions at once and each in order. Then the entries may leave the outbox. */
  readonly publish = Effect.fnUntraced({ self: this }, function* (this: RelayLive, commits: ReadonlyArray<Committed>) {
    yield* Effect.forEach(
      runsOf(commits),
      ([partition, runs]) => Effect.forEach(runs, (run) => this.#toBus(partition, run), { discard: true }),
      { concurrency: "unbounded", discard: true }
    )
    for (const { at, events, outgoing } of commits) {
      const isOwing = outgoing.some((item) => item._tag === "Receipt" && item.counted)
      for (const [partition, run] of events) {
        if (run.length === 0) continue
        const entry = { partition, from: run[0]!.position, to: run[run.length - 1]!.position, at }
        this.#expected.delete(entryKey(partition, entry.from))
        if (isOwing) this.#unpaid.push(entry)
        else this.relayed.push(entry)
        this.#advance(partition, entry.to)
      }
    }
  })

  /**
   * In order, and all nodes in one append. Who is told of anything, and this process's own node, is told of the progress after the rest, so that
   * the cursors of its clients need not wait for the next tick.
   */
  readonly #toNodes = Effect.fnUntraced(
    { self: this },
    function* (this: RelayLive, outgoing: ReadonlyArray<Outgoing>, progress: ReadonlyArray<NodeItem> = []) {
      const ids = new Set<RouteId>()
      // What a large group is told of a commit is told the same people, again and again.
      const lists = new Set<ReadonlyArray<UserId>>()
      for (const item of outgoing) {
        if (item._tag === "Answer" || (item._tag === "Receipt" && item.counted)) continue
        if (isByInterest(item)) ids.add(convOf(item))
        else lists.add(item.recipients)
      }
      for (const list of lists) for (const user of list) ids.add(user)
      const routes = new Map<string, Route>()
      if (ids.size > 0)
        for (const [node, found] of yield* this.#router.routes([...ids])) routes.set(node, routeOf(new Set(found)))
      const streams = new Map<string, Array<NodeItem>>()
      for (const item of outgoing) {
        if (item._tag === "Answer") {
          streamOf(streams, item.node).push({ _tag: "Answer", answer: item.answer })
        } else if (item._tag === "Receipt" && item.counted) {
          // The newest counts of a conversation are all that is told.
          this.#owedCounts.set(item.conv, item)
        } else {
          address(streams, routes, item)
        }
      }
      if (progress.length > 0) {
        streamOf(streams, this.#router.node)
        for (const stream of streams.values()) stream.push(...progress)
      }
      if (streams.size > 0) yield* this.#router.appendAll(streams)
    }
  )

  #toBus(partition: number, events: ReadonlyArray<StoredEvent>): Effect.Effect<void> {
    return untilDone(this.#bus.publish({ partition, events }))
  }

  #advance(partition: number, position: number): void {
    const known = this.#progress.get(partition)
    if (known === undefined) this.#progress.set(partition, { position, told: false })
    else if (position > known.position) {
      known.position = position
      known.told = false
    }
  }

  readonly recover = Effect.fnUntraced(
    { self: this },
    function* (this: RelayLive, heads: ReadonlyArray<PartitionHead>) {
      for (const { partition, position } of heads) {
        // What is committed here and still waits comes before, or progress would be told past it.
        while (this.#owes(partition)) yield* Effect.sleep("20 millis")
        const until = Number.MAX_SAFE_INTEGER
        while (true) {
          // Those that are relayed and not yet removed come first, and must not hide the others.
          const limit = SWEEP_ENTRIES + this.relayed.length + this.#unpaid.length
          const all = yield* this.#log.outbox({ until, limit, partition })
          const entries = all.filter((entry) => !this.#isMine(entry))
          if (entries.length === 0) break
          yield* this.#relayFromLog(entries)
          yield* this.#log.relayed(entries)
        }
        this.#advance(partition, position)
      }
    }
  )

  #owes(partition: number): boolean {
    for (const key of this.#expected) if (key.startsWith(`${partition} `)) return true
    return false
  }

  #isMine(entry: OutboxEntry): boolean {
    const isIt = ({ from, partition }: OutboxEntry): boolean => partition === entry.partition && from === entry.from
    const isExpected = this.#expected.has(entryKey(entry.partition, entry.from))
    return isExpected || this.relayed.some(isIt) || this.#unpaid.some(isIt)
  }

  /** The events of entries as the log has them, in order, for the members of today and those whom an event removed. */
  readonly #relayFromLog = Effect.fnUntraced(
    { self: this },
    function* (this: RelayLive, entries: ReadonlyArray<OutboxEntry>) {
      this.#metrics.update("outboxLeft", entries.length)
      for (const { from, partition, to } of runsTogether(entries)) {
        let after = from - 1
        while (after < to) {
          const events = yield* this.#log.read(partition, after, Math.min(READ_EVENTS, to - after))
          if (events.length === 0) break
          const states = yield* this.#statesOf(new Set(events.map(({ conv }) => conv)))
          const outgoing: Array<Outgoing> = []
          /** As they are now: the last one of each user says all. */
          const receipts = new Map<string, Outgoing>()
          for (const event of events) {
            const state = states.get(event.conv) ?? initial(event.conv)
            if (isTimeline(event)) {
              const recipients = [...HashMap.keys(state.members), ...removedBy(event)]
              outgoing.push({ _tag: "Event", event, recipients, fromLog: true })
            } else if (HashMap.has(state.members, event.by))
              receipts.set(`${event.conv}\n${event.by}`, { ...receiptOf(state, event), fromLog: true })
          }
          yield* untilDone(this.#toNodes([...outgoing, ...receipts.values()]))
          yield* this.#payCounts()
          yield* this.#toBus(partition, events)
          after = events[events.length - 1]!.position
        }
      }
    }
  )

  readonly #statesOf = Effect.fnUntraced(
    { self: this },
    function* (this: RelayLive, convs: ReadonlySet<ConversationId>) {
      const conversations = [...convs]
      const found = yield* this.#log.prepare({ conversations, cids: [], targets: [], openers: [], openedSince: 0 })
      return new Map(found.conversations.map((state, i) => [conversations[i]!, state]))
    }
  )

  /** Nothing new is handed over any more. */
  readonly drain = Effect.gen({ self: this }, function* (this: RelayLive) {
    while (this.#expected.size > 0) yield* Effect.sleep("10 millis")
    yield* this.#payCounts()
    const done = this.relayed.splice(0)
    // What cannot be let go of is told twice, by whoever finds it.
    if (done.length > 0) yield* Effect.ignore(this.#log.relayed(done))
  })

  /** Once a second: counts that are owed, entries to remove, entries that others forgot, and how far this relay is. */
  readonly tick = Effect.gen({ self: this }, function* (this: RelayLive) {
    yield* this.#payCounts()
    const done = this.relayed.splice(0)
    yield* this.#sweep(done).pipe(
      Effect.catch((error) => {
        this.relayed.push(...done)
        return Effect.logWarning(`Relay: ${error.message}`)
      })
    )
  })

  readonly #payCounts = Effect.fnUntraced({ self: this }, function* (this: RelayLive) {
    const paid = this.#unpaid.splice(0)
    const owed = [...this.#owedCounts.values()].map((item) => ({ ...item, counted: false }))
    this.#owedCounts.clear()
    if (owed.length > 0) yield* untilDone(this.#toNodes(owed))
    this.relayed.push(...paid)
  })

  /** What is in the outbox for longer than it would be if all were well. */
  readonly #overdue = Effect.fnUntraced({ self: this }, function* (this: RelayLive) {
    const limit = SWEEP_ENTRIES + this.#expected.size + this.relayed.length + this.#unpaid.length
    const entries = yield* this.#log.outbox({ until: Number.MAX_SAFE_INTEGER, limit })
    const now = yield* Clock.currentTimeMillis
    const seen = new Map<string, number>()
    let oldest = now
    const overdue = entries.filter(({ at, from, partition }) => {
      const key = entryKey(partition, from)
      const first = this.#seen.get(key) ?? now
      seen.set(key, first)
      const since = Math.min(at, first)
      oldest = Math.min(oldest, since)
      return since <= now - SWEEP_AFTER_MS
    })
    this.#seen = seen
    this.#metrics.update("outboxOverdue", overdue.length)
    this.#metrics.update("outboxAge", overdue.length === 0 ? 0 : (now - oldest) / 1_000)
    return overdue
  })

  readonly #sweep = Effect.fnUntraced(
    { self: this },
    function* (
      this: RelayLive,
      done: ReadonlyArray<OutboxEntry>
    ): Effect.fn.Return<void, LogUnavailable | RouterUnavailable> {
      if (done.length > 0) yield* this.#log.relayed(done)
      const forgotten = (yield* this.#overdue()).filter((entry) => !this.#isMine(entry))
      if (forgotten.length > 0) {
        yield* this.#relayFromLog(forgotten)
        yield* this.#log.relayed(forgotten)
      }

      const progress: Array<Extract<NodeItem, { readonly _tag: "Progress" }>> = []
      for (const [partition, { position, told }] of this.#progress) {
        if (!told) progress.push({ _tag: "Progress", partition, position })
      }
      if (progress.length === 0) return
      const nodes = yield* this.#router.nodes
      yield* this.#router.appendAll(new Map(nodes.map((node) => [node, progress])))
      for (const { partition, position } of progress) {
        const known = this.#progress.get(partition)!
        known.told ||= known.position === position
      }
    }
  )
}
