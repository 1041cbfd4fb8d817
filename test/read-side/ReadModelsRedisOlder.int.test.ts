import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { StoredEvent } from "../../src/domain/events.ts"
import type { OlderLog } from "../../src/read-side/ReadModelsRedisApply.ts"
import { appliedLog } from "../support/appliedLog.ts"
import { redisServer } from "../support/redis-server.ts"
import { openReadModels } from "../support/redis-read-models.ts"

const CONV = "dm:ann:bob"

/** A conversation of ann and bob in a partition of its own. What the log was asked is noted, and `between` happens before it answers. */
const conversation = Effect.fnUntraced(function* () {
  const { address } = yield* redisServer()
  const { log, noted } = appliedLog()
  const asked: Array<number> = []
  let between: Effect.Effect<void> = Effect.void
  const interrupted = Effect.suspend(() => {
    const now = between
    between = Effect.void
    return now
  })
  /** Events that the log does not tell of yet. */
  let missing = 0
  const older: OlderLog = {
    timeline: (conv, slice) =>
      log.timeline(conv, slice).pipe(
        Effect.map((events) => events.filter((event) => event.seq <= seq - missing)),
        Effect.tap((events) => Effect.sync(() => void asked.push(events.length)))
      ),
    amendments: (conv, targets) => Effect.tap(log.amendments(conv, targets), () => interrupted)
  }
  const opened = yield* openReadModels({ address, scope: "test", partitions: 1, log: older })
  const readModels = noted(opened.readModels)
  let position = 0
  let seq = 0
  const events: Array<StoredEvent> = []
  const add = (more: ReadonlyArray<Partial<StoredEvent>>) =>
    Effect.suspend(() => {
      for (const one of more) {
        position++
        if (one.type !== "marked") seq++
        events.push({
          conv: CONV,
          by: "ann",
          at: position,
          cid: `c${position}`,
          digest: "",
          v: 1,
          partition: 0,
          position,
          prev: 0,
          seq: one.type === "marked" ? 0 : seq,
          ...one
        } as StoredEvent)
      }
      return readModels.apply([{ partition: 0, events: events.slice(-more.length) }])
    }).pipe(Effect.orDie)
  return {
    readModels,
    redis: opened.redis,
    asked,
    behind: (events: number) => void (missing = events),
    events,
    /** Once, after the log was read and before its answer comes. */
    meanwhile: (effect: Effect.Effect<unknown, unknown>) => void (between = Effect.orDie(Effect.asVoid(effect))),
    messages: (count: number) =>
      add(Array.from({ length: count }, (_, i) => ({ type: "message", data: { kind: "text", body: `text ${i}` } }))),
    add,
    blocks: Effect.map(
      opened.redis.run("keys", (client) => client.keys("*:b:*")),
      (keys) => keys.length
    )
  }
})

const bodies = (page: { readonly messages: ReadonlyArray<{ readonly body?: string }> } | undefined) =>
  page!.messages.map(({ body }) => body)

