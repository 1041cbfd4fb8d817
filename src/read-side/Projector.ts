import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import type { StoredEvent } from "../domain/events.ts"
import { atLeast, type Vector } from "../domain/partition.ts"
import { EventBus, type EventBusUnavailable, type Published } from "../write-side/EventBus.ts"
import { EventLog, type EventReader, type LogUnavailable } from "../write-side/EventLog.ts"
import { fill, PAGE_EVENTS } from "./fill.ts"
import { makeQuietLog } from "../platform/quietLog.ts"
import { Tracing, type TracingOn } from "../platform/Tracing.ts"
import { ReadModels, type ReadModelsUnavailable, type Run } from "./ReadModels.ts"

/** Batches taken from the bus at once. */
const TAKE_BATCHES = 64
/** How often the checkpoints are compared with the heads of the log, for what the bus did not bring. */
const COMPARE_MS = 1_000

/** For ever: nothing is lost by waiting, because the log has it. */
const RETRY = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

type Failure = LogUnavailable | ReadModelsUnavailable | EventBusUnavailable

/** Carries the log's events into the read models: every event once, in the order of positions. */
export class Projector extends Context.Service<
  Projector,
  {
    /** Works for ever: whatever fails is tried again. */
    readonly run: Effect.Effect<never>
    /** Waits for the next batches of the bus and applies them, holes filled from the log. Answers the checkpoints. */
    readonly runOnce: Effect.Effect<Vector, Failure>
    /**
     * Brings the read models to the heads that the log has when this starts, or leaves a partition to another process that is further with it. Answers the
     * checkpoints.
     */
    readonly catchUp: Effect.Effect<Vector, Failure>
    /** By how many events the read models were behind the log when it was last looked at. */
    readonly lag: () => number
  }
>()("darda/read-side/Projector") {
  static readonly layer: Layer.Layer<Projector, never, EventLog | EventBus | ReadModels> = Layer.effect(
    Projector,
    Effect.gen(function* () {
      return Projector.of(make(yield* EventLog, yield* EventBus, yield* ReadModels, yield* Tracing))
    })
  )
}

