import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { StoredEvent } from "../../src/domain/events.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { type MissedRequest, Queries } from "../../src/read-side/Queries.ts"
import { layer as queriesLive } from "../../src/read-side/QueriesLive.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerMemory as readModelsMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { appender } from "../support/historyLog.ts"

/** One partition, so that positions can be told by heart: the n-th event has position n. */
const conversation = Effect.fnUntraced(function* () {
  const ports = Layer.mergeAll(logMemory(makeMemoryLog(1)), readModelsMemory(makeReadModelsEngine(1)))
  const context = yield* Layer.build(Layer.fresh(queriesLive.pipe(Layer.provideMerge(ports))))
  const append = yield* appender(Context.get(context, EventLog))
  const seqs = new Map<string, { seq: number; position: number }>()
  let position = 0
  const add = Effect.fnUntraced(function* (conv: string, count: number, event: (seq: number) => Partial<StoredEvent>) {
    const events: Array<StoredEvent> = []
    for (let i = 0; i < count; i++) {
      const before = seqs.get(conv) ?? { seq: 0, position: 0 }
      const seq = before.seq + 1
      position++
      seqs.set(conv, { seq, position })
      events.push({
        conv,
        seq,
        by: "ann",
        at: position,
        cid: `c${position}`,
        digest: "",
        v: 1,
        partition: partitionOf(conv, 1),
        position,
        prev: before.position,
        ...event(seq)
      } as StoredEvent)
    }
    yield* append(events)
    yield* Context.get(context, ReadModels).apply([{ partition: 0, events }])
  })
  const queries = Context.get(context, Queries)
  return {
    /** Ann sends messages. */
    messages: (conv: string, count: number) =>
      add(conv, count, () => ({ type: "message", data: { kind: "text", body: "x" } })),
    create: (conv: string, members: ReadonlyArray<string>) =>
      add(conv, 1, () => ({ type: "created", data: { kind: "group", members } })),
    remove: (conv: string, user: string) => add(conv, 1, () => ({ type: "members", data: { removed: [user] } })),
    add: (conv: string, user: string) => add(conv, 1, () => ({ type: "members", data: { added: [user] } })),
    /** What Bob's device missed since a position. */
    missed: (since: number | undefined, seqs: MissedRequest["seqs"] = {}) =>
      queries.missed({ user: "bob", since: since === undefined ? undefined : [since], seqs, barrier: [position] })
  }
})

const DM = "dm:ann:bob"
const group = (n: number) => `g:00000000-0000-8000-8000-${String(n).padStart(12, "0")}`

