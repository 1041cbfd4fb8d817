import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import { TestClock } from "effect/testing"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { layerMemory as layerRouter } from "../../src/platform/RouterMemory.ts"
import { Tracing } from "../../src/platform/Tracing.ts"
import { layerMemory as layerBus, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { runCommitter } from "../../src/write-side/Committer.ts"
import { layerMemory as layerEvents, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { EventLog, LogUnavailable } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { Relay } from "../../src/write-side/Relay.ts"

const PARTITIONS = 16
const conv = dmConversation("ann", "bob")
const partition = partitionOf(conv, PARTITIONS)

it.live("commits what waits together, but not more than a mebibyte at once, in order", () =>
  Effect.gen(function* () {
    const memory = makeMemoryLog(PARTITIONS)
    const commits: Array<number> = []
    const counting = Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => ({
        ...log,
        append: (batch: Parameters<typeof log.append>[0]) =>
          Effect.tap(log.append(batch), () =>
            Effect.sync(() => commits.push(batch.runs.reduce((sum, { events }) => sum + events.length, 0)))
          )
      }))
    ).pipe(Layer.provide(layerLog(memory)))
    const broker = makeMemoryBroker(PARTITIONS)
    // Each some 250 KiB, and a small one in the end.
    for (let counter = 1; counter <= 10; counter++) {
      const length = counter === 10 ? 1 : 4
      const commands = Array.from({ length }, (_, i) => ({
        conv,
        by: "ann",
        cid: `c${counter}-${i}`,
        intent: { type: "send", kind: "text", body: "x".repeat(32_000) } as const,
        origin: { node: "n", session: "s" }
      }))
      yield* broker.publish({ partition, edge: "e", counter, commands })
    }
    const layers = Relay.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(counting, layerBus(broker, "e"), layerEvents(makeMemoryEventBus()), layerRouter("n"))
      )
    )
    yield* Effect.gen(function* () {
      const relay = yield* Relay
      const log = yield* EventLog
      yield* Effect.forkScoped(relay.run)
      yield* Effect.forkScoped(runCommitter({ owner: "test", newDmsPerHour: 10 }))
      while ((yield* log.heads)[partition] !== 37) yield* Effect.yieldNow
      const events = yield* log.timeline(conv, { limit: 100, take: "oldest" })
      assert.deepStrictEqual(
        events.map(({ cid }) => cid),
        Array.from({ length: 37 }, (_, i) => `c${Math.floor(i / 4) + 1}-${i % 4}`)
      )
    }).pipe(Effect.provide(layers), Effect.scoped)
    assert.deepStrictEqual(commits, [16, 16, 5])
  })
)

const batch = (counter: number) => ({
  partition,
  edge: "e",
  counter,
  commands: [
    {
      conv,
      by: "ann",
      cid: `c${counter}`,
      intent: { type: "send", kind: "text", body: "hello" } as const,
      origin: { node: "n", session: "s" }
    }
  ]
})

it.effect("waits for a batch that is late, and does not wait for ever for one that is lost", () =>
  Effect.gen(function* () {
    const broker = makeMemoryBroker(PARTITIONS)
    const layers = Relay.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          layerLog(makeMemoryLog(PARTITIONS)),
          layerBus(broker, "e"),
          layerEvents(makeMemoryEventBus()),
          layerRouter("n")
        )
      )
    )
    yield* Effect.gen(function* () {
      const relay = yield* Relay
      const log = yield* EventLog
      const cids = Effect.map(log.timeline(conv, { limit: 100, take: "oldest" }), (events) =>
        events.map(({ cid }) => cid)
      )
      yield* Effect.forkScoped(relay.run)
      yield* Effect.forkScoped(runCommitter({ owner: "test", newDmsPerHour: 10 }))
      yield* broker.publish(batch(2))
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(yield* cids, [])
      yield* broker.publish(batch(1))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* cids, ["c1", "c2"], "it came late, and before the other")
      yield* broker.publish(batch(4))
      yield* TestClock.adjust("19 seconds")
      assert.deepStrictEqual(yield* cids, ["c1", "c2"])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* cids, ["c1", "c2", "c4"])
      yield* broker.publish(batch(5))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* cids, ["c1", "c2", "c4", "c5"])
    }).pipe(Effect.provide(layers), Effect.scoped)
  })
)