const make = (
  log: EventReader,
  bus: EventBus["Service"],
  readModels: ReadModels["Service"],
  tracing: TracingOn | undefined
): Projector["Service"] => {
  /** One at a time: what the bus brings, or what is read from the log. */
  const turn = Semaphore.makeUnsafe(1)
  /** As the read models answered last; undefined when they have to be asked. */
  let known: Vector | undefined
  let lag = 0
  /** What the last comparison found; undefined: everything is to be caught up with. */
  let last: { readonly checkpoints: Vector; readonly heads: Vector } | undefined
  /** Whether the last look found the read models ahead of the log. */
  let ahead = false

  const asked = Effect.suspend(() =>
    known === undefined
      ? Effect.tap(readModels.checkpoints, (vector) => Effect.sync(() => void (known = vector)))
      : Effect.succeed(known)
  )
  const apply = Effect.fnUntraced(function* (runs: ReadonlyArray<Run>) {
    if (runs.length === 0) return yield* asked
    known = undefined
    return (known = yield* readModels.apply(runs))
  })

  /** Reads and applies until the checkpoints are at `target`. */
  const fillTo = (target: Vector) =>
    Effect.flatMap(asked, (from) =>
      fill({
        log,
        from,
        target,
        apply,
        onApplied: (checkpoints) => Effect.sync(() => void (lag = distance(checkpoints, target)))
      })
    )

  /** Where the read models are and where the log is: outside of any turn, since a log that does not answer must not hold up what the bus brings. */
  const look = Effect.gen(function* () {
    // Asked before the heads, which can only grow meanwhile.
    const checkpoints = yield* readModels.checkpoints
    return { checkpoints, heads: yield* log.heads }
  })

  /** Whether the read models can be brought to what was found; not when they are ahead of it, which is looked at once more. */
  const canFollow = Effect.fnUntraced(function* ({ checkpoints, heads }: { checkpoints: Vector; heads: Vector }) {
    known = undefined
    if (!atLeast(heads, checkpoints)) {
      // Only a log put back from a backup ends before what was applied from it, or one look at a replica that lags: hence the second look.
      if (!ahead) {
        ahead = true
        return false
      }
      yield* Effect.logError("The event log ends before what was applied from it; the read models are rebuilt.")
      yield* readModels.reset
      known = undefined
    }
    ahead = false
    lag = distance(yield* asked, heads)
    return true
  })
  const inTurn = turn.withPermits(1)
  const catchUp = Effect.flatMap(look, (found) =>
    inTurn(Effect.flatMap(canFollow(found), (can) => (can ? fillTo(found.heads) : asked)))
  )

  /**
   * The same, for every second: what is on its way by the bus, or being applied by another process, is not read from the log as well. Only a partition that is behind
   * where the log was at the last look, and has not moved since, has missed something.
   */
  const compare = Effect.flatMap(look, (found) =>
    inTurn(
      Effect.gen(function* () {
        const can = yield* canFollow(found)
        const before = last
        last = can ? found : undefined
        if (!can) return
        const { heads } = found
        const checkpoints = yield* asked
        yield* fillTo(
          before === undefined
            ? heads
            : heads.map((head, partition) => {
                const checkpoint = checkpoints[partition]!
                const stuck = checkpoint < before.heads[partition]! && checkpoint <= before.checkpoints[partition]!
                return stuck ? head : checkpoint
              })
        )
      })
    )
  )

  const take = Effect.gen(function* () {
    let waiting = yield* bus.take(TAKE_BATCHES)
    return yield* inTurn(
      Effect.gen(function* () {
        let checkpoints = yield* asked
        while (waiting.length > 0) {
          const count = within(waiting, PAGE_EVENTS)
          const { ends, runs } = follow(checkpoints, waiting.slice(0, count))
          waiting = waiting.slice(count)
          const from = Date.now()
          checkpoints = yield* apply(runs)
          if (tracing !== undefined) trace(tracing, runs, from)
          if (!atLeast(checkpoints, ends)) checkpoints = yield* fillTo(ends)
        }
        return checkpoints
      })
    )
  })
  const quiet = makeQuietLog()
  const forEver = (what: string, pause: Effect.Effect<void>, self: Effect.Effect<unknown, Failure>) =>
    self.pipe(
      Effect.tapError((error) => quiet.warn(what, `${error.message} It is tried again.`)),
      Effect.retry(RETRY),
      Effect.tap(quiet.over(what)),
      Effect.ignore,
      Effect.andThen(pause),
      Effect.forever
    )

  return {
    run: Effect.all(
      [
        forEver("Comparing the read models with the log", Effect.sleep(COMPARE_MS), compare),
        forEver("Applying events to the read models", Effect.void, take)
      ],
      { concurrency: "unbounded" }
    ).pipe(Effect.andThen(Effect.never)),
    runOnce: take,
    catchUp,
    lag: () => lag
  }
}

/** Only of what came by the bus: what is read from the log is older, and perhaps applied for another time. */
const trace = (tracing: TracingOn, runs: ReadonlyArray<Run>, from: number): void => {
  const followed = runs.flatMap(({ events }) => events.flatMap(({ origin }) => origin?.traceparent ?? []))
  for (const traceparent of followed) tracing.part({ name: "project", traceparent, from, with: followed })
}

const distance = (from: Vector, to: Vector): number =>
  to.reduce((sum, position, partition) => sum + Math.max(0, position - (from[partition] ?? 0)), 0)

/** How many batches, at least one, have that many events together. */
const within = (batches: ReadonlyArray<Published>, events: number): number => {
  let room = events
  let count = 0
  while (count < batches.length && (count === 0 || batches[count]!.events.length <= room)) {
    room -= batches[count++]!.events.length
  }
  return count
}

/**
 * What of the batches can be applied on the checkpoints: the runs, each in the order of positions and without repeats; and where the batches end, which
 * is further when there is a hole in them.
 */
const follow = (
  checkpoints: Vector,
  batches: ReadonlyArray<Published>
): { readonly runs: ReadonlyArray<Run>; readonly ends: Vector } => {
  const byPartition = new Map<number, Array<StoredEvent>>()
  const ends = [...checkpoints]
  for (const { events, partition } of batches) {
    const known = byPartition.get(partition)
    if (known === undefined) byPartition.set(partition, [...events])
    else known.push(...events)
    for (const { position } of events) ends[partition] = Math.max(ends[partition] ?? 0, position)
  }
  const runs: Array<Run> = []
  for (const [partition, events] of byPartition) {
    // Already in order as a rule, which costs a sort nothing.
    events.sort((a, b) => a.position - b.position)
    let next = checkpoints[partition]! + 1
    const run = events.filter(({ position }) => position === next && ++next > 0)
    if (run.length > 0) runs.push({ partition, events: run })
  }
  return { runs, ends }
}
