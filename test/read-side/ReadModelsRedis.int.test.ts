import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import fc from "fast-check"
import type { StoredEvent } from "../../src/domain/events.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import type { Counts, DumpRow, ReadModels } from "../../src/read-side/ReadModels.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { dump } from "../contract/ReadModels.properties.ts"
import { appliedLog } from "../support/appliedLog.ts"
import { engines } from "../support/engines.ts"
import { carryOut, type History, wish } from "../support/histories.ts"
import { redisScope } from "../support/redis-keys.ts"
import { keptOf, openReadModels, withinTail } from "../support/redis-read-models.ts"
import { redisAddress, redisServer } from "../support/redis-server.ts"

const PARTITIONS = 2

/** Most is said in two conversations, which become long; some groups beside them. */
const long = (seed: number, wishes = 4_000): History => {
  const all = fc.sample(wish, { seed, numRuns: wishes })
  return carryOut(
    all.map((wish, i) => ({
      ...wish,
      what: wish.what === "create" && i > 100 ? "send" : wish.what,
      // A multiple of three is a direct conversation, and an odd one that with the second user.
      conv: i % 8 === 0 ? wish.conv : wish.conv * 6 + 3
    })),
    { partitions: PARTITIONS, users: 2 }
  )
}

/** What the counts must be, from the rows. */
const countsOf = (rows: ReadonlyArray<DumpRow>): Counts => {
  const values = (kind: string) =>
    rows.filter(({ key }) => key[1] === kind).map(({ value }) => JSON.parse(value) as unknown)
  const messages = values("message") as ReadonlyArray<FoldedMessage>
  return {
    conversations: values("conversation").length,
    members: values("member").filter((member) => (member as ReadonlyArray<number>).at(-1) === 0).length,
    messages: messages.length,
    reactions: messages.flatMap(({ reactions = {} }) => Object.values(reactions).flat()).length
  }
}

const setUp = Effect.fnUntraced(function* () {
  const { redisUrl } = engines()
  const scope = yield* redisScope(redisUrl)
  const { log, noted } = appliedLog()
  return {
    scope,
    open: Effect.map(
      openReadModels({ address: redisAddress(redisUrl), scope, partitions: PARTITIONS, log }),
      ({ readModels }) => noted(readModels)
    )
  }
})

