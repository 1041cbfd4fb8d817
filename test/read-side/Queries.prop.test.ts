import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, HashMap, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import fc from "fast-check"
import { memberOf } from "../../src/domain/conversation.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { type MissedConversation, Queries } from "../../src/read-side/Queries.ts"
import { layer as queriesLive } from "../../src/read-side/QueriesLive.ts"
import { ReadModels, ReadModelsUnavailable } from "../../src/read-side/ReadModels.ts"
import { layerMemory as readModelsMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { type History, history, historyOf } from "../support/histories.ts"
import { appendHistory } from "../support/historyLog.ts"
import { referenceConversations, referenceMessages, referenceRemoval, timelineOf } from "../support/readReference.ts"

const PARTITIONS = 4

const setUp = Effect.fnUntraced(function* (history: History) {
  const engine = makeReadModelsEngine(PARTITIONS)
  const ports = Layer.mergeAll(logMemory(makeMemoryLog(PARTITIONS)), readModelsMemory(engine))
  const context = yield* Layer.build(Layer.fresh(queriesLive.pipe(Layer.provideMerge(ports))))
  yield* appendHistory(Context.get(context, EventLog), history)
  yield* Context.get(context, ReadModels).apply(history.logs.map((events, partition) => ({ partition, events })))
  return { engine, queries: Context.get(context, Queries), heads: history.logs.map((log) => log.length) }
})

const check = (run: (history: History, share: number) => Effect.Effect<void, unknown, Scope.Scope>, numRuns = 60) =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(
        history({ partitions: PARTITIONS }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (history, share) => Effect.runPromise(Effect.scoped(Effect.suspend(() => run(history, share))))
      ),
      { numRuns }
    )
  )

