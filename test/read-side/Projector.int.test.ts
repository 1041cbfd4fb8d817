import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import type { StoredEvent } from "../../src/domain/events.ts"
import { zeroVector } from "../../src/domain/partition.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { ReadModels, ReadModelsUnavailable } from "../../src/read-side/ReadModels.ts"
import { layerMemory as readModelsMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as busMemory, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { historyOf } from "../support/histories.ts"
import { appender, appendHistory } from "../support/historyLog.ts"

const PARTITIONS = 4

const setUp = Effect.fnUntraced(function* (
  options: { readonly wishes?: number; readonly busEvents?: number; readonly append?: boolean } = {}
) {
  const history = historyOf(11, options.wishes ?? 400, { partitions: PARTITIONS })
  const log = makeMemoryLog(PARTITIONS)
  const bus = makeMemoryEventBus(options.busEvents)
  const engine = makeReadModelsEngine(PARTITIONS)
  const ports = Layer.mergeAll(logMemory(log), busMemory(bus), readModelsMemory(engine))
  const context = yield* Layer.build(Layer.fresh(Projector.layer.pipe(Layer.provideMerge(ports))))
  if (options.append !== false) yield* appendHistory(Context.get(context, EventLog), history)
  return {
    history,
    heads: history.logs.map((log) => log.length),
    bus,
    log,
    engine,
    readModels: Context.get(context, ReadModels),
    projector: Context.get(context, Projector)
  }
})

describe("Projector", () => {
  it.effect("applies what the bus brings, whatever is repeated", () =>
    Effect.gen(function* () {
      const { bus, heads, history, projector } = yield* setUp()
      for (const [partition, events] of history.logs.entries()) {
        for (let i = 0; i < events.length; i += 5) {
          bus.publish({ partition, events: events.slice(i, i + 5) })
          bus.publish({ partition, events: events.slice(Math.max(0, i - 3), i + 2) })
        }
      }
      let checkpoints = zeroVector(PARTITIONS)
      while (bus.waiting() > 0) checkpoints = yield* projector.runOnce
      assert.deepStrictEqual(checkpoints, heads)
    })
  )

  it.effect("fills a hole from the log at once", () =>
    Effect.gen(function* () {
      const { bus, history, projector } = yield* setUp()
      const partition = history.logs.findIndex((log) => log.length > 20)
      bus.publish({ partition, events: history.logs[partition]!.slice(12, 15) })
      assert.strictEqual((yield* projector.runOnce)[partition], 15)
      bus.publish({
        partition,
        events: [...history.logs[partition]!.slice(15, 16), ...history.logs[partition]!.slice(18, 20)]
      })
      assert.strictEqual((yield* projector.runOnce)[partition], 20)
    })
  )

  it.effect("finds in the log what a full bus dropped", () =>
    Effect.gen(function* () {
      const { bus, heads, history, projector } = yield* setUp({ busEvents: 10 })
      for (const [partition, events] of history.logs.entries()) {
        for (const event of events) bus.publish({ partition, events: [event] })
      }
      assert.isAbove(bus.dropped(), 0)
      assert.strictEqual(bus.waiting(), 10)
      yield* projector.runOnce
      assert.deepStrictEqual(yield* projector.catchUp, heads)
    })
  )

  it.effect("catches up by itself, without any word from the bus, and then says that it is not behind", () =>
    Effect.gen(function* () {
      const { heads, projector, readModels } = yield* setUp({ wishes: 6_000 })
      const running = yield* Effect.forkChild(projector.run)
      const reached = yield* Effect.forkChild(readModels.reached(heads, 60_000), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isTrue(yield* Fiber.join(reached))
      assert.strictEqual(projector.lag(), 0)
      yield* Fiber.interrupt(running)
    })
  )

  it.effect("tries again for as long as the read models are away, and speaks of it rarely", () =>
    Effect.gen(function* () {
      const { engine, heads, projector, readModels } = yield* setUp()
      const lines: Array<unknown> = []
      const logger = Logger.make(({ message }) => void lines.push(message))
      let failures = 0
      engine.intercept = (operation) =>
        operation === "apply"
          ? Effect.suspend(() => {
              failures++
              return Effect.fail(new ReadModelsUnavailable({ operation, reason: "out for lunch", cause: undefined }))
            })
          : Effect.void
      const running = yield* Effect.forkChild(Effect.provide(projector.run, Logger.layer([logger])))
      yield* TestClock.adjust("20 seconds")
      assert.isAbove(failures, 10)
      assert.strictEqual(lines.length, 1)
      assert.include(String(lines[0]), "out for lunch")
      engine.intercept = () => Effect.void
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(yield* readModels.reached(heads, 0))
      assert.strictEqual(lines.length, 2)
      yield* Fiber.interrupt(running)
    })
  )

  it.effect("goes on after an answer that was lost", () =>
    Effect.gen(function* () {
      const { bus, engine, heads, history, projector } = yield* setUp()
      let calls = 0
      engine.intercept = (operation, moment) =>
        operation === "apply" && moment === "after" && ++calls % 2 === 1
          ? Effect.fail(new ReadModelsUnavailable({ operation, reason: "answer lost", cause: undefined }))
          : Effect.void
      for (const [partition, events] of history.logs.entries()) bus.publish({ partition, events })
      assert.strictEqual((yield* Effect.flip(projector.runOnce))._tag, "ReadModelsUnavailable")
      assert.deepStrictEqual(yield* projector.catchUp, heads)
    })
  )

  it.effect("rebuilds from a log that ends before what was applied", () =>
    Effect.gen(function* () {
      const { heads, projector, readModels } = yield* setUp({ wishes: 100 })
      const longer = historyOf(11, 4_000, { partitions: PARTITIONS })
      yield* readModels.apply(longer.logs.map((events, partition) => ({ partition, events })))
      assert.notDeepEqual(yield* projector.catchUp, heads)
      assert.deepStrictEqual(yield* projector.catchUp, heads)
    })
  )

  it.effect("of two processes, the one that the bus brings nothing reads nothing while the other is at work", () =>
    Effect.gen(function* () {
      const { bus, engine, history, heads, log, projector } = yield* setUp({ wishes: 2_000, append: false })
      const reads: Array<number> = []
      const counting = Layer.effect(
        EventLog,
        Effect.map(EventLog, (log) =>
          EventLog.of({
            ...log,
            read: (...args) => Effect.tap(log.read(...args), () => Effect.sync(() => reads.push(args[0])))
          })
        )
      ).pipe(Layer.provide(logMemory(log)))
      const ports = Layer.mergeAll(counting, busMemory(makeMemoryEventBus()), readModelsMemory(engine))
      const other = Context.get(
        yield* Layer.build(Layer.fresh(Projector.layer.pipe(Layer.provideMerge(ports)))),
        Projector
      )
      const append = yield* appender(Context.get(yield* Layer.build(logMemory(log)), EventLog))
      yield* Effect.forkScoped(projector.run)
      yield* TestClock.adjust("500 millis")
      yield* Effect.forkScoped(other.run)
      yield* TestClock.adjust("100 millis")

      const behind: Array<StoredEvent> = []
      for (let i = 0; i < history.events.length; i += 40) {
        const events = history.events.slice(i, i + 40)
        yield* append(events)
        // Always some on their way when the other looks.
        for (const event of behind.splice(0)) bus.publish({ partition: event.partition, events: [event] })
        behind.push(...events)
        yield* TestClock.adjust("300 millis")
      }
      assert.strictEqual(reads.length, 0)
      // The last ones never come: the one or the other finds them.
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(yield* Context.get(yield* Layer.build(readModelsMemory(engine)), ReadModels).reached(heads, 0))
    })
  )
})