describe("messages older than the tail", () => {
  it.live("come from the log once, and then from what was kept of it", () =>
    Effect.gen(function* () {
      const { asked, blocks, messages, readModels } = yield* conversation()
      yield* messages(500)
      assert.lengthOf(bodies(yield* readModels.page(CONV, { limit: 200 })), 200)
      assert.lengthOf(bodies(yield* readModels.page(CONV, { before: 499, limit: 190 })), 190)
      assert.strictEqual(asked.length, 0)
      const first = yield* readModels.page(CONV, { before: 101, limit: 30 })
      assert.deepStrictEqual(
        bodies(first),
        Array.from({ length: 30 }, (_, i) => `text ${70 + i}`)
      )
      // The block, and whether the log has all that was applied.
      assert.deepStrictEqual(
        [...asked].sort((a, b) => a - b),
        [1, 64]
      )
      assert.deepStrictEqual(yield* readModels.page(CONV, { before: 101, limit: 30 }), first)
      assert.deepStrictEqual(bodies(yield* readModels.page(CONV, { after: 70, limit: 30 })), bodies(first))
      assert.lengthOf(asked, 2)
      assert.isAbove(yield* blocks, 0)
    })
  )

  it.live("who fills from a stale look at the log loses to an amendment that was applied since", () =>
    Effect.gen(function* () {
      const { add, blocks, meanwhile, messages, readModels } = yield* conversation()
      yield* messages(500)
      const page = readModels.page(CONV, { before: 60, limit: 10 })
      meanwhile(add([{ type: "edited", data: { target: 55, body: "changed" } }]))
      assert.include(bodies(yield* page), "text 54")
      assert.strictEqual(yield* blocks, 0)
      assert.include(bodies(yield* page), "changed")
      assert.isAbove(yield* blocks, 0)
      for (const [amendment, seen] of [
        [{ type: "reaction", data: { target: 56, emoji: "👍", on: true } }, `"👍":["ann"]`],
        [{ type: "reaction", data: { target: 56, emoji: "👍", on: false } }, `"text 55"`],
        [{ type: "deleted", data: { target: 57 } }, `"deleted":true`]
      ] as const) {
        yield* add([amendment])
        assert.include(JSON.stringify(yield* page), seen)
      }
      assert.notInclude(JSON.stringify(yield* page), "👍")
    })
  )

  it.live("a log that tells less than was applied is not believed", () =>
    Effect.gen(function* () {
      const { add, blocks, behind, messages, readModels } = yield* conversation()
      yield* messages(500)
      yield* add([{ type: "edited", data: { target: 55, body: "changed" } }])
      behind(1)
      assert.strictEqual(
        (yield* Effect.flip(readModels.page(CONV, { before: 60, limit: 10 })))._tag,
        "ReadModelsUnavailable"
      )
      assert.strictEqual(yield* blocks, 0)
      behind(450)
      const mark = { type: "marked", by: "bob", cid: "", data: { seen: 100 } } as const
      assert.include(String(yield* Effect.flip(Effect.sandbox(add([mark])))), "told less")
      behind(0)
      assert.include(bodies(yield* readModels.page(CONV, { before: 60, limit: 10 })), "changed")
    })
  )

  it.live("who fills while Redis is emptied and filled anew fills nothing", () =>
    Effect.gen(function* () {
      const { blocks, events, meanwhile, messages, readModels, redis } = yield* conversation()
      yield* messages(500)
      meanwhile(
        Effect.andThen(
          redis.run("flush", (client) => client.flushall()),
          Effect.andThen(readModels.checkpoints, readModels.apply([{ partition: 0, events }]))
        )
      )
      const page = readModels.page(CONV, { before: 60, limit: 10 })
      yield* Effect.exit(page)
      assert.strictEqual(yield* blocks, 0)
      assert.strictEqual(bodies(yield* page)[9], "text 58")
      assert.isAbove(yield* blocks, 0)
    })
  )

  it.live(
    "what is kept of them is bounded",
    () =>
      Effect.gen(function* () {
        const { blocks, messages, readModels } = yield* conversation()
        for (let i = 0; i < 8; i++) yield* messages(5_000)
        for (let before = 40_000; before > 1; before -= 200) yield* readModels.page(CONV, { before, limit: 199 })
        assert.strictEqual(yield* blocks, 512)
      }),
    120_000
  )

  it.live(
    "a mark that is far behind asks the log for what lies between, or for what lies after it, whichever is less",
    () =>
      Effect.gen(function* () {
        const { add, asked, messages, readModels } = yield* conversation()
        const unread = Effect.map(readModels.conversations("bob", undefined, 1), ({ items }) => items[0]!.item.unread)
        for (let i = 0; i < 3; i++) yield* messages(1_000)
        const mark = (seen: number) => add([{ type: "marked", by: "bob", cid: "", data: { seen } }])
        yield* mark(20)
        assert.deepStrictEqual([asked.splice(0), yield* unread], [[20], 2_980])
        yield* mark(2_700)
        assert.deepStrictEqual([asked.splice(0), yield* unread], [[100], 300])
        yield* mark(2_850)
        yield* mark(2_999)
        yield* messages(1)
        yield* mark(3_001)
        assert.deepStrictEqual([asked, yield* unread], [[], 0])
      })
  )
})