describe("Queries", () => {
  it.live(
    "the log answers what the read models would, while these are away",
    () =>
      check((history, share) =>
        Effect.gen(function* () {
          const { engine, heads, queries } = yield* setUp(history)
          const since = heads.map((head) => Math.floor(head * share))
          const convs = [...history.conversations.keys(), "dm:u1:u9", "g:00000000-0000-8000-8000-000000000000"]
          const everything = Effect.gen(function* () {
            const answers: Array<unknown> = []
            for (const user of [...history.users, "u9"]) {
              for (const conv of convs) {
                for (const page of [{}, { before: 4 }, { after: 2 }, { around: 5 }]) {
                  answers.push(yield* Effect.result(queries.history(user, { conv, limit: 3, ...page }, heads)))
                }
                answers.push(yield* Effect.result(queries.sync(user, { conv, after: 1, limit: 4 }, heads)))
                answers.push(yield* Effect.result(queries.roster(user, { conv, after: "u1", limit: 2 }, heads)))
                const audience = yield* queries.audience(user, conv, heads)
                answers.push(audience && [...audience].sort())
              }
              const first = yield* queries.convs(user, { limit: 2 }, heads)
              answers.push(first)
              if (first.next !== undefined)
                answers.push(yield* queries.convs(user, { limit: 2, after: first.next }, heads))
              const seqs = Object.fromEntries(convs.slice(0, 3).map((conv, i) => [conv, i * 3]))
              for (const request of [
                { since, seqs },
                { since, seqs: {} },
                { since: undefined, seqs: {} }
              ]) {
                answers.push(yield* queries.missed({ user, barrier: heads, ...request }))
              }
            }
            return answers
          })
          const fromModels = yield* everything
          engine.intercept = (operation) =>
            Effect.fail(new ReadModelsUnavailable({ operation, reason: "away", cause: undefined }))
          assert.deepStrictEqual(yield* everything, fromModels)
        })
      ),
    120_000
  )

  it.live(
    "nobody reads a conversation without being a member; a direct one of one's own is empty before its first message",
    () =>
      check(
        (history) =>
          Effect.gen(function* () {
            const { heads, queries } = yield* setUp(history)
            for (const [conv, state] of history.conversations) {
              for (const user of [...history.users, "stranger"]) {
                const member = memberOf(state, user) !== undefined
                const answers = [
                  yield* Effect.result(queries.history(user, { conv, limit: 10 }, heads)),
                  yield* Effect.result(queries.sync(user, { conv, after: 0, limit: 10 }, heads)),
                  yield* Effect.result(queries.roster(user, { conv, limit: 10 }, heads))
                ]
                for (const answer of answers) {
                  if (member) assert.strictEqual(answer._tag, "Success")
                  else assert.isTrue(answer._tag === "Failure" && answer.failure.code === "not_found")
                }
                assert.strictEqual((yield* queries.audience(user, conv, heads)) !== undefined, member)
              }
            }
            const conv = "dm:new1:new2"
            assert.deepStrictEqual(yield* queries.history("new1", { conv, limit: 10 }, heads), {
              messages: [],
              head: 0,
              more: false,
              receipts: { new1: { delivered: 0, seen: 0 }, new2: { delivered: 0, seen: 0 } }
            })
            assert.deepStrictEqual(yield* queries.sync("new1", { conv, after: 0, limit: 10 }, heads), {
              events: [],
              head: 0,
              more: false
            })
            assert.strictEqual((yield* queries.roster("new2", { conv, limit: 10 }, heads)).members.length, 2)
            assert.deepStrictEqual(yield* queries.audience("new2", conv, heads), ["new1", "new2"])
            assert.strictEqual(
              (yield* Effect.flip(queries.history("new3", { conv, limit: 10 }, heads))).code,
              "not_found"
            )
            assert.strictEqual(
              (yield* Effect.flip(queries.sync("new3", { conv, after: 0, limit: 10 }, heads))).code,
              "not_found"
            )
          }),
        20
      ),
    120_000
  )

  it.live(
    "sync walks through every event as the client knows it",
    () =>
      check(
        (history) =>
          Effect.gen(function* () {
            const { heads, queries } = yield* setUp(history)
            for (const [conv, state] of history.conversations) {
              const user = HashMap.keys(state.members).next().value
              if (user === undefined) continue
              const found: Array<unknown> = []
              let after = 0
              for (;;) {
                const page = yield* queries.sync(user, { conv, after, limit: 7 }, heads)
                assert.strictEqual(page.head, state.seq)
                found.push(...page.events)
                after = page.events.at(-1)?.seq ?? after
                if (!page.more) break
              }
              assert.deepStrictEqual(
                found,
                timelineOf(history, conv).map(({ at, by, cid, conv, data, seq, type }) => ({
                  conv,
                  seq,
                  type,
                  by,
                  at,
                  cid,
                  data
                }))
              )
            }
          }),
        20
      ),
    120_000
  )

  it.live(
    "I12: after a resume a device has every event of every conversation, or was told which it lacks",
    () =>
      check((history, share) =>
        Effect.gen(function* () {
          const { heads, queries } = yield* setUp(history)
          const since = heads.map((head) => Math.floor(head * share))
          for (const user of history.users) {
            // What the device has: everything up to its cursor, and of some conversations it says so.
            const had = new Map<string, number>()
            for (const event of history.events) {
              if (event.type !== "marked" && event.position <= since[event.partition]!) had.set(event.conv, event.seq)
            }
            const seqs = Object.fromEntries([...had].filter((_, i) => i % 2 === 0))
            const missed = yield* queries.missed({ user, since, seqs, barrier: heads })
            const told = new Map<string, MissedConversation>(missed.map((entry) => [entry.conv, entry]))
            assert.strictEqual(told.size, missed.length)
            for (const [conv, state] of history.conversations) {
              const entry = told.get(conv)
              const cursor = since[partitionOf(conv, PARTITIONS)]!
              if (memberOf(state, user) === undefined) {
                const removal = referenceRemoval(history, conv, user)
                const gone = (removal !== undefined && removal.position > cursor) || conv in seqs
                assert.strictEqual(entry?._tag, gone ? "Gone" : undefined)
                continue
              }
              const before = had.get(conv) ?? 0
              if (before === state.seq) assert.isUndefined(entry)
              else assert.deepStrictEqual(entry, { _tag: "Replay", conv, after: before, head: state.seq })
            }
          }
        })
      ),
    120_000
  )

  it.live(
    "convs lists every conversation once, newest activity first, by opaque cursors",
    () =>
      check(
        (history) =>
          Effect.gen(function* () {
            const { heads, queries } = yield* setUp(history)
            for (const user of history.users) {
              const found: Array<string> = []
              let after: string | undefined
              do {
                const page = yield* queries.convs(user, { limit: 2, ...(after === undefined ? {} : { after }) }, heads)
                found.push(...page.items.map(({ conv }) => conv))
                after = page.next
              } while (after !== undefined)
              assert.deepStrictEqual(found, referenceConversations(history, user))
            }
            for (const after of [
              "",
              "x",
              Buffer.from("c1 5 g:nothing").toString("base64url"),
              Buffer.from("c1 -5 dm:a:b").toString("base64url"),
              "c".repeat(5_000)
            ]) {
              assert.strictEqual(
                (yield* Effect.flip(queries.convs("u1", { limit: 2, after }, heads))).code,
                "bad_request"
              )
            }
          }),
        20
      ),
    120_000
  )

  it.effect("an answer includes what the asker has seen, also while the read models are behind", () =>
    Effect.gen(function* () {
      const whole = historyOf(12, 400, { partitions: PARTITIONS })
      const engine = makeReadModelsEngine(PARTITIONS)
      const ports = Layer.mergeAll(logMemory(makeMemoryLog(PARTITIONS)), readModelsMemory(engine))
      const context = yield* Layer.build(Layer.fresh(queriesLive.pipe(Layer.provideMerge(ports))))
      yield* appendHistory(Context.get(context, EventLog), whole)
      const queries = Context.get(context, Queries)
      const heads = whole.logs.map((log) => log.length)
      const [conv, state] = [...whole.conversations].find(([, state]) => state.seq > 5)!
      const user = HashMap.keys(state.members).next().value!
      const asked = yield* Effect.forkChild(queries.history(user, { conv, limit: 200 }, heads), {
        startImmediately: true
      })
      yield* TestClock.adjust("500 millis")
      const page = yield* Fiber.join(asked)
      assert.deepStrictEqual(page.messages, referenceMessages(whole, conv))

      // Behind in other partitions only: nothing to wait for, or this would wait for a clock that stands still.
      const partition = partitionOf(conv, PARTITIONS)
      yield* Context.get(context, ReadModels).apply([{ partition, events: whole.logs[partition]! }])
      assert.deepStrictEqual(yield* queries.history(user, { conv, limit: 200 }, heads), page)
    })
  )
})
