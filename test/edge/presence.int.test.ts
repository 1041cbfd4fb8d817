import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import { edges } from "../support/edges.ts"

const states = (reply: Readonly<Record<string, unknown>>) => reply["users"]

describe("presence", () => {
  it.effect("outlives a connection by fifteen seconds, and one who comes back within them was never gone", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      yield* group(ann, ["bob"])
      const reply = yield* ann.ask({ t: "presence", users: ["bob"], watch: true })
      assert.deepStrictEqual(states(reply), { bob: { online: true } })
      bob.leave()
      yield* TestClock.adjust("13 seconds")
      const again = yield* connect("bob", 0)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(ann.of("presence"), [])

      const left = yield* Clock.currentTimeMillis
      again.leave()
      yield* TestClock.adjust("13 seconds")
      assert.deepStrictEqual(ann.of("presence"), [])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(ann.of("presence"), [{ t: "presence", user: "bob", online: false, lastSeen: left }])
      const last = yield* connect("bob", 1)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ann.of("presence").slice(1), [{ t: "presence", user: "bob", online: true }])

      yield* ann.ask({ t: "presence", users: ["bob"], watch: false })
      last.leave()
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(ann.of("presence"), 2)
    })
  )

  it.effect("is told of those with whom one shares a conversation; others are like those who were never there", () =>
    Effect.gen(function* () {
      const { connect, group, nodes } = yield* edges(1)
      const ann = yield* connect("ann")
      for (const user of ["bob", "cat", "dan", "eve"]) yield* connect(user)
      const gone = yield* connect("fay")
      gone.leave()
      yield* TestClock.adjust("20 seconds")
      yield* group(ann, ["bob", "cat"])
      ann.say({ t: "send", cid: "c1", to: "dan", body: "hello" })
      yield* TestClock.adjust("1 second")
      const users = ["ann", "bob", "cat", "dan", "eve", "fay", "nobody"]
      const expected = {
        ann: { online: true },
        bob: { online: true },
        cat: { online: true },
        dan: { online: true },
        eve: { online: false },
        fay: { online: false },
        nobody: { online: false }
      }
      assert.deepStrictEqual(states(yield* ann.ask({ t: "presence", users })), expected)
      // The same over HTTP.
      assert.deepStrictEqual(Object.fromEntries(yield* nodes[0]!.hub.presence("ann", users)), expected)
    })
  )

  it.effect("of a stranger is told once they share a conversation, and no more when they share none", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      const reply = yield* ann.ask({ t: "presence", users: ["bob"], watch: true })
      assert.deepStrictEqual(states(reply), { bob: { online: false } })
      bob.leave()
      yield* TestClock.adjust("20 seconds")
      yield* connect("bob", 1)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ann.of("presence"), [])

      const conv = yield* group(ann, ["bob"])
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(ann.of("presence"), [{ t: "presence", user: "bob", online: true }])
      ann.clear()
      yield* ann.ask({ t: "members", conv, remove: ["bob"] })
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(ann.of("presence"), [{ t: "presence", user: "bob", online: false }])
      ann.clear()
      const third = yield* connect("bob", 0)
      third.leave()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(ann.of("presence"), [])
    })
  )

  it.effect("goes on being told of one who leaves one of two shared conversations", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(1)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob")
      const first = yield* group(ann, ["bob"])
      yield* group(ann, ["bob"])
      yield* ann.ask({ t: "presence", users: ["bob"], watch: true })
      yield* ann.ask({ t: "members", conv: first, remove: ["bob"] })
      yield* TestClock.adjust("3 seconds")
      ann.clear()
      bob.leave()
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(
        ann.of("presence").map(({ online }) => online),
        [false]
      )
    })
  )

  it.effect("that changes many times within a second is told once", () =>
    Effect.gen(function* () {
      const { connect, group, routing } = yield* edges(1)
      const ann = yield* connect("ann")
      yield* group(ann, ["bob"])
      yield* ann.ask({ t: "presence", users: ["bob"], watch: true })
      const other = routing.join("other")
      for (let i = 0; i < 50; i++) {
        yield* other.register("bob")
        yield* other.unregister("bob")
      }
      yield* other.register("bob")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ann.of("presence"), [{ t: "presence", user: "bob", online: true }])
    })
  )

  it.effect("is told again after changes may have been lost", () =>
    Effect.gen(function* () {
      const { connect, group, nodes, routing } = yield* edges(2)
      const ann = yield* connect("ann")
      yield* connect("bob", 1)
      yield* group(ann, ["bob"])
      yield* ann.ask({ t: "presence", users: ["bob", "eve"], watch: true })
      routing.lose(nodes[0]!.name)
      routing.found(nodes[0]!.name)
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(ann.of("presence"), [{ t: "presence", user: "bob", online: true }])
    })
  )

  it.effect("of a thousand users may be watched by a connection, and of no more until some are let go", () =>
    Effect.gen(function* () {
      const { connect } = yield* edges(1)
      const ann = yield* connect("ann")
      const users = Array.from({ length: 1_200 }, (_, i) => `user${i}`)
      for (let from = 0; from < 1_000; from += 200)
        assert.strictEqual(
          (yield* ann.ask({ t: "presence", users: users.slice(from, from + 200), watch: true }))["t"],
          "reply"
        )
      // Those who are watched already take no more room.
      const same = yield* ann.ask({ t: "presence", users: users.slice(0, 200), watch: true })
      assert.strictEqual(same["t"], "reply")
      const refused = yield* ann.ask({ t: "presence", users: users.slice(999, 1_001), watch: true })
      assert.deepInclude(refused, { t: "err", code: "bad_request", retryable: false })
      assert.include(String(refused["message"]), "1000")
      yield* ann.ask({ t: "presence", users: users.slice(0, 1), watch: false })
      const later = yield* ann.ask({ t: "presence", users: users.slice(999, 1_001), watch: true })
      assert.strictEqual(later["t"], "reply")
    })
  )
})
