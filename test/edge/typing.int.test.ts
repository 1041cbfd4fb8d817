import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { edges, type Device } from "../support/edges.ts"

const said = (device: Device) => device.of("typing").map(({ on }) => on)

describe("typing", () => {
  it.effect("is over by itself for those who were told, on every edge, when it is not said again", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const near = yield* connect("bob")
      const far = yield* connect("bob", 1)
      const conv = yield* group(ann, ["bob"])
      yield* TestClock.adjust("1 second")
      ann.say({ t: "typing", conv, on: true })
      yield* TestClock.adjust("5 seconds")
      for (const bob of [near, far]) assert.deepStrictEqual(said(bob), [true])
      // It is said again, and lasts so much longer.
      ann.say({ t: "typing", conv, on: true })
      yield* TestClock.adjust("5 seconds")
      for (const bob of [near, far]) assert.deepStrictEqual(said(bob), [true, true])
      yield* TestClock.adjust("3 seconds")
      for (const bob of [near, far]) {
        assert.deepStrictEqual(said(bob), [true, true, false])
        assert.deepStrictEqual(bob.of("typing")[2], { t: "typing", conv, user: "ann", on: false })
      }
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(said(near), 3)
      assert.deepStrictEqual(said(ann), [])
    })
  )

  it.effect("is passed on seldom, however often it is said, and its end at once", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(1)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob")
      const conv = yield* group(ann, ["bob"])
      yield* TestClock.adjust("1 second")
      for (let key = 0; key < 100; key++) {
        ann.say({ t: "typing", conv, on: true })
        yield* TestClock.adjust("100 millis")
      }
      assert.deepStrictEqual(said(bob), [true, true, true, true])
      ann.say({ t: "typing", conv, on: false })
      ann.say({ t: "typing", conv, on: false })
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(said(bob).slice(4), [false])
      // On and off as fast as it goes is no way around.
      bob.clear()
      for (let i = 0; i < 100; i++) {
        ann.say({ t: "typing", conv, on: i % 2 === 0 })
        yield* TestClock.adjust("20 millis")
      }
      assert.isAtMost(said(bob).length, 6)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(said(bob).at(-1), false)
    })
  )

  it.effect("reaches no one who is not a member any more", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      const cat = yield* connect("cat", 1)
      const conv = yield* group(ann, ["bob", "cat"])
      yield* TestClock.adjust("1 second")
      ann.say({ t: "typing", conv, on: true })
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(said(cat), [true])
      yield* ann.ask({ t: "members", conv, remove: ["cat"] })
      // One that did not see the removal itself.
      const back = yield* connect("cat", 1)
      yield* TestClock.adjust("10 seconds")
      ann.say({ t: "typing", conv, on: true })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(said(bob), [true, false, true, false])
      assert.deepStrictEqual([said(cat), said(back)], [[true], []])
      back.say({ t: "typing", conv, on: true })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(back.of("err")[0], { code: "not_found" })
    })
  )

  it.effect("is what a connection that reads slowly does without first", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(1)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob")
      const conv = yield* group(ann, ["bob"])
      yield* TestClock.adjust("1 second")
      bob.clear()
      bob.stall()
      // More people than a queue has places, half of which are for what must come.
      ann.say({ t: "send", cid: "first", conv, body: "hello" })
      const others = Array.from({ length: 180 }, (_, i) => `user${i}`)
      yield* ann.ask({ t: "members", conv, add: others })
      for (const user of others) {
        const other = yield* connect(user)
        for (let i = 0; i < 8; i++) {
          other.say({ t: "typing", conv, on: i % 2 === 0 })
          yield* TestClock.adjust("300 millis")
        }
        other.leave()
      }
      for (let i = 0; i < 1_000; i++) ann.say({ t: "send", cid: `c${i}`, conv, body: "hello" })
      yield* TestClock.adjust("1 second")
      bob.flow()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(bob.of("closed"), [])
      assert.deepStrictEqual(
        bob.of("event").map(({ seq }) => seq),
        Array.from({ length: 1_002 }, (_, i) => i + 2)
      )
    })
  )
})
