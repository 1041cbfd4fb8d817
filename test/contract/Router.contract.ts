import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import type { NodeItem, Router, Signal } from "../../src/platform/Router.ts"

/** One routing engine, without nodes at first. */
export interface RoutingEnds {
  /** A process that joins it, with a stream of its own under this name. */
  readonly join: (node: string) => Effect.Effect<Router["Service"], never, Scope.Scope>
  /** Ends a node as its death does, and returns when the others are bound to know. */
  readonly kill: (node: string) => Effect.Effect<void>
}

/** What one item of a stream may be: distinct by its position. */
const itemOf = (position: number): NodeItem => ({ _tag: "Progress", partition: 0, position })

const items = (from: number, to: number): ReadonlyArray<NodeItem> =>
  Array.from({ length: to - from }, (_, i) => itemOf(from + i))

const typing = (session: string): Signal => ({ _tag: "Typing", conv: "dm:ann:bob", user: "ann", on: true, session })

/** Takes until a signal fulfils this; signals of presence come as they please in between. */
const signalled = Effect.fnUntraced(function* (router: Router["Service"], wanted: (signal: Signal) => boolean) {
  while (true) {
    const found = (yield* router.takeSignals).find(({ signal }) => wanted(signal))
    if (found !== undefined) return found
  }
})

