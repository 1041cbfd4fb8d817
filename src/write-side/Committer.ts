import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { partitionOf } from "../domain/partition.ts"
import { type MetricsWriter, metricsWriter } from "../platform/Metrics.ts"
import { about, Tracing, type TracingOn } from "../platform/Tracing.ts"
import { Batch, type Decided } from "./Batch.ts"
import {
  CommandBus,
  type CommandBatch,
  type CommandBusUnavailable,
  type CommandConsumer,
  type Delivery
} from "./CommandBus.ts"
import { BATCH_COMMANDS, sizeOf } from "./CommandPublisher.ts"
import { type AlreadyInLog, EventLog, type Fenced, LogUnavailable, type PartitionHead } from "./EventLog.ts"
import { Relay } from "./Relay.ts"
import { StateCache } from "./StateCache.ts"

/** How long one commit may take before it is given up and looked up again. */
const COMMIT_TIMEOUT = "20 seconds"

/** Bytes of commands in one commit, about: what an engine takes in one transaction without holding up what comes after it. */
const COMMIT_BYTES = 1024 * 1024

/** Between two tries at commands that came out of order, when there is nothing else to do. */
const JUMP_PAUSE = "50 millis"

/**
 * How long the batches before a jump are waited for. A broker gives back what a process took that stands still when it misses its heartbeats, within 15 s; what has not come
 * after this is lost: a queue that was deleted, a broker that came back without its disk. The partition must not wait for it for ever.
 */
const JUMP_PATIENCE_MS = 20_000

/**
 * For how long after a resend every cid is looked up before it is decided on: resends come together, after a connection or a process was lost. At other times it is
 * left to the log to refuse a cid that is taken, which costs a transaction when it happens and saves a round trip when it does not.
 */
const CAREFUL_MS = 5_000

/** Edges whose jumps are remembered, in any partition. */
const JUMPS = 1_000

export interface CommitterOptions {
  /** This process, as the partition heads name their owner. */
  readonly owner: string
  /** Direct conversations that one user may open within an hour. */
  readonly newDmsPerHour: number
}

/**
 * The actor of the partitions whose commands it is given: takes all that waits, decides it in order, and appends the outcome in one
 * transaction. Only then are the commands acked and their senders answered.
 *
 * Runs until it is interrupted. An engine that is away is waited for; what was not acked is delivered again.
 */
export const runCommitter = (
  options: CommitterOptions
): Effect.Effect<never, CommandBusUnavailable, EventLog | CommandBus | Relay | Scope.Scope> =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const bus = yield* CommandBus
    const relay = yield* Relay
    const consumer = yield* bus.consumer
    const committer = new Committer(options, log, relay, consumer, yield* metricsWriter, yield* Tracing)
    return yield* Effect.forever(
      consumer.take(BATCH_COMMANDS).pipe(Effect.flatMap((deliveries) => committer.commit(deliveries)))
    )
  })

/** The state of one committer: the partitions it owns, and what it remembers of their conversations. */
class Committer {
  readonly #options: CommitterOptions
  readonly #log: EventLog["Service"]
  readonly #relay: Relay["Service"]
  readonly #consumer: CommandConsumer
  readonly #metrics: MetricsWriter
  readonly #tracing: TracingOn | undefined
  readonly #heads = new Map<number, PartitionHead>()
  readonly #states = new StateCache()
  /** Since when batches are missing, by partition and edge. */
  readonly #jumps = new Map<string, number>()
  /** Until when cids are looked up. */
  #carefulUntil = 0

  constructor(
    options: CommitterOptions,
    log: EventLog["Service"],
    relay: Relay["Service"],
    consumer: CommandConsumer,
    metrics: MetricsWriter,
    tracing: TracingOn | undefined
  ) {
    this.#options = options
    this.#log = log
    this.#relay = relay
    this.#consumer = consumer
    this.#metrics = metrics
    this.#tracing = tracing
  }

