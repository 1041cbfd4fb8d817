import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import type { NodeItem } from "../../src/platform/Router.ts"
import { Router } from "../../src/platform/Router.ts"
import { makeMemoryRouting } from "../../src/platform/RouterMemory.ts"
import { layerMemory as layerEvents, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { Relay } from "../../src/write-side/Relay.ts"
import { type Device, edges } from "../support/edges.ts"
import { LogCommitter, mark, say } from "../support/log-committer.ts"

const talk = (device: Device, conv: string, count: number) =>
  Effect.gen(function* () {
    for (let i = 0; i < count; i++) device.say({ t: "send", cid: `${device.user}-${i}`, conv, body: "hello" })
    yield* TestClock.adjust("1 second")
  })

describe("receipts", () => {
  it.effect(
    "of one user come once a second to each who watches, however many devices read, and the newest at last",
    () =>
      Effect.gen(function* () {
        const { connect, group } = yield* edges(2)
        const ann = yield* connect("ann")
        const bobs = [yield* connect("bob"), yield* connect("bob", 1), yield* connect("bob", 1)]
        const conv = yield* group(ann, ["bob"])
        yield* talk(ann, conv, 90)
        const SECONDS = 10
        for (let i = 0; i < SECONDS * 10; i++) {
          const seen = Math.min(i + 2, 91)
          bobs[i % 3]!.say({ t: "mark", conv, delivered: seen, seen })
          yield* TestClock.adjust("100 millis")
        }
        yield* TestClock.adjust("4 seconds")
        const receipts = ann.of("receipt")
        assert.isAtMost(receipts.length, SECONDS + 2)
        assert.isAtLeast(receipts.length, SECONDS / 2)
        assert.deepStrictEqual(receipts.at(-1), { t: "receipt", conv, user: "bob", delivered: 91, seen: 91 })
        const seen = receipts.map((receipt) => receipt["seen"] as number)
        assert.deepStrictEqual(
          seen,
          seen.toSorted((a, b) => a - b)
        )
      })
  )

  it.effect("are counts in a group of more than 50, which keeps nothing of what is only delivered", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(1)
      const ann = yield* connect("ann")
      const users = Array.from({ length: 60 }, (_, i) => `user${i}`)
      const conv = yield* group(ann, users)
      const devices: Array<Device> = []
      for (const user of users.slice(0, 20)) devices.push(yield* connect(user))
      yield* talk(ann, conv, 1)
      const before = (yield* ann.ask({ t: "history", conv }))["head"]
      for (const device of devices) device.say({ t: "mark", conv, delivered: 2 })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(ann.of("receipt"), [])
      for (const device of devices) device.say({ t: "mark", conv, seen: 2 })
      yield* TestClock.adjust("5 seconds")
      assert.isAtMost(ann.of("receipt").length, 2)
      assert.deepStrictEqual(ann.of("receipt").at(-1), {
        t: "receipt",
        conv,
        seq: 2,
        deliveredCount: 20,
        seenCount: 20
      })
      assert.strictEqual((yield* ann.ask({ t: "history", conv }))["head"], before)
      // What is wrong is refused all the same.
      devices[0]!.say({ t: "mark", conv, delivered: 99 })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(devices[0]!.of("err")[0], { code: "bad_request" })
    })
  )

  it.effect("that were lost on their way to an edge are told again", () =>
    Effect.gen(function* () {
      const { connect, group, nodes, routing } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      const cat = yield* connect("cat", 1)
      const small = yield* group(ann, ["bob"])
      const large = yield* group(ann, ["cat", ...Array.from({ length: 60 }, (_, i) => `user${i}`)])
      yield* talk(ann, small, 3)
      yield* TestClock.adjust("10 seconds")
      ann.clear()
      routing.lose(nodes[0]!.name)
      bob.say({ t: "mark", conv: small, seen: 3 })
      cat.say({ t: "mark", conv: large, seen: 1 })
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ann.of("receipt"), [])
      routing.found(nodes[0]!.name)
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(ann.of("receipt"), { t: "receipt", conv: small, user: "bob", delivered: 3, seen: 3 })
      assert.deepInclude(ann.of("receipt"), {
        t: "receipt",
        conv: large,
        seq: 1,
        deliveredCount: 1,
        seenCount: 1
      })
    })
  )

  it.effect("that were lost are told again though others take nothing more of what they have missed", () =>
    Effect.gen(function* () {
      const { connect, group, nodes, routing } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      const conv = yield* group(ann, ["bob"])
      yield* talk(ann, conv, 3)
      // More than attach again at once.
      const deaf = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, i) => `deaf${i}`),
        (user) => connect(user)
      )
      const noisy = yield* group(
        bob,
        deaf.map(({ user }) => user)
      )
      for (const device of deaf) device.stall()
      yield* talk(bob, noisy, 700)
      routing.lose(nodes[0]!.name)
      bob.say({ t: "members", rid: "out", cid: "out", conv: noisy, remove: deaf.map(({ user }) => user) })
      bob.say({ t: "mark", conv, seen: 3 })
      yield* TestClock.adjust("1 second")
      ann.clear()
      routing.found(nodes[0]!.name)
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(ann.of("receipt"), { t: "receipt", conv, user: "bob", delivered: 3, seen: 3 })
      assert.isFalse(deaf.some((device) => device.of("closed").length > 0))
    })
  )

  it.effect("that a writer did not tell before it died are told by another one, as they are then", () =>
    Effect.gen(function* () {
      const routing = makeMemoryRouting(() => 0)
      const node = routing.join("n1")
      for (const user of ["ann", "bob"]) yield* node.register(user)
      const shared = yield* Layer.build(
        Layer.mergeAll(
          layerLog(makeMemoryLog(1)),
          layerEvents(makeMemoryEventBus()),
          Layer.sync(Router, () => routing.join("w1"))
        )
      )
      yield* Effect.gen(function* () {
        const log = yield* EventLog
        const large = { by: "ann", conv: "g:large", cid: "c", intent: { type: "create", members: many } } as const
        const dead = yield* LogCommitter.claim(log)
        yield* dead.commit([say("dm:ann:bob", "ann", "c1", "hello"), say("dm:ann:bob", "ann", "c2", "hello"), large])
        yield* dead.commit([mark("dm:ann:bob", "bob", 1), mark("g:large", "bob", 1)])
        yield* dead.commit([mark("dm:ann:bob", "bob", 2)])
      }).pipe(Effect.provide(shared))
      const relay = yield* Effect.provide(
        Relay,
        yield* Layer.build(Layer.provide(Relay.layer, Layer.succeedContext(shared)))
      )
      yield* Effect.forkScoped(relay.run)
      yield* TestClock.adjust("10 seconds")
      const taken: Array<NodeItem> = []
      while (!taken.some((item) => item._tag === "Receipt" && "seq" in item.receipt))
        taken.push(...(yield* node.take(100)))
      const told = taken.flatMap((item) => (item._tag === "Receipt" ? [item.receipt] : []))
      assert.deepInclude(told, { conv: "dm:ann:bob", user: "bob", delivered: 2, seen: 2 })
      assert.deepInclude(told, { conv: "g:large", seq: 1, deliveredCount: 1, seenCount: 1 })
    })
  )
})

const many = ["ann", "bob", ...Array.from({ length: 60 }, (_, i) => `user${String(i).padStart(2, "0")}`)]
