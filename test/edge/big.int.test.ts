import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { TestClock } from "effect/testing"
import { type Device, edges } from "../support/edges.ts"

/** As many that with who makes the group and one more it is not big yet. */
const CROWD = Array.from({ length: 198 }, (_, i) => `user${i}`)

let cids = 0
const send = (device: Device, conv: string, body: string): void =>
  device.say({ t: "send", cid: `c${++cids}`, conv, body })

const change = (
  device: Device,
  conv: string,
  what: { readonly add?: ReadonlyArray<string> } | { readonly remove: ReadonlyArray<string> }
): void => device.say({ t: "members", rid: `r${++cids}`, cid: `c${cids}`, conv, ...what })

const bodies = (device: Device): ReadonlyArray<unknown> =>
  device.of("event").flatMap(({ data, type }) => (type === "message" ? [(data as { readonly body: string }).body] : []))

const seqs = (device: Device, conv: string): ReadonlyArray<unknown> =>
  device.got.filter((frame) => frame["conv"] === conv && "seq" in frame).map(({ seq }) => seq)

const soon = TestClock.adjust("500 millis")

describe("big conversations", () => {
  it.effect("are known before a connection is told how far it is", () =>
    Effect.gen(function* () {
      const answering = Latch.makeUnsafe(true)
      const { connect, group } = yield* edges(2, (queries) => ({
        ...queries,
        bigConversations: (user, barrier) => Effect.andThen(answering.await, queries.bigConversations(user, barrier))
      }))
      const ann = yield* connect("ann")
      const conv = yield* group(ann, [...CROWD, "bob", "cat"])
      const before = yield* connect("bob", 1)
      send(ann, conv, "before")
      yield* TestClock.adjust("2 seconds")
      const { cursor } = before.of("cursor").at(-1)!
      before.leave()
      yield* TestClock.adjust("20 seconds")
      yield* answering.close
      const joining = yield* Effect.forkChild(connect("bob", 1, { resume: { cursor } }))
      yield* soon
      send(ann, conv, "meanwhile")
      yield* soon
      yield* answering.open
      const bob = yield* Fiber.join(joining)
      yield* soon
      assert.deepStrictEqual(bodies(bob), ["meanwhile"])
    })
  )

  it.effect("reach members on every edge, and edges without one are told nothing", () =>
    Effect.gen(function* () {
      const { connect, group, routing } = yield* edges(3)
      const ann = yield* connect("ann")
      const conv = yield* group(ann, [...CROWD, "bob", "cat"])
      const bob = yield* connect("bob", 1)
      const stranger = yield* connect("eve", 2)
      const observer = routing.join("observer")
      assert.deepStrictEqual([...(yield* observer.routes([conv])).keys()].sort(), ["n0", "n1"])
      send(ann, conv, "one")
      send(ann, conv, "two")
      yield* soon
      assert.deepStrictEqual(bodies(bob), ["one", "two"])
      assert.deepStrictEqual(bodies(stranger), [])
      bob.leave()
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual([...(yield* observer.routes([conv])).keys()], ["n0"])
    })
  )

  it.effect("lose nothing that is said in the same moment in which they become big, or stop to be", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const bob = yield* connect("bob", 1)
      const conv = yield* group(ann, [...CROWD, "bob"])
      bob.clear()
      for (let round = 0; round < 3; round++) {
        send(ann, conv, `${round} small`)
        change(ann, conv, { add: ["cat"] })
        send(ann, conv, `${round} big`)
        yield* soon
        send(ann, conv, `${round} still big`)
        change(ann, conv, { remove: ["cat"] })
        send(ann, conv, `${round} small again`)
        yield* soon
      }
      assert.deepStrictEqual(
        bodies(bob),
        [0, 1, 2].flatMap((round) => ["small", "big", "still big", "small again"].map((what) => `${round} ${what}`))
      )
      assert.deepStrictEqual(
        seqs(bob, conv),
        Array.from({ length: 18 }, (_, i) => i + 2)
      )
    })
  )

  it.effect(
    "give one who is taken in what is said right after that, also as the last thing, and one who is removed nothing more",
    () =>
      Effect.gen(function* () {
        const { connect, group } = yield* edges(2)
        const ann = yield* connect("ann")
        const bob = yield* connect("bob", 1)
        const conv = yield* group(ann, [...CROWD, "cat", "dan"])
        change(ann, conv, { add: ["bob"] })
        send(ann, conv, "welcome")
        yield* soon
        assert.deepStrictEqual(bodies(bob), ["welcome"])
        assert.isAbove(bob.of("cursor").length + (yield* TestClock.adjust("2 seconds"), bob.of("cursor").length), 0)
        change(ann, conv, { remove: ["bob"] })
        send(ann, conv, "without bob")
        yield* soon
        assert.deepStrictEqual(bodies(bob), ["welcome"])
        assert.lengthOf(bob.of("gone"), 1)
        change(ann, conv, { add: ["bob"] })
        send(ann, conv, "again")
        yield* soon
        assert.strictEqual(bodies(bob).at(-1), "again")
      })
  )

  it.effect("are complete again after an edge has lost its routes", () =>
    Effect.gen(function* () {
      const { connect, group, nodes, routing } = yield* edges(2)
      const ann = yield* connect("ann")
      const conv = yield* group(ann, [...CROWD, "bob", "cat"])
      const bob = yield* connect("bob", 1)
      routing.lose(nodes[1]!.name)
      send(ann, conv, "lost")
      change(ann, conv, { remove: ["user0"] })
      yield* soon
      assert.deepStrictEqual(bodies(bob), [])
      routing.found(nodes[1]!.name)
      yield* TestClock.adjust("5 seconds")
      send(ann, conv, "found")
      yield* soon
      assert.deepStrictEqual(bodies(bob), ["lost", "found"])
    })
  )

  it.effect("tell their counts to members on every edge", () =>
    Effect.gen(function* () {
      const { connect, group } = yield* edges(2)
      const ann = yield* connect("ann")
      const conv = yield* group(ann, [...CROWD, "bob", "cat"])
      const bob = yield* connect("bob", 1)
      send(ann, conv, "one")
      yield* soon
      ann.say({ t: "mark", conv, seen: 2 })
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(bob.of("receipt").at(-1), { t: "receipt", conv, seq: 2, deliveredCount: 1, seenCount: 1 })
    })
  )
})