it.effect(
  "goes on where another committer left off, when a partition comes back to it that it did not know it had lost",
  () =>
    Effect.gen(function* () {
      const broker = makeMemoryBroker(PARTITIONS)
      const memory = layerLog(makeMemoryLog(PARTITIONS))
      const events = makeMemoryEventBus()
      const committer = (node: string) =>
        Effect.gen(function* () {
          const relay = yield* Relay
          yield* Effect.forkScoped(relay.run)
          yield* Effect.forkScoped(runCommitter({ owner: node, newDmsPerHour: 10 }))
          return yield* EventLog
        }).pipe(
          Effect.provide(
            Layer.fresh(Relay.layer).pipe(
              Layer.provideMerge(Layer.mergeAll(memory, layerBus(broker, node), layerEvents(events), layerRouter(node)))
            )
          )
        )
      const log = yield* committer("first")
      yield* TestClock.adjust("1 second")
      yield* committer("second")
      yield* TestClock.adjust("1 second")
      const committed = (...counters: ReadonlyArray<number>) =>
        Effect.gen(function* () {
          for (const counter of counters) yield* broker.publish(batch(counter))
          yield* TestClock.adjust("1 second")
          const cids = (yield* log.timeline(conv, { limit: 100, take: "oldest" })).map(({ cid }) => cid)
          assert.deepStrictEqual(
            cids,
            Array.from({ length: counters.at(-1)! }, (_, i) => `c${i + 1}`)
          )
        })
      yield* committed(1, 2)
      broker.passOn()
      yield* committed(3, 4)
      broker.passOn()
      yield* committed(5, 6)
    }).pipe(Effect.scoped)
)

it.live("says which followed sends a commit was for that is tried again", () =>
  Effect.gen(function* () {
    const broker = makeMemoryBroker(PARTITIONS)
    let failing = true
    const failsOnce = Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => ({
        ...log,
        append: (...args: Parameters<typeof log.append>) => {
          if (!failing) return log.append(...args)
          failing = false
          return Effect.fail(new LogUnavailable({ operation: "append", reason: "a test", cause: undefined }))
        }
      }))
    ).pipe(Layer.provide(layerLog(makeMemoryLog(PARTITIONS))))
    const layers = Relay.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(failsOnce, layerBus(broker, "e"), layerEvents(makeMemoryEventBus()), layerRouter("n"))
      )
    )
    const said: Array<Readonly<Record<string, unknown>>> = []
    const logger = Logger.make(({ fiber }) => void said.push(fiber.getRef(References.CurrentLogAnnotations)))
    const traceId = "0123456789abcdef0123456789abcdef"
    const { commands, ...rest } = batch(1)
    yield* broker.publish({
      ...rest,
      commands: commands.map((command) => ({ ...command, traceparent: `00-${traceId}-0123456789abcdef-01` }))
    })
    yield* Effect.gen(function* () {
      const relay = yield* Relay
      const log = yield* EventLog
      yield* Effect.forkScoped(relay.run)
      yield* Effect.forkScoped(runCommitter({ owner: "test", newDmsPerHour: 10 }))
      // The conversation's beginning, and the message.
      while ((yield* log.heads)[partition] === 0) yield* Effect.sleep("5 millis")
    }).pipe(
      Effect.provide(layers),
      Effect.provideService(Tracing, { begin: () => undefined, part: () => {} }),
      Effect.provide(Logger.layer([logger])),
      Effect.scoped
    )
    assert.deepStrictEqual(said, [{ traceId }])
  })
)