  /**
   * Commits deliveries, all of them or those that this committer may take: together, unless they are large. Does not return before their fate is
   * known.
   */
  readonly commit = Effect.fnUntraced({ self: this }, function* (this: Committer, deliveries: ReadonlyArray<Delivery>) {
    let rest = deliveries
    let attempt = 0
    while (rest.length > 0) {
      const part = atOnce(rest)
      const result = yield* Effect.result(this.#attempt(part))
      if (result._tag === "Success") {
        const { admitted, jumped } = result.success
        // Acked only now; a crash before this line delivers them again, and their cids answer them.
        for (const delivery of admitted) delivery.ack()
        rest = rest.slice(part.length).filter((delivery) => !jumped.has(delivery.batch.partition))
        attempt = 0
        continue
      }
      const error = result.failure
      this.#metrics.update("commitRetries", 1)
      switch (error._tag) {
        case "Fenced": {
          yield* this.#warn(error.message, part)
          const lost = error.partitions.length === 0 ? rest.map((d) => d.batch.partition) : error.partitions
          for (const partition of new Set(lost)) yield* this.#lose(partition)
          rest = rest.filter((delivery) => !lost.includes(delivery.batch.partition))
          break
        }
        case "AlreadyInLog":
        case "LogUnavailable": {
          // Whether the commit took place is not known: forget what was believed and look it up again.
          yield* this.#warn(error._tag === "AlreadyInLog" ? error.detail : error.message, part)
          for (const delivery of rest) this.#forget(delivery.batch.partition)
          yield* Effect.sleep(Math.min(1000, 20 * 2 ** Math.min(attempt++, 6)))
        }
      }
    }
  })

  #warn(message: string, deliveries: ReadonlyArray<Delivery>): Effect.Effect<void> {
    return Effect.logWarning(message).pipe(about(this.#tracing, () => followedIn(deliveries)))
  }

  /** One try: answers the deliveries that are committed now. Partitions whose deliveries came out of order are given back to the bus. */
  readonly #attempt = Effect.fnUntraced(
    { self: this },
    function* (
      this: Committer,
      deliveries: ReadonlyArray<Delivery>
    ): Effect.fn.Return<Pick<Admission, "admitted" | "jumped">, LogUnavailable | Fenced | AlreadyInLog> {
      yield* this.#own(deliveries)
      const { admitted, jumped } = yield* this.#admit(deliveries)
      for (const partition of jumped) yield* this.#restart(partition)
      if (admitted.length === 0) {
        // What is missing may be long in coming: asked for in a pause, not in a loop.
        yield* Effect.sleep(JUMP_PAUSE)
        return { admitted, jumped }
      }
      const now = yield* Clock.currentTimeMillis
      if (now < this.#carefulUntil || admitted.some(({ batch }) => this.#isRepeat(batch)))
        yield* this.#write(admitted, now, true)
      else {
        yield* this.#write(admitted, now, false).pipe(
          Effect.catchTag("AlreadyInLog", () => this.#write(admitted, now, true))
        )
      }
      return { admitted, jumped }
    }
  )

  #isRepeat({ counter, edge, partition }: CommandBatch): boolean {
    return counter <= (this.#heads.get(partition)!.counters[edge] ?? 0)
  }

  /** Decides and commits. Unless it is `careful`, cids are taken for new where nothing else has to be looked up; if one is not, nothing is written. */
  readonly #write = Effect.fnUntraced(
    { self: this },
    function* (
      this: Committer,
      deliveries: ReadonlyArray<Delivery>,
      now: number,
      careful: boolean
    ): Effect.fn.Return<void, LogUnavailable | Fenced | AlreadyInLog> {
      const batch = new Batch(
        deliveries.map((delivery) => delivery.batch),
        (conv) => {
          const state = this.#states.get(conv)
          this.#metrics.update(state === undefined ? "cacheMisses" : "cacheHits", 1)
          return state
        }
      )
      const request = batch.request(now)
      const isKnown = careful || request.conversations.length > 0 || request.targets.length > 0
      if (isKnown) batch.prepared(request, yield* this.#log.prepare(request))
      const decided = batch.decide(this.#heads, now, this.#options.newDmsPerHour)
      const outcomes = decided.outgoing.flatMap((item) => (item._tag === "Answer" ? item.answer.outcome._tag : []))
      // What is refused may be a repeat, which is answered as it was whatever has changed since.
      if (!isKnown && outcomes.includes("Rejected")) return yield* this.#write(deliveries, now, true)
      if (outcomes.includes("Repeat")) this.#carefulUntil = now + CAREFUL_MS
      const relayed = this.#relay.takeRelayed()
      const appended = this.#log.append({ ...decided.append, relayed, at: now }).pipe(
        Effect.timeoutOrElse({
          duration: COMMIT_TIMEOUT,
          orElse: () => Effect.fail(unanswered())
        }),
        Effect.tapError(() => Effect.sync(() => this.#relay.putRelayed(relayed)))
      )
      const began = performance.now()
      yield* appended
      this.#metrics.update("commitMillis", performance.now() - began)
      if (this.#tracing !== undefined) trace(this.#tracing, deliveries, now)
      this.#committed(decided)
      yield* this.#relay.hand({ outgoing: decided.outgoing, events: decided.events, at: now })
    }
  )

  /** Which deliveries may be taken now. */
  readonly #admit = Effect.fnUntraced({ self: this }, function* (this: Committer, deliveries: ReadonlyArray<Delivery>) {
    const now = yield* Clock.currentTimeMillis
    const isLost = (key: string): boolean => now - (this.#jumps.get(key) ?? now) >= JUMP_PATIENCE_MS
    const first = admit(deliveries, this.#heads, isLost)
    // What a broker took back from several processes may be in another order than it was.
    const admission = first.missing.size === 0 ? first : admit(inOrder(deliveries), this.#heads, isLost)
    for (const [key, partition] of admission.missing) {
      if (this.#jumps.has(key)) continue
      yield* Effect.logWarning(`Partition ${partition}: commands arrived out of order and are asked for again.`)
      // Another committer may have had the partition meanwhile and taken them: that is known when its head is read again.
      this.#forget(partition)
      this.#jumps.set(key, now)
      if (this.#jumps.size > JUMPS) this.#jumps.delete(this.#jumps.keys().next().value!)
    }
    if (this.#jumps.size === 0) return admission
    for (const { batch } of admission.admitted) {
      const key = jumpKey(batch)
      if (isLost(key))
        yield* Effect.logError(
          `Partition ${batch.partition}: commands of the edge ${batch.edge} before its batch ${batch.counter} are lost. ` +
            "They were in the command bus and have not come out of it; whoever sent them sends them again."
        )
      this.#jumps.delete(key)
    }
    return admission
  })

  /** Takes over the partitions that are new here. Their former owner's leftovers are relayed before anything newer. */
  readonly #own = Effect.fnUntraced({ self: this }, function* (this: Committer, deliveries: ReadonlyArray<Delivery>) {
    const missing = new Set<number>()
    for (const { batch } of deliveries) if (!this.#heads.has(batch.partition)) missing.add(batch.partition)
    if (missing.size === 0) return
    const claimed = yield* this.#log.claim([...missing], this.#options.owner)
    for (const head of claimed) this.#heads.set(head.partition, head)
    this.#carefulUntil = (yield* Clock.currentTimeMillis) + CAREFUL_MS
    yield* this.#relay.recover(claimed)
  })

  #committed(decided: Decided): void {
    this.#metrics.update("commits", 1)
    this.#metrics.update("commands", decided.commands)
    this.#metrics.update("batch", decided.commands)
    this.#metrics.update(
      "events",
      decided.append.runs.reduce((sum, run) => sum + run.events.length, 0)
    )
    for (const run of decided.append.runs) {
      const head = this.#heads.get(run.partition)!
      this.#heads.set(run.partition, {
        ...head,
        position: head.position + run.events.length,
        counters: { ...head.counters, ...run.counters }
      })
    }
    for (const state of decided.states.values()) if (state.seq > 0) this.#states.set(state)
  }

  #forget(partition: number): void {
    this.#heads.delete(partition)
    this.#states.deleteWhere((conv) => partitionOf(conv, this.#log.partitions) === partition)
  }

  readonly #lose = (partition: number): Effect.Effect<void> => {
    this.#forget(partition)
    // What was missing then was missing to somebody else.
    for (const key of this.#jumps.keys()) if (key.startsWith(`${partition} `)) this.#jumps.delete(key)
    return this.#restart(partition)
  }

  readonly #restart = (partition: number): Effect.Effect<void> =>
    this.#consumer.restart(partition).pipe(
      Effect.tapError((error) => Effect.logWarning(error.message)),
      Effect.retry(Schedule.spaced("200 millis")),
      Effect.ignore
    )
}

const followedIn = (deliveries: ReadonlyArray<Delivery>): ReadonlyArray<string> =>
  deliveries.flatMap(({ batch }) => batch.commands.flatMap(({ traceparent }) => traceparent ?? []))

/** Tells of the commit to whoever follows one of its commands: from when it was decided. */
const trace = (tracing: TracingOn, deliveries: ReadonlyArray<Delivery>, from: number): void => {
  const commands = deliveries.reduce((sum, { batch }) => sum + batch.commands.length, 0)
  const followed = followedIn(deliveries)
  for (const traceparent of followed)
    tracing.part({ name: "commit", traceparent, from, with: followed, attributes: { commands } })
}

const unanswered = (): LogUnavailable =>
  new LogUnavailable({ operation: "append", reason: `no answer within ${COMMIT_TIMEOUT}`, cause: undefined })

interface Admission {
  readonly admitted: ReadonlyArray<Delivery>
  readonly jumped: ReadonlySet<number>
  /** The partitions in which batches are missing, by partition and edge. */
  readonly missing: ReadonlyMap<string, number>
}

const jumpKey = ({ edge, partition }: CommandBatch): string => `${partition} ${edge}`

/** The first deliveries, as many as one commit takes. */
const atOnce = (deliveries: ReadonlyArray<Delivery>): ReadonlyArray<Delivery> => {
  let bytes = 0
  for (const [count, { batch }] of deliveries.entries()) {
    for (const command of batch.commands) bytes += sizeOf(command)
    if (count > 0 && bytes > COMMIT_BYTES) return deliveries.slice(0, count)
  }
  return deliveries
}

/** The same with each edge's batches in the order of their counters, in the places that they have together. */
const inOrder = (deliveries: ReadonlyArray<Delivery>): ReadonlyArray<Delivery> => {
  const ordered = Map.groupBy(deliveries, ({ batch }) => jumpKey(batch))
  for (const own of ordered.values()) own.sort((a, b) => a.batch.counter - b.batch.counter)
  return deliveries.map(({ batch }) => ordered.get(jumpKey(batch))!.shift()!)
}

/**
 * Which deliveries may be taken: those whose counter is at most one past the last one of their edge. A jump means that an earlier batch is still on
 * its way, and taking this one would turn the sender's order around; unless it is lost.
 */
const admit = (
  deliveries: ReadonlyArray<Delivery>,
  heads: ReadonlyMap<number, PartitionHead>,
  isLost: (key: string) => boolean
): Admission => {
  const jumped = new Set<number>()
  const missing = new Map<string, number>()
  const next = new Map<string, number>()
  for (const { batch } of deliveries) {
    const key = jumpKey(batch)
    const last = next.get(key) ?? heads.get(batch.partition)!.counters[batch.edge] ?? 0
    if (batch.counter > last + 1 && !isLost(key)) {
      jumped.add(batch.partition)
      missing.set(key, batch.partition)
    }
    next.set(key, Math.max(last, batch.counter))
  }
  return { admitted: deliveries.filter((delivery) => !jumped.has(delivery.batch.partition)), jumped, missing }
}
