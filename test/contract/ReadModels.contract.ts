import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, HashMap, Scope } from "effect"
import fc from "fast-check"
import type { StoredEvent } from "../../src/domain/events.ts"
import { partitionOf, zeroVector } from "../../src/domain/partition.ts"
import type { Shadow } from "../../src/read-side/ReadModels.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { type History, history, historyOf } from "../support/histories.ts"
import {
  dump,
  dumpOf,
  expectedDump,
  heads,
  type Place,
  recounted,
  runsOf,
  sameWhateverTheWay,
  ways
} from "./ReadModels.properties.ts"
import { referenceConversations, referenceMessages, referenceRemoval, timelineOf } from "../support/readReference.ts"

export interface Options {
  /** A new, empty place. */
  readonly place: (partitions: number) => Effect.Effect<Place, never, Scope.Scope>
  /** Histories tried by each property. */
  readonly runs: number
}

const PARTITIONS = 4

/** What an adapter of `ReadModels` must do, whatever it keeps its rows in. */
export const readModelsContract = (name: string, { place, runs }: Options): void => {
  const opened = Effect.fnUntraced(function* (partitions: number) {
    return yield* (yield* place(partitions)).open
  })
  const property = <A>(arbitrary: fc.Arbitrary<A>, check: (value: A) => Effect.Effect<void, unknown, Scope.Scope>) =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(arbitrary, (value) => Effect.runPromise(Effect.scoped(Effect.suspend(() => check(value))))),
        { numRuns: runs }
      )
    )

  describe(`ReadModels: ${name}`, () => {
    it.live("applies what follows, skips repeats, and stops at a hole", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const { logs } = historyOf(1, 200, { partitions: PARTITIONS })
          const partition = logs.findIndex((log) => log.length > 10)
          const log = logs[partition]!
          const at = (vector: ReadonlyArray<number>) => vector[partition]
          assert.strictEqual(at(yield* readModels.checkpoints), 0)
          assert.strictEqual(at(yield* readModels.apply([{ partition, events: log.slice(1, 3) }])), 0)
          assert.strictEqual(at(yield* readModels.apply([{ partition, events: log.slice(0, 4) }])), 4)
          assert.strictEqual(at(yield* readModels.apply([{ partition, events: log.slice(0, 3) }])), 4)
          assert.strictEqual(
            at(yield* readModels.apply([{ partition, events: [...log.slice(2, 6), ...log.slice(7, 9)] }])),
            6
          )
          assert.strictEqual(at(yield* readModels.checkpoints), 6)
        })
      )
    )

    it.live("wakes those who wait for a position when it is applied, and no earlier", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const history = historyOf(2, 100, { partitions: PARTITIONS })
          const waiting = yield* Effect.forkChild(readModels.reached(heads(history), 20_000), {
            startImmediately: true
          })
          assert.isFalse(yield* readModels.reached(heads(history), 1))
          for (const run of runsOf(history)) yield* readModels.apply([run])
          assert.isTrue(yield* Fiber.join(waiting))
          assert.isTrue(yield* readModels.reached(heads(history), 0))
        })
      )
    )

    it.live(
      "I15: batches, repeats, holes and restarts on the way do not change what is there in the end",
      () =>
        property(fc.tuple(history({ partitions: PARTITIONS }), ways), ([history, way]) =>
          Effect.flatMap(place(PARTITIONS), (place) => sameWhateverTheWay(place, history, way))
        ),
      120_000
    )

    it.live(
      "I13: messages, unread counts, receipts, rosters and lists equal a recount from the log",
      () =>
        property(history({ partitions: PARTITIONS }), (history) =>
          Effect.flatMap(place(PARTITIONS), (place) => recounted(place, history))
        ),
      120_000
    )

    it.live(
      "pages in every direction hold the messages nearest to what was asked for, and say whether there are more",
      () =>
        Effect.scoped(
          Effect.gen(function* () {
            const readModels = yield* opened(PARTITIONS)
            const history = historyOf(3, 600, { partitions: PARTITIONS, users: 3 })
            yield* readModels.apply(runsOf(history))
            for (const [conv, state] of history.conversations) {
              const all = referenceMessages(history, conv)
              for (const limit of [1, 2, 5, 200]) {
                for (let seq = 1; seq <= state.seq + 1; seq += 3) {
                  const before = (yield* readModels.page(conv, { before: seq, limit }))!
                  const older = all.filter((message) => message.seq < seq)
                  assert.deepStrictEqual(before.messages, older.slice(-limit))
                  assert.strictEqual(before.more, older.length > limit)

                  const after = (yield* readModels.page(conv, { after: seq, limit }))!
                  const newer = all.filter((message) => message.seq > seq)
                  assert.deepStrictEqual(after.messages, newer.slice(0, limit))
                  assert.strictEqual(after.more, newer.length > limit)

                  const around = (yield* readModels.page(conv, { around: seq, limit }))!
                  assert.strictEqual(around.messages.length, Math.min(limit, all.length))
                  const first = all.findIndex((message) => message.seq === around.messages[0]?.seq)
                  assert.deepStrictEqual(around.messages, all.slice(Math.max(0, first), Math.max(0, first) + limit))
                  assert.strictEqual(around.more, first > 0)
                  const from = all.findIndex((message) => message.seq >= seq)
                  if (from >= 0)
                    assert.include(
                      around.messages.map((message) => message.seq),
                      all[from]!.seq
                    )
                }
                assert.deepStrictEqual((yield* readModels.page(conv, { limit }))!.messages, all.slice(-limit))
              }
            }
            assert.isUndefined(yield* readModels.page("dm:nobody:noone", { limit: 5 }))
            assert.isUndefined(yield* readModels.access("dm:nobody:noone", "nobody"))
          })
        )
    )

    it.live("lists of conversations and rosters continue where a page ended", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const history = historyOf(4, 800, { partitions: PARTITIONS })
          yield* readModels.apply(runsOf(history))
          for (const user of history.users) {
            const seen: Array<string> = []
            let before: { readonly at: number; readonly conv: string } | undefined
            for (;;) {
              const { items, more } = yield* readModels.conversations(user, before, 3)
              seen.push(...items.map(({ item }) => item.conv))
              if (!more) break
              assert.strictEqual(items.length, 3)
              before = { at: items.at(-1)!.at, conv: items.at(-1)!.item.conv }
            }
            assert.deepStrictEqual(seen, referenceConversations(history, user))
          }
          for (const [conv, state] of history.conversations) {
            const users: Array<string> = []
            for (;;) {
              const page = yield* readModels.roster(conv, users.at(-1) ?? "", 2)
              users.push(...page.map(({ user }) => user))
              if (page.length < 2) break
            }
            assert.deepStrictEqual(users, [...HashMap.keys(state.members)].sort())
          }
        })
      )
    )

    it.live(
      "the inbox names what happened past a vector, and removals, page by page",
      () =>
        property(
          fc.tuple(history({ partitions: PARTITIONS }), fc.double({ min: 0, max: 1, noNaN: true })),
          ([history, share]) =>
            Effect.gen(function* () {
              const readModels = yield* opened(PARTITIONS)
              yield* readModels.apply(runsOf(history))
              const vector = history.logs.map((log) => Math.floor(log.length * share))
              for (const user of history.users) {
                const expected = [...history.conversations.values()]
                  .flatMap((state) => {
                    const member = HashMap.has(state.members, user)
                    const left = member ? 0 : (referenceRemoval(history, state.conv, user)?.position ?? 0)
                    const last = member ? state.position : left
                    return last > vector[partitionOf(state.conv, PARTITIONS)]!
                      ? [
                          {
                            conv: state.conv,
                            head: state.seq,
                            position: state.position,
                            left,
                            members: HashMap.size(state.members)
                          }
                        ]
                      : []
                  })
                  .sort((a, b) => (a.conv < b.conv ? -1 : 1))
                const found: Array<(typeof expected)[number]> = []
                for (;;) {
                  const page = yield* readModels.inbox(user, vector, found.at(-1)?.conv ?? "", 2)
                  found.push(...page)
                  if (page.length < 2) break
                }
                assert.deepStrictEqual(found, expected)
              }
            })
        ),
      120_000
    )

    it.live("groups over 50 have no list of members and no receipts, and their roster is whole", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(1)
          const conv = "g:00000000-0000-8000-8000-000000000000"
          const members = Array.from({ length: 51 }, (_, i) => `m${String(i).padStart(2, "0")}`)
          const common = { conv, v: 1, partition: 0, by: "m00", digest: "", at: 5 }
          const events: ReadonlyArray<StoredEvent> = [
            { ...common, seq: 1, position: 1, prev: 0, cid: "a", type: "created", data: { kind: "group", members } },
            { ...common, seq: 2, position: 2, prev: 1, cid: "b", type: "members", data: { removed: ["m50"] } }
          ]
          yield* readModels.apply([{ partition: 0, events: events.slice(0, 1) }])
          assert.isUndefined((yield* readModels.page(conv, { limit: 1 }))!.receipts)
          assert.isUndefined((yield* readModels.conversations("m07", undefined, 1)).items[0]!.item.members)
          assert.strictEqual((yield* readModels.roster(conv, "", 256)).length, 51)
          yield* readModels.apply([{ partition: 0, events: events.slice(1) }])
          assert.strictEqual(Object.keys((yield* readModels.page(conv, { limit: 1 }))!.receipts!).length, 50)
          assert.strictEqual((yield* readModels.conversations("m07", undefined, 1)).items[0]!.item.members!.length, 50)
        })
      )
    )

    it.live("answers stay within the size of a reply and go on after it", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(1)
          const body = "ü".repeat(30_000)
          const at = (i: number, user: string): StoredEvent => ({
            conv: `dm:a:${user}`,
            seq: user === "b" ? i : 1,
            type: "message",
            by: "a",
            at: i,
            cid: `c${i}`,
            data: { kind: "text", body },
            digest: "",
            v: 1,
            partition: 0,
            position: i,
            prev: 0
          })
          const events = Array.from({ length: 20 }, (_, i) => at(i + 1, i < 10 ? "b" : `u${i}`))
          yield* readModels.apply([{ partition: 0, events }])
          const small = (value: unknown) => assert.isBelow(Buffer.byteLength(JSON.stringify(value)), 262_144)

          const newest = (yield* readModels.page("dm:a:b", { limit: 200 }))!
          small(newest)
          assert.deepStrictEqual(
            newest.messages.map(({ seq }) => seq),
            [8, 9, 10]
          )
          assert.isTrue(newest.more)
          const oldest = (yield* readModels.page("dm:a:b", { after: 0, limit: 200 }))!
          assert.deepStrictEqual(
            oldest.messages.map(({ seq }) => seq),
            [1, 2, 3]
          )
          assert.isTrue(oldest.more)
          const around = (yield* readModels.page("dm:a:b", { around: 5, limit: 200 }))!
          assert.deepStrictEqual(
            around.messages.map(({ seq }) => seq),
            [4, 5, 6]
          )

          const { items, more } = yield* readModels.conversations("a", undefined, 200)
          small(items)
          assert.strictEqual(items.length, 3)
          assert.isTrue(more)
        })
      )
    )

    it.live("a message with more reactions than fit is still answered, with as many as do", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(1)
          const common = { conv: "dm:a:b", v: 1, partition: 0, at: 1, digest: "", by: "a" }
          const events: Array<StoredEvent> = [
            { ...common, seq: 1, position: 1, prev: 0, cid: "m", type: "message", data: { kind: "text", body: "x" } }
          ]
          for (let i = 2; i <= 5001; i++) {
            const data = { target: 1, emoji: `${"e".repeat(59)}${10_000 + i}`, on: true }
            events.push({ ...common, seq: i, position: i, prev: i - 1, cid: `c${i}`, type: "reaction", data })
          }
          yield* readModels.apply([{ partition: 0, events }])
          const { messages } = (yield* readModels.page("dm:a:b", { limit: 1 }))!
          assert.isBelow(JSON.stringify(messages).length, 262_144)
          assert.isAbove(Object.keys(messages[0]!.reactions!).length, 1_000)
          assert.strictEqual((yield* readModels.counts).reactions, 5_000)
        })
      )
    )

    it.live("a snapshot stays as it was while events are applied", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const whole = historyOf(5, 300, { partitions: PARTITIONS })
          const half = whole.logs.map((log, partition) => ({ partition, events: log.slice(0, log.length >> 1) }))
          const checkpoints = yield* readModels.apply(half)
          const snapshot = yield* readModels.snapshot
          yield* readModels.apply(runsOf(whole))
          assert.deepStrictEqual(snapshot.checkpoints, checkpoints)
          const store = makeMemoryStore(PARTITIONS)
          store.apply(half)
          assert.deepStrictEqual(yield* dumpOf(snapshot, 50), store.dump())
        })
      )
    )

    it.live("a shadow is built beside the live set and takes its place in one step", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const where = yield* place(PARTITIONS)
          const scope = yield* Scope.fork(yield* Effect.scope)
          const readModels = yield* Scope.provide(where.open, scope)
          const history = historyOf(6, 300, { partitions: PARTITIONS })
          const live = history.logs.map((log) => log.length >> 1)
          yield* readModels.apply(
            history.logs.map((log, partition) => ({ partition, events: log.slice(0, live[partition]) }))
          )
          const before = yield* dump(readModels)

          const fill = (shadow: Shadow, to: ReadonlyArray<number>) =>
            shadow.apply(history.logs.map((log, partition) => ({ partition, events: log.slice(0, to[partition]) })))
          yield* Effect.scoped(
            Effect.gen(function* () {
              const abandoned = yield* readModels.shadow
              yield* fill(abandoned, heads(history))
            })
          )
          assert.deepStrictEqual(yield* dump(readModels), before)
          assert.deepStrictEqual(yield* readModels.checkpoints, live)

          yield* Effect.scoped(
            Effect.gen(function* () {
              const shadow = yield* readModels.shadow
              assert.deepStrictEqual(yield* shadow.checkpoints, zeroVector(PARTITIONS))
              const counts = yield* shadow.replaceLive((now) => {
                assert.deepStrictEqual(now, live)
                return fill(shadow, now)
              })
              assert.deepStrictEqual(counts.after, counts.before)
              assert.deepStrictEqual(yield* readModels.counts, counts.after)
            })
          )
          assert.deepStrictEqual(yield* dump(readModels), before)
          yield* readModels.apply(runsOf(history))
          assert.deepStrictEqual(yield* dump(readModels), expectedDump(history))
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(yield* dump(yield* where.open), expectedDump(history))
        })
      )
    )

    it.live("a shadow whose last step fails leaves the live set as it is", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const history = historyOf(7, 200, { partitions: PARTITIONS })
          yield* readModels.apply(runsOf(history))
          yield* Effect.scoped(
            Effect.gen(function* () {
              const shadow = yield* readModels.shadow
              assert.strictEqual(yield* Effect.flip(shadow.replaceLive(() => Effect.fail("no log"))), "no log")
            })
          )
          assert.deepStrictEqual(yield* dump(readModels), expectedDump(history))
          assert.deepStrictEqual(yield* readModels.apply(runsOf(history)), heads(history))
        })
      )
    )

    it.live("reset forgets everything, and the log can be applied from its beginning", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(PARTITIONS)
          const history = historyOf(8, 200, { partitions: PARTITIONS })
          yield* readModels.apply(runsOf(history))
          yield* readModels.reset
          assert.deepStrictEqual(yield* readModels.checkpoints, zeroVector(PARTITIONS))
          assert.deepStrictEqual(yield* dump(readModels), [])
          assert.isFalse(yield* readModels.reached(heads(history), 0))
          yield* readModels.apply(runsOf(history))
          assert.deepStrictEqual(yield* dump(readModels), expectedDump(history))
        })
      )
    )

    it.live("who comes back to a group has unread what others said meanwhile, and not their own words", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const readModels = yield* opened(1)
          const conv = "g:00000000-0000-8000-8000-000000000001"
          const common = { conv, v: 1, partition: 0, at: 5, digest: "", prev: 0 }
          const message = (seq: number, by: string): StoredEvent => ({
            ...common,
            by,
            seq,
            position: seq,
            cid: `c${seq}`,
            type: "message",
            data: { kind: "text", body: "x" }
          })
          const events: ReadonlyArray<StoredEvent> = [
            {
              ...common,
              by: "a",
              seq: 1,
              position: 1,
              cid: "c1",
              type: "created",
              data: { kind: "group", members: ["a", "b"] }
            },
            message(2, "b"),
            message(3, "a"),
            { ...common, by: "a", seq: 4, position: 4, cid: "c4", type: "members", data: { removed: ["b"] } },
            message(5, "a"),
            { ...common, by: "a", seq: 6, position: 6, cid: "c6", type: "members", data: { added: ["b"] } },
            message(7, "b")
          ]
          yield* readModels.apply([{ partition: 0, events }])
          const { items } = yield* readModels.conversations("b", undefined, 1)
          assert.strictEqual(items[0]!.item.unread, 2)
          assert.strictEqual(items[0]!.item.seen, 0)
          assert.strictEqual(timelineOf({ events } as History, conv).length, 7)
        })
      )
    )
  })
}
