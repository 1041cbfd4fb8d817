import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { StoredEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import {
  refused,
  type RedisCommand,
  type RedisConnection,
  type RedisUnavailable,
  pipelined,
  settled
} from "../platform/RedisConnection.ts"
import type { EventReader, LogUnavailable } from "../write-side/EventLog.ts"
import { project } from "./projection.ts"
import { ReadModelsUnavailable, type Run } from "./ReadModels.ts"
import { NotFetched, RowCache } from "./ReadModelsRedisCache.ts"
import { type Answered, askFor, marksToCount, type Need, needsOf, remember } from "./ReadModelsRedisNeeds.ts"
import { makePointer, partitionPrefix, type Pointer, pointerOf } from "./ReadModelsRedisRows.ts"

/** What older messages are read from. */
export type OlderLog = Pick<EventReader, "timeline" | "amendments">

/** One set of read models in Redis: the live one, or the one that is built beside it. */
export interface RedisSet {
  readonly redis: RedisConnection
  readonly scope: string
  readonly partitions: number
  readonly log: OlderLog
  readonly which: "live" | "shadow"
}

export const pointerKey = ({ scope, which }: RedisSet, partition: number): string =>
  `${partitionPrefix(scope, partition)}${which === "live" ? "live" : "next"}`

export const unavailable = (operation: string, reason: string, cause?: unknown): ReadModelsUnavailable =>
  new ReadModelsUnavailable({ operation, reason, cause })

export const redisAway = (error: RedisUnavailable): ReadModelsUnavailable =>
  unavailable(error.operation, error.reason, error)

/** What was not applied because the log did not tell what it depends on. */
export const logAway = (error: LogUnavailable | ReadModelsUnavailable): ReadModelsUnavailable =>
  error._tag === "LogUnavailable" ? unavailable("apply", error.message, error) : error

/** The pointers of all partitions, in one round trip. */
export const readPointers = (set: RedisSet): Effect.Effect<ReadonlyArray<Pointer>, ReadModelsUnavailable> =>
  set.redis
    .run("checkpoints", (client) =>
      pipelined(
        client,
        Array.from({ length: set.partitions }, (_, partition): RedisCommand => ["get", pointerKey(set, partition)])
      )
    )
    .pipe(
      Effect.map((replies) => replies.map((text) => pointerOf((text as string | null) ?? ""))),
      Effect.mapError(redisAway)
    )

/** Events of one partition in one script: it keeps Redis from everything else for a few milliseconds. */
const EVENTS = 1_000
/** Characters of texts in one script. */
const CHARS = 2_000_000
/** How long a set that is held still is waited for. */
const HELD_MS = 2_000
const HELD_PAUSE_MS = 20
/** Who loses against another who applies the same gives way: milliseconds at most, the first time. */
const GIVE_WAY_MS = 10
const LOST_MAX = 10
/** Events read from the log at once to count messages. */
const COUNT_EVENTS = 1_000

interface Partition {
  /** Undefined: to be asked for. Only then, `cache` is empty. */
  pointer: Pointer | undefined
  cache: RowCache
  /** Events that the next script may have. */
  most: number
}

interface Job {
  readonly partition: number
  readonly held: Partition
  readonly pointer: Pointer
  readonly events: ReadonlyArray<StoredEvent>
  readonly needs: ReadonlyArray<Need>
}

/**
 * Applies what follows on what is there, whoever put it there: each script compares where its partition is and moves it. Whoever loses such a comparison drops what it
 * believed of the partition, and looks again.
 */
export type Applier = (runs: ReadonlyArray<Run>) => Effect.Effect<void, ReadModelsUnavailable | LogUnavailable>

/**
 * `found` is told of every pointer that was read or written, and given what `told` said before that. `generation` names one for a partition that has none.
 */
export const makeApplier = (
  set: RedisSet,
  options: {
    readonly generation: () => string
    /** The only generation that may be written, where it is not whatever is there. */
    readonly only?: string
    /** Another one had applied the same, or a part of it. */
    readonly lost?: () => void
    readonly told: () => Vector
    readonly found: (partition: number, pointer: Pointer, told: Vector) => void
  }
): Applier => {
  const { log, partitions, redis } = set
  const turn = Semaphore.makeUnsafe(1)
  const fresh = (): Partition => ({ pointer: undefined, cache: new RowCache(partitions), most: EVENTS })
  const held = Array.from({ length: partitions }, fresh)
  const forget = (partition: number): void => void (held[partition] = fresh())

  const look = Effect.gen(function* () {
    const told = options.told()
    for (const [partition, pointer] of (yield* readPointers(set)).entries()) {
      options.found(partition, pointer, told)
      if (options.only !== undefined && pointer.generation !== options.only) {
        return yield* unavailable(
          "apply",
          "the set that was being rebuilt is gone: Redis was emptied, or another began"
        )
      }
      const known = held[partition]!
      if (known.pointer === undefined) known.pointer = pointer
      else if (known.pointer.text !== pointer.text) held[partition] = { ...fresh(), pointer }
    }
  })

  /** At most one job a partition: what its runs have next. */
  const jobs = (runs: ReadonlyArray<Run>): ReadonlyArray<Job> => {
    const found = new Map<number, Job>()
    for (const { events, partition } of runs) {
      if (found.has(partition)) continue
      const known = held[partition]!
      const next = following(events, known.pointer!.checkpoint, known.most)
      if (next.length === 0) continue
      const needs = needsOf(known.cache, next)
      found.set(partition, { partition, held: known, pointer: known.pointer!, events: next, needs })
    }
    return [...found.values()]
  }

  const call = (
    { partition, pointer }: Job,
    script: string,
    first: ReadonlyArray<string>,
    args: ReadonlyArray<string>
  ): RedisCommand => [script, 1, pointerKey(set, partition), pointer.text, first, args]

  /** Answers the jobs for which all that they need is in memory. */
  const fetch = Effect.fnUntraced(function* (jobs: ReadonlyArray<Job>) {
    const asking = jobs.filter(({ needs }) => needs.length > 0)
    if (asking.length === 0) return jobs
    const moved = new Set<Job>()
    const commands = asking.map((job) => call(job, "dardaFetch", [], askFor(job.needs)))
    // Acted on here and not as it comes in: an answer after the time-out is for rows that have gone on since.
    const told = options.told()
    const replies = yield* redis.run("fetch", (client) => pipelined(client, commands))
    for (const [i, reply] of replies.entries()) {
      const job = asking[i]!
      if (typeof reply === "string") {
        moved.add(job)
        forget(job.partition)
        options.found(job.partition, pointerOf(reply), told)
      } else remember(job.held.cache, job.partition, job.needs, reply as ReadonlyArray<Answered>)
    }
    return jobs.filter((job) => !moved.has(job))
  })

  const count = Effect.fnUntraced(function* (job: Job) {
    const counted = new Map<string, { readonly bound: Seq | undefined; readonly count: number }>()
    for (const { bound, conv, from, key, to, user } of marksToCount(job.held.cache, job.events)) {
      counted.set(key, { bound, count: yield* countByOthers(log, conv, user, from, to) })
    }
    return counted
  })

  /** Changes the rows in memory. Until that is written, nobody believes in them. */
  const change = (job: Job, counted: Effect.Success<ReturnType<typeof count>>): ReadonlyArray<string> | undefined => {
    const { cache } = job.held
    forget(job.partition)
    let done = 0
    try {
      for (const event of job.events) {
        project(cache.begin(event, counted), event)
        done++
      }
    } catch (cause) {
      if (!(cause instanceof NotFetched) || done === 0) throw cause
      held[job.partition] = { ...fresh(), pointer: job.pointer, most: done }
      return undefined
    }
    const { grown, operations } = cache.encode()
    return [String(grown), ...operations]
  }

  const write = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<readonly [job: Job, next: Pointer, args: ReadonlyArray<string>]>
  ) {
    const outcome = { lost: 0, still: 0 }
    if (jobs.length === 0) return outcome
    const commands = jobs.map(([job, next, args]) => call(job, "dardaApply", [next.text], args))
    const told = options.told()
    const replies = yield* redis.run("apply", (client) => settled(client, commands))
    let failed: Error | undefined
    for (const [i, reply] of replies.entries()) {
      const [job, next] = jobs[i]!
      if (reply === "ok") {
        job.held.cache.written()
        held[job.partition] = { pointer: next, cache: job.held.cache, most: EVENTS }
        options.found(job.partition, next, told)
      } else if (reply === "held") outcome.still++
      else if (reply instanceof Error) failed = reply
      else {
        outcome.lost++
        options.found(job.partition, pointerOf((reply as string).slice(1)), told)
      }
    }
    if (failed !== undefined) return yield* refused("apply", failed)
    return outcome
  })

  const apply = Effect.fnUntraced(
    function* (runs: ReadonlyArray<Run>) {
      let lost = 0
      let waited = 0
      /** Partitions of which everything is a repeat or behind a hole, by what is believed: that is looked at once. */
      let doubted = true
      for (;;) {
        if (held.some(({ pointer }) => pointer === undefined)) yield* look
        let wanted = jobs(runs)
        if (
          doubted &&
          runs.some((run) => run.events.length > 0 && !wanted.some((job) => job.partition === run.partition))
        ) {
          yield* look
          wanted = jobs(runs)
        }
        doubted = false
        if (wanted.length === 0) return
        const ready = yield* fetch(wanted)
        const writes: Array<readonly [Job, Pointer, ReadonlyArray<string>]> = []
        for (const job of ready) {
          const args = change(job, yield* count(job))
          if (args === undefined) continue
          const generation = job.pointer.generation === "" ? options.generation() : job.pointer.generation
          writes.push([job, makePointer(generation, job.events.at(-1)!.position), args])
        }
        const outcome = yield* write(writes)
        if (outcome.lost + wanted.length - ready.length > 0) {
          options.lost?.()
          if (++lost > LOST_MAX) return
          yield* Effect.sleep(lost * GIVE_WAY_MS * (0.5 + Math.random() / 2))
        }
        if (outcome.still > 0) {
          if (waited >= HELD_MS) {
            return yield* unavailable("apply", "a rebuilt set is taking their place; nothing is lost by waiting")
          }
          waited += HELD_PAUSE_MS
          yield* Effect.sleep(HELD_PAUSE_MS)
        }
      }
    },
    Effect.catchTag("RedisUnavailable", (error) => Effect.fail(redisAway(error)))
  )

  return (runs) => turn.withPermits(1)(apply(runs))
}