/** What an adapter of `Router` must do. */
export const routerContract = (name: string, open: Effect.Effect<RoutingEnds, never, Scope.Scope>): void => {
  describe(`Router: ${name}`, () => {
    it.live("knows which nodes hold a user, from when register answers until unregister does", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        assert.deepStrictEqual([...(yield* n1.nodes)].sort(), ["n1", "n2"])
        assert.strictEqual(n1.node, "n1")
        yield* n1.register("ann")
        yield* n1.register("ann")
        yield* n2.register("ann")
        yield* n2.register("bob")
        const routes = yield* n1.routes(["ann", "bob", "nobody"])
        assert.deepStrictEqual(Object.fromEntries(routes), {
          n1: ["ann"],
          n2: ["ann", "bob"]
        })
        yield* n1.unregister("ann")
        assert.deepStrictEqual([...(yield* n1.routes(["ann"]))], [["n2", ["ann"]]])
        yield* n1.unregister("bob")
        assert.deepStrictEqual([...(yield* n2.routes(["bob"]))], [["n2", ["bob"]]])
      })
    )

    it.live("knows which nodes are interested in a big conversation, and takes it for nobody who is there", () =>
      Effect.gen(function* () {
        const { join, kill } = yield* open
        const conv = "g:00000000-0000-8000-8000-000000000001"
        const other = "g:00000000-0000-8000-8000-000000000002"
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        yield* n1.register(conv)
        yield* n2.register(conv)
        yield* n2.register("ann")
        assert.deepStrictEqual(Object.fromEntries(yield* n1.routes([conv, other, "ann"])), {
          n1: [conv],
          n2: [conv, "ann"]
        })
        yield* n1.unregister(conv)
        assert.deepStrictEqual(Object.fromEntries(yield* n2.routes([conv])), { n2: [conv] })
        yield* n1.register(other)
        yield* n1.unregister(other)
        assert.isUndefined((yield* n1.presence([other])).get(other)?.lastSeen)
        yield* kill("n2")
        assert.strictEqual((yield* n1.routes([conv])).size, 0)
        assert.deepStrictEqual((yield* n1.presence([conv])).get(conv), { online: false })
        // Of all that came and went here the nodes were told of ann only.
        yield* n1.register("bob")
        const told = new Set<string>()
        while (!told.has("bob")) {
          for (const { signal } of yield* n1.takeSignals) if (signal._tag === "Presence") told.add(signal.user)
        }
        assert.deepStrictEqual([...told].sort(), ["ann", "bob"])
      })
    )

    it.live("brings a node what was appended to its stream, all of it and in order", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const sender = yield* join("sender")
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        yield* n2.append("n2", items(1_000, 1_010))
        for (let from = 0; from < 100; from += 10) yield* sender.append("n1", items(from, from + 10))
        const taken: Array<NodeItem> = []
        while (taken.length < 100) {
          const some = yield* n1.take(7)
          assert.isAtLeast(some.length, 1)
          assert.isAtMost(some.length, 7)
          taken.push(...some)
        }
        assert.deepStrictEqual(taken, items(0, 100))
        assert.deepStrictEqual(yield* n2.take(100), items(1_000, 1_010))
      })
    )

    it.live("lets a node wait for the first item, and one that gave up waiting takes nothing along", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const given = yield* Effect.forkChild(n1.take(5), { startImmediately: true })
        assert.isUndefined(given.pollUnsafe())
        yield* Fiber.interrupt(given)
        yield* n1.append("n1", [itemOf(1)])
        assert.deepStrictEqual(yield* n1.take(5), [itemOf(1)])
      })
    )

    it.live("forgets a node that died: its routes, its stream, and that its users are there", () =>
      Effect.gen(function* () {
        const { join, kill } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        yield* n1.register("ann")
        yield* n2.register("ann")
        yield* n2.register("bob")
        yield* kill("n2")
        assert.deepStrictEqual([...(yield* n1.nodes)], ["n1"])
        assert.deepStrictEqual([...(yield* n1.routes(["ann", "bob"]))], [["n1", ["ann"]]])
        const presence = yield* n1.presence(["ann", "bob"])
        assert.isTrue(presence.get("ann")?.online)
        assert.isFalse(presence.get("bob")?.online)
        // What is sent to it is dropped, and holds nobody up.
        yield* n1.append("n2", items(0, 10))
      })
    )

    it.live("says who is there, and since when they are not", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        yield* n1.register("ann")
        yield* n2.register("ann")
        yield* n1.unregister("ann")
        assert.deepStrictEqual((yield* n1.presence(["ann"])).get("ann"), { online: true })
        const before = Date.now()
        yield* n2.unregister("ann")
        const presence = yield* n1.presence(["ann", "never"])
        assert.deepStrictEqual(presence.get("never"), { online: false })
        const { lastSeen, online } = presence.get("ann")!
        assert.isFalse(online)
        assert.isAtLeast(lastSeen ?? 0, before)
        assert.isAtMost(lastSeen ?? Infinity, Date.now())
        // Who is said to be gone later was seen when they left.
        yield* n1.register("ann")
        yield* n1.register("bob")
        yield* n1.unregister("bob", 15_000)
        const bob = (yield* n2.presence(["bob"])).get("bob")
        assert.isFalse(bob?.online)
        assert.isAtLeast(bob?.lastSeen ?? 0, before - 15_000)
        assert.isAtMost(bob?.lastSeen ?? Infinity, Date.now() - 15_000)
      })
    )

    it.live("tells all nodes when a user comes and when their last device leaves", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        const of = (online: boolean) => (signal: Signal) =>
          signal._tag === "Presence" && signal.user === "ann" && signal.online === online
        yield* n1.register("ann")
        yield* signalled(n2, of(true))
        yield* n1.unregister("ann")
        const { signal } = yield* signalled(n2, of(false))
        assert.isNumber(signal._tag === "Presence" ? signal.lastSeen : undefined)
      })
    )

    it.live("brings a signal to the nodes that hold its users, with those of them that are there", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        yield* n1.register("ann")
        yield* n2.register("bob")
        yield* n1.signal(["ann"], typing("first"))
        yield* n1.signal(["bob", "ann", "nobody"], typing("second"))
        const sessionOf = (signal: Signal) => (signal._tag === "Typing" ? signal.session : "")
        const toBob = yield* signalled(n2, (signal) => signal._tag === "Typing")
        assert.deepStrictEqual(toBob, { users: ["bob"], signal: typing("second") })
        const toAnn = yield* signalled(n1, (signal) => sessionOf(signal) === "second")
        assert.deepStrictEqual(toAnn.users, ["ann"])
      })
    )

    it.live("lets a key be claimed once, by one of all nodes, until it expires", () =>
      Effect.gen(function* () {
        const { join } = yield* open
        const n1 = yield* join("n1")
        const n2 = yield* join("n2")
        const claims = yield* Effect.all(
          Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? n1 : n2).claimOnce("ticket", 60_000)),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(claims.filter(Boolean), 1)
        assert.isTrue(yield* n2.claimOnce("another", 1))
        const deadline = Date.now() + 5_000
        while (!(yield* n1.claimOnce("another", 1))) {
          assert.isBelow(Date.now(), deadline, "a claim of one millisecond did not expire")
          yield* Effect.yieldNow
        }
        assert.isFalse(yield* n1.claimOnce("ticket", 60_000))
      })
    )
  })
}