describe("read models in Redis", () => {
  it.live("keep the newest 200 messages of a conversation, and know everything else of it, whoever applies", () =>
    Effect.gen(function* () {
      for (const seed of [51, 52, 53]) {
        const history = long(seed)
        const { open } = yield* setUp()
        // Two processes by turns: what one remembers is wrong after the other's turn.
        const both = [yield* open, yield* open]
        const sizes = fc.sample(fc.integer({ min: 1, max: 120 }), { seed, numRuns: 2_000 })
        const at = [0, 0]
        for (let i = 0; at.some((from, partition) => from < history.logs[partition]!.length); i++) {
          const runs = history.logs.map((log, partition) => {
            const from = at[partition]!
            at[partition] = Math.min(log.length, from + sizes[(2 * i + partition) % sizes.length]!)
            return { partition, events: log.slice(from, at[partition]) }
          })
          yield* both[i % 7 < 3 ? 0 : 1]!.apply(runs)
        }
        assert.isAbove(Math.max(...[...history.conversations.values()].map(({ seq }) => seq)), 800)
        const kept = keptOf(history)
        assert.deepStrictEqual(yield* dump(both[0]!), kept)
        assert.deepStrictEqual(yield* both[1]!.counts, countsOf(kept))
      }
    })
  )

  it.live("answer what read models that keep everything answer, older messages from the log", () =>
    Effect.gen(function* () {
      const history = long(61, 3_000)
      const { open } = yield* setUp()
      const readModels = yield* open
      const store = makeMemoryStore(PARTITIONS)
      const applied = [0, 0]
      const step = Effect.fnUntraced(function* (share: number) {
        const runs = history.logs.map((log, partition) => {
          const to = Math.floor(log.length * share)
          const events = log.slice(applied[partition], to)
          applied[partition] = to
          return { partition, events }
        })
        yield* readModels.apply(runs)
        store.apply(runs)
      })
      for (const share of [0.5, 0.8, 0.81, 1]) {
        yield* step(share)
        for (const conv of history.conversations.keys()) {
          const head = store.access(conv, "u1")?.head ?? 0
          // Twice: from the log, and from what was kept of it.
          for (const _ of [1, 2]) {
            for (let seq = 1; seq <= head + 1; seq += 1 + Math.floor(head / 6)) {
              for (const request of [{ before: seq }, { after: seq }, { around: seq }, {}]) {
                for (const limit of [30, 200]) {
                  const page = yield* readModels.page(conv, { ...request, limit })
                  assert.deepStrictEqual(
                    page,
                    store.page(conv, { ...request, limit }),
                    JSON.stringify({ seq, request, limit })
                  )
                }
              }
            }
          }
        }
        for (const user of history.users) {
          assert.deepStrictEqual(
            yield* readModels.conversations(user, undefined, 200),
            store.conversations(user, undefined, 200)
          )
        }
      }
    })
  )

  it.live("nothing brings a deleted message back, in whatever batches it comes", () =>
    Effect.gen(function* () {
      const { open } = yield* setUp()
      const readModels = yield* open
      let seq = 0
      const apply = (type: StoredEvent["type"], data: unknown) => {
        seq++
        const event = { conv: "dm:a:b", seq, position: seq, partition: partitionOf("dm:a:b", PARTITIONS), type, data }
        const rest = { by: "a", at: seq, cid: `c${seq}`, digest: "", v: 1, prev: seq - 1 }
        return readModels.apply([{ partition: event.partition, events: [{ ...event, ...rest } as StoredEvent] }])
      }
      yield* apply("message", { kind: "text", body: "x" })
      yield* apply("reaction", { target: 1, emoji: "+", on: true })
      yield* apply("deleted", { target: 1 })
      yield* apply("reaction", { target: 1, emoji: "+", on: true })
      yield* apply("edited", { target: 1, body: "back" })
      const { messages } = (yield* readModels.page("dm:a:b", { limit: 5 }))!
      assert.deepStrictEqual(messages, [
        { conv: "dm:a:b", seq: 1, by: "a", at: 1, cid: "c1", kind: "text", deleted: true }
      ])
      assert.strictEqual((yield* readModels.counts).reactions, 0)
    })
  )

  it.live("a group of 10,000: a message costs what it costs in a small one, and an admin who leaves is followed", () =>
    Effect.gen(function* () {
      const { address } = yield* redisServer()
      const { log, noted } = appliedLog()
      const open = Effect.map(
        openReadModels({ address, scope: "test", partitions: 1, log }),
        ({ readModels, redis }) => ({
          redis,
          readModels: noted(readModels)
        })
      )
      const { readModels, redis } = yield* open
      const store = makeMemoryStore(1)
      const conv = "g:00000000-0000-8000-8000-000000000000"
      const users = Array.from({ length: 10_000 }, (_, i) => `m${String((i * 7_919) % 10_000).padStart(4, "0")}`)
      let position = 0
      const event = (by: string, type: StoredEvent["type"], data: unknown) => {
        position++
        const place = {
          conv,
          seq: position,
          position,
          prev: position - 1,
          partition: 0,
          at: position,
          v: 1,
          digest: ""
        }
        return { ...place, by, cid: `c${position}`, type, data } as StoredEvent
      }
      const apply = (to: { readonly readModels: ReadModels["Service"] }, ...events: ReadonlyArray<StoredEvent>) =>
        Effect.andThen(
          to.readModels.apply([{ partition: 0, events }]),
          Effect.sync(() => store.apply([{ partition: 0, events }]))
        )
      const created = event("m0000", "created", { kind: "group", members: users.slice(0, 256) })
      const added: Array<StoredEvent> = []
      for (let i = 256; i < users.length; i += 256) {
        added.push(event("m0000", "members", { added: users.slice(i, i + 256) }))
      }
      yield* apply({ readModels }, created, ...added)
      const same = Effect.gen(function* () {
        assert.deepStrictEqual(yield* dump(readModels), withinTail(store.dump()))
      })
      yield* same

      // By one that remembers nothing.
      const cold = yield* open
      const sent = redis
        .run("info", (client) => client.info("stats"))
        .pipe(Effect.map((info) => Number(/total_net_output_bytes:(\d+)/.exec(info)![1])))
      yield* cold.readModels.checkpoints
      const before = yield* sent
      yield* apply(cold, event("m0007", "message", { kind: "text", body: "x" }))
      assert.isBelow((yield* sent) - before, 10_000)

      yield* apply(cold, event("m0000", "members", { removed: ["m0000", "m0007"] }))
      yield* apply(cold, event("m0008", "message", { kind: "text", body: "x" }))
      yield* same
      const roster = yield* readModels.roster(conv, "", 10_000)
      assert.deepStrictEqual(roster, store.roster(conv, "", 10_000))
      assert.strictEqual(roster.filter(({ admin }) => admin).length, 1)
      assert.deepStrictEqual(yield* readModels.roster(conv, "m4999", 1_500), store.roster(conv, "m4999", 1_500))
      assert.deepStrictEqual(yield* readModels.inbox("m0007", [0], "", 10), store.inbox("m0007", [0], "", 10))
      assert.deepStrictEqual(yield* readModels.counts, store.counts())
    })
  )
})
