import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch } from "effect"
import type { TimelineEvent } from "../../src/domain/events.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { BigConversations } from "../../src/edge/BigConversations.ts"
import { makeMemoryRouting } from "../../src/platform/RouterMemory.ts"
import type { Queries } from "../../src/read-side/Queries.ts"

const PARTITIONS = 2
const conv = "g:00000000-0000-8000-8000-000000000000"
const partition = partitionOf(conv, PARTITIONS)

const event = (position: number, data: Partial<TimelineEvent> = {}): TimelineEvent =>
  ({
    conv,
    seq: position,
    type: "message",
    by: "ann",
    partition,
    position,
    prev: position - 1,
    ...data
  }) as TimelineEvent

const added = (position: number, ...users: ReadonlyArray<string>) => ({
  _tag: "MessagePersisted" as const,
  event: event(position, { type: "members", data: { added: users } }),
  users,
  big: true as const
})
const removed = (position: number, ...users: ReadonlyArray<string>) => ({
  ...added(position, ...users),
  event: event(position, { type: "members", data: { removed: users } })
})

/** A node that holds ann and bob, and a log whose answers wait for `answering` where it is closed. */
const scene = Effect.gen(function* () {
  const router = makeMemoryRouting(() => 0).join("n1")
  const log = { head: 0, members: ["ann", "bob"] as ReadonlyArray<string>, big: [] as ReadonlyArray<string> }
  const answering = Latch.makeUnsafe(true)
  const given: Array<string> = []
  const progress = [0, 0]
  const here = new Set(["ann", "bob"])
  const context = yield* Effect.context<never>()
  const big = new BigConversations({
    router,
    queries: {
      bigConversations: () =>
        Effect.andThen(
          answering.await,
          Effect.sync(() => log.big)
        ),
      standing: (_, users) =>
        Effect.andThen(
          answering.await,
          Effect.sync(() => ({ members: users.filter((user) => log.members.includes(user)), head: log.head }))
        ),
      pull: (_, after) => Effect.succeed([event(after + 1)])
    } satisfies Partial<Queries["Service"]>,
    barrier: Effect.sync(() => Array.from({ length: PARTITIONS }, () => log.head)),
    partitions: PARTITIONS,
    isHere: (user) => here.has(user),
    give: (user, { seq }) => void given.push(`${user} ${seq}`),
    fork: (effect) => void Effect.runForkWith(context)(effect),
    progress
  })
  const isRegistered = Effect.map(router.routes([conv]), (routes) => routes.size === 1)
  return { answering, big, given, here, isRegistered, log, progress }
})

/** Lets everything go as far as it can. */
const settle = Effect.forEach(Array.from({ length: 20 }), () => Effect.yieldNow, { discard: true })

describe("a node's interest in big conversations", () => {
  it.effect("holds its progress back from the event that brings somebody in until what followed it is looked up", () =>
    Effect.gen(function* () {
      const { answering, big, given, log, progress } = yield* scene
      yield* big.ensure("ann")
      answering.closeUnsafe()
      log.head = 7
      big.changed(added(5, "ann"))
      big.came(partition, 7)
      big.came(1 - partition, 9)
      yield* settle
      assert.strictEqual(progress[partition], 4)
      assert.strictEqual(progress[1 - partition], 9)
      assert.deepStrictEqual(given, [])
      answering.openUnsafe()
      yield* settle
      assert.deepStrictEqual(given, ["ann 7"])
      assert.strictEqual(progress[partition], 7)
    })
  )

  it.effect("does not look up what followed where it was interested before the event", () =>
    Effect.gen(function* () {
      const { big, given, log, progress } = yield* scene
      log.big = [conv]
      log.head = 4
      yield* big.ensure("ann")
      yield* settle
      log.big = []
      yield* big.ensure("bob")
      big.changed(added(5, "bob"))
      big.came(partition, 6)
      assert.strictEqual(progress[partition], 6)
      yield* settle
      assert.deepStrictEqual(given, [])
      assert.deepStrictEqual([...big.usersOf(conv)].sort(), ["ann", "bob"])
      // One that was committed before, and comes late.
      log.head = 6
      big.forget("ann")
      big.forget("bob")
      yield* settle
      yield* big.ensure("bob")
      big.changed(added(7, "bob"))
      yield* settle
      assert.deepStrictEqual(given, ["bob 6"])
    })
  )

  it.effect("waits for the removal of one whom the log knows to be removed", () =>
    Effect.gen(function* () {
      const { big, given, log, progress } = yield* scene
      yield* big.ensure("ann")
      log.head = 8
      log.members = []
      big.changed(added(5, "ann"))
      big.came(partition, 6)
      yield* settle
      assert.deepStrictEqual(given, [])
      assert.strictEqual(progress[partition], 4)
      big.changed(removed(7, "ann"))
      assert.strictEqual(progress[partition], 6)
      assert.deepStrictEqual(big.usersOf(conv), [])
    })
  )

  it.effect("takes what is told again for what it is, and prefers what is told while it asks", () =>
    Effect.gen(function* () {
      const { answering, big, isRegistered, log } = yield* scene
      log.big = [conv]
      log.head = 4
      answering.closeUnsafe()
      const asked = yield* Effect.forkChild(big.ensure("ann"), { startImmediately: true })
      big.changed(removed(5, "ann"))
      answering.openUnsafe()
      yield* settle
      assert.isDefined(asked.pollUnsafe())
      assert.deepStrictEqual(big.usersOf(conv), [])
      big.changed(added(3, "ann"))
      assert.deepStrictEqual(big.usersOf(conv), [])
      big.changed(added(6, "ann"))
      yield* settle
      assert.deepStrictEqual(big.usersOf(conv), ["ann"])
      assert.isTrue(yield* isRegistered)
      big.changed(removed(7, "ann"))
      big.changed(added(6, "ann"))
      yield* settle
      assert.isFalse(yield* isRegistered)
    })
  )

  it.effect(
    "ends with the last who is here, with a conversation that is not big any more, and with what comes for nobody",
    () =>
      Effect.gen(function* () {
        const { big, isRegistered, log } = yield* scene
        log.big = [conv]
        yield* big.ensure("ann")
        yield* big.ensure("bob")
        big.forget("ann")
        yield* settle
        assert.isTrue(yield* isRegistered)
        big.forget("bob")
        yield* settle
        assert.isFalse(yield* isRegistered)
        yield* big.ensure("ann")
        assert.isTrue(yield* isRegistered)
        const { event, users } = removed(9, "cat")
        big.changed({ _tag: "MessagePersisted", event, users: [...users, "ann"] })
        yield* settle
        assert.isFalse(yield* isRegistered)
        big.lost()
        yield* big.ensure("ann")
        assert.deepStrictEqual(big.usersOf(conv), ["ann"])
        big.lost()
        big.stray(conv)
        yield* settle
        assert.isFalse(yield* isRegistered)
      })
  )
})