describe("what a device missed", () => {
  it.effect("nothing, when nothing happened", () =>
    Effect.gen(function* () {
      const { messages, missed } = yield* conversation()
      yield* messages(DM, 3)
      assert.deepStrictEqual(yield* missed(3), [])
      assert.deepStrictEqual(yield* missed(3, { [DM]: 3 }), [])
    })
  )

  it.effect("the events after the cursor, or from where the device says that it is when that is lower", () =>
    Effect.gen(function* () {
      const { messages, missed } = yield* conversation()
      yield* messages(DM, 30)
      assert.deepStrictEqual(yield* missed(5), [{ _tag: "Replay", conv: DM, after: 5, head: 30 }])
      assert.deepStrictEqual(yield* missed(25), [{ _tag: "Replay", conv: DM, after: 25, head: 30 }])
      assert.deepStrictEqual(yield* missed(5, { [DM]: 2 }), [{ _tag: "Replay", conv: DM, after: 2, head: 30 }])
      assert.deepStrictEqual(yield* missed(5, { [DM]: 9 }), [{ _tag: "Replay", conv: DM, after: 5, head: 30 }])
    })
  )

  it.effect("also what the device says that it lacks of a conversation without anything after the cursor", () =>
    Effect.gen(function* () {
      const { messages, missed } = yield* conversation()
      yield* messages(DM, 30)
      assert.deepStrictEqual(yield* missed(30, { [DM]: 28 }), [{ _tag: "Replay", conv: DM, after: 28, head: 30 }])
    })
  )

  it.effect("200 events of a conversation are replayed, 201 are too many", () =>
    Effect.gen(function* () {
      const { messages, missed } = yield* conversation()
      yield* messages(DM, 250)
      assert.deepStrictEqual(yield* missed(50), [{ _tag: "Replay", conv: DM, after: 50, head: 250 }])
      assert.deepStrictEqual(yield* missed(49), [{ _tag: "Reset", conv: DM, head: 250 }])
      assert.deepStrictEqual(yield* missed(250, { [DM]: 49 }), [{ _tag: "Reset", conv: DM, head: 250 }])
    })
  )

  it.effect("2,000 events are replayed in all, and what fits no more is reset", () =>
    Effect.gen(function* () {
      const { create, messages, missed } = yield* conversation()
      for (let i = 1; i <= 12; i++) {
        yield* create(group(i), ["ann", "bob"])
        yield* messages(group(i), 179)
      }
      const found = yield* missed(0)
      assert.strictEqual(found.length, 12)
      const replayed = found.flatMap((entry) => (entry._tag === "Replay" ? [entry.head - entry.after] : []))
      assert.deepStrictEqual(
        replayed,
        Array.from({ length: 11 }, () => 180)
      )
      assert.strictEqual(found.filter((entry) => entry._tag === "Reset").length, 1)
    })
  )

  it.effect("a device that is ahead of the log is reset", () =>
    Effect.gen(function* () {
      const { messages, missed } = yield* conversation()
      yield* messages(DM, 3)
      assert.deepStrictEqual(yield* missed(3, { [DM]: 4 }), [{ _tag: "Reset", conv: DM, head: 3 }])
      assert.deepStrictEqual(yield* missed(2, { [DM]: 4 }), [{ _tag: "Reset", conv: DM, head: 3 }])
      assert.deepStrictEqual(yield* missed(9), [{ _tag: "Reset", conv: DM, head: 3 }])
      assert.deepStrictEqual(yield* missed(3, { "dm:bob:zoe": 2 }), [{ _tag: "Reset", conv: "dm:bob:zoe", head: 0 }])
    })
  )

  it.effect("that it is gone from a conversation: when removed since, and always when it asks", () =>
    Effect.gen(function* () {
      const { create, messages, missed, remove } = yield* conversation()
      yield* create(group(1), ["ann", "bob"])
      yield* messages(group(1), 3)
      yield* remove(group(1), "bob")
      yield* messages(group(1), 3)
      assert.deepStrictEqual(yield* missed(2), [{ _tag: "Gone", conv: group(1) }])
      assert.deepStrictEqual(yield* missed(5), [])
      assert.deepStrictEqual(yield* missed(8, { [group(1)]: 4 }), [{ _tag: "Gone", conv: group(1) }])
      assert.deepStrictEqual(yield* missed(8, { [group(7)]: 4 }), [{ _tag: "Gone", conv: group(7) }])
      assert.deepStrictEqual(yield* missed(8, { "dm:ann:zoe": 4 }), [{ _tag: "Gone", conv: "dm:ann:zoe" }])
    })
  )

  it.effect("everything that happened while it was out, when it was brought back", () =>
    Effect.gen(function* () {
      const { add, create, messages, missed, remove } = yield* conversation()
      yield* create(group(1), ["ann", "bob"])
      yield* remove(group(1), "bob")
      yield* messages(group(1), 3)
      yield* add(group(1), "bob")
      assert.deepStrictEqual(yield* missed(1), [{ _tag: "Replay", conv: group(1), after: 1, head: 6 }])
    })
  )

  it.effect("everything anew after an unknown cursor, what it left included", () =>
    Effect.gen(function* () {
      const { create, messages, missed, remove } = yield* conversation()
      yield* messages(DM, 3)
      yield* create(group(1), ["ann", "bob"])
      yield* create(group(2), ["ann", "bob"])
      yield* remove(group(2), "bob")
      const expected = [
        { _tag: "Reset", conv: DM, head: 3 },
        { _tag: "Reset", conv: group(1), head: 1 },
        { _tag: "Gone", conv: group(2) }
      ]
      assert.deepStrictEqual<unknown>(yield* missed(undefined), expected)
      assert.deepStrictEqual<unknown>(yield* missed(undefined, { [DM]: 3 }), expected)
    })
  )
})