/** What can be applied on a checkpoint: from the event after it, up to a hole or as much as one script takes. */
const following = (
  events: ReadonlyArray<StoredEvent>,
  checkpoint: number,
  most: number
): ReadonlyArray<StoredEvent> => {
  let first = 0
  while (first < events.length && events[first]!.position <= checkpoint) first++
  let end = first
  let room = CHARS
  for (let next = checkpoint + 1; end < events.length && end - first < most; end++, next++) {
    const event = events[end]!
    if (event.position !== next) break
    if (event.type === "message" || event.type === "edited") room -= event.data.body.length
    if (room < 0 && end > first) break
  }
  return first === 0 && end === events.length ? events : events.slice(first, end)
}

/** Messages with `from < seq <= upTo` that are not by this user, from the log. As many events are read as lie between, a page at a time. */
const countByOthers = Effect.fnUntraced(function* (
  log: OlderLog,
  conv: ConversationId,
  user: UserId,
  from: Seq,
  upTo: Seq
): Effect.fn.Return<number, LogUnavailable | ReadModelsUnavailable> {
  let count = 0
  let after = from
  while (after < upTo) {
    const slice = { after, before: upTo + 1, limit: COUNT_EVENTS, take: "oldest" } as const
    const events = yield* log.timeline(conv, slice)
    for (const event of events) if (event.type === "message" && event.by !== user) count++
    // Seqs have no holes. A replica that lags would make the count wrong for ever.
    if (events.length < Math.min(COUNT_EVENTS, upTo - after)) {
      return yield* unavailable("apply", "the event log told less than was applied from it")
    }
    after = events.at(-1)!.seq
  }
  return count
})
