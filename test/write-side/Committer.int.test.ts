import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Intent } from "../../src/domain/commands.ts"
import { groupConversation } from "../../src/domain/groupId.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { Router } from "../../src/platform/Router.ts"
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

it.live("what is sent back by hand is committed once, and no edge is forgotten for it", () =>
  Effect.gen(function* () {
    const memory = makeMemoryLog(PARTITIONS)
    const broker = makeMemoryBroker(PARTITIONS)
    yield* broker.publish(batch(1))
    for (let n = 0; n < 2; n++)
      for (let letter = 0; letter < 2; letter++)
        yield* broker.publish({ ...batch(0), edge: `retry-${letter}`, commands: batch(100 + letter).commands })
    yield* broker.publish(batch(2))
    const layers = Relay.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(layerLog(memory), layerBus(broker, "e"), layerEvents(makeMemoryEventBus()), layerRouter("n"))
      )
    )
    yield* Effect.gen(function* () {
      const log = yield* EventLog
      yield* Effect.forkScoped((yield* Relay).run)
      yield* Effect.forkScoped(runCommitter({ owner: "test", newDmsPerHour: 10 }))
      while ((yield* log.heads)[partition] !== 4) yield* Effect.yieldNow
      const events = yield* log.timeline(conv, { limit: 100, take: "oldest" })
      assert.deepStrictEqual(
        events.map(({ cid }) => cid),
        ["c1", "c100", "c101", "c2"]
      )
      const [head] = yield* log.claim([partition], "another")
      assert.deepStrictEqual(head!.counters, { e: 2 })
    }).pipe(Effect.provide(layers), Effect.scoped)
  })
)

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

it.effect("answers a resend as it was answered, long after, and though its sender has left", () =>
  Effect.gen(function* () {
    const broker = makeMemoryBroker(PARTITIONS)
    const group = groupConversation("ann", "g")
    let lookups = 0
    const counting = Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => ({
        ...log,
        prepare: (request: Parameters<typeof log.prepare>[0]) => {
          lookups++
          return log.prepare(request)
        }
      }))
    ).pipe(Layer.provide(layerLog(makeMemoryLog(PARTITIONS))))
    const layers = Relay.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(counting, layerBus(broker, "e"), layerEvents(makeMemoryEventBus()), layerRouter("n"))
      )
    )
    yield* Effect.gen(function* () {
      const relay = yield* Relay
      const router = yield* Router
      yield* Effect.forkScoped(relay.run)
      yield* Effect.forkScoped(runCommitter({ owner: "test", newDmsPerHour: 10 }))
      let counter = 0
      /** Sends a command, and answers what is said of it. */
      const told = Effect.fnUntraced(function* (by: string, cid: string, intent: Intent) {
        const command = { conv: group, by, cid, intent, origin: { node: "n", session: "s" } }
        const to = partitionOf(group, PARTITIONS)
        yield* broker.publish({ partition: to, edge: "e", counter: ++counter, commands: [command] })
        yield* TestClock.adjust("10 seconds")
        const items = yield* router.take(100)
        return items.flatMap((item): ReadonlyArray<unknown> =>
          item._tag === "MessagePersisted" ? [item.event.seq] : item._tag === "Answer" ? [item.answer.outcome] : []
        )
      })
      const hello = { type: "send", kind: "text", body: "hello" } as const
      assert.deepStrictEqual(yield* told("ann", "g", { type: "create", members: ["bob"] }), [1])
      const before = lookups
      assert.deepStrictEqual(yield* told("bob", "c1", hello), [2])
      assert.strictEqual(lookups, before, "what is new costs no look-up")
      const repeat = (yield* told("bob", "c1", hello))[0]
      assert.deepInclude(repeat, { _tag: "Repeat", seq: 2 })
      assert.deepStrictEqual(yield* told("bob", "l", { type: "leave" }), [3])
      assert.deepStrictEqual(yield* told("bob", "c1", hello), [repeat], "though bob has left")
      const [refused] = yield* told("bob", "c2", hello)
      assert.deepInclude(refused, { _tag: "Rejected" })
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

it.effect("tells what a writer left that died with many commits untold, in few readings, before anything newer", () =>
  Effect.gen(function* () {
    const broker = makeMemoryBroker(PARTITIONS)
    const memory = layerLog(makeMemoryLog(PARTITIONS))
    const buses = Layer.mergeAll(layerEvents(makeMemoryEventBus()), layerRouter("n"))
    const join = Effect.fnUntraced(function* (node: string, tells: boolean) {
      const relay = yield* Relay
      if (tells) yield* Effect.forkScoped(relay.run)
      yield* Effect.forkScoped(runCommitter({ owner: node, newDmsPerHour: 10 }))
      return { log: yield* EventLog, router: yield* Router }
    })
    const leaving = yield* Scope.make()
    const first = Layer.fresh(Relay.layer).pipe(
      Layer.provideMerge(Layer.mergeAll(memory, layerBus(broker, "first"), buses))
    )
    const { log } = yield* join("first", false).pipe(Effect.provide(first), Scope.provide(leaving))
    const commits = 50
    for (let counter = 1; counter <= commits; counter++) {
      yield* broker.publish(batch(counter))
      yield* TestClock.adjust("1 second")
    }
    assert.lengthOf(yield* log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 100 }), commits)
    yield* Scope.close(leaving, Exit.void)

    let readings = 0
    const counting = Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => ({
        ...log,
        read: (...of: Parameters<typeof log.read>) => {
          readings++
          return log.read(...of)
        },
        prepare: (request: Parameters<typeof log.prepare>[0]) => {
          readings++
          return log.prepare(request)
        }
      }))
    ).pipe(Layer.provide(memory))
    const second = Layer.fresh(Relay.layer).pipe(
      Layer.provideMerge(Layer.mergeAll(counting, layerBus(broker, "second"), buses))
    )
    yield* Effect.gen(function* () {
      const { router } = yield* join("second", true)
      yield* broker.publish(batch(commits + 1))
      yield* TestClock.adjust("1 second")
      const items = yield* router.take(1_000)
      assert.deepStrictEqual(
        items.flatMap((item) => (item._tag === "MessagePersisted" ? [item.event.seq] : [])),
        Array.from({ length: commits + 1 }, (_, i) => i + 1)
      )
      assert.isAtMost(readings, 3)
    }).pipe(Effect.provide(second), Effect.scoped)
  })
)
