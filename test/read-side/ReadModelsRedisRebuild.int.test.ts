import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Schedule } from "effect"
import { pipelined } from "../../src/platform/RedisConnection.ts"
import { replay } from "../../src/read-side/replay.ts"
import { verify } from "../../src/read-side/verify.ts"
import { makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { dump } from "../contract/ReadModels.properties.ts"
import { engines } from "../support/engines.ts"
import { type History, historyOf } from "../support/histories.ts"
import { appender, appendHistory } from "../support/historyLog.ts"
import { redisScope } from "../support/redis-keys.ts"
import { keptOf } from "../support/redis-read-models.ts"
import { openReadSide, type ReadSide } from "../support/redis-read-side.ts"
import { redisAddress } from "../support/redis-server.ts"

const PARTITIONS = 4
const quiet = Effect.provide(Logger.layer([]))

const heads = (history: History) => history.logs.map((log) => log.length)

const setUp = Effect.fnUntraced(function* (seed: number, wishes: number, users = 4) {
  const { redisUrl } = engines()
  const scope = yield* redisScope(redisUrl)
  const log = makeMemoryLog(PARTITIONS)
  const open = openReadSide({ address: redisAddress(redisUrl), scope, log })
  return { scope, log, open, history: historyOf(seed, wishes, { partitions: PARTITIONS, users }) }
})

/** Appends the rest of a history in bits, each followed by `each`. */
const rest = Effect.fnUntraced(function* (
  side: ReadSide,
  history: History,
  from: number,
  bit: number,
  each: Effect.Effect<unknown, unknown>
) {
  const append = yield* appender(side.log)
  yield* append(history.events.slice(0, from))
  yield* each
  const more = Effect.gen(function* () {
    for (let at = from; at < history.events.length; at += bit) {
      yield* append(history.events.slice(at, at + bit))
      yield* each
    }
  })
  return { more }
})

/** Names of all keys, without what is the same in all of them. */
const keysOf = ({ redis }: ReadSide, scope: string) => redis.run("keys", (client) => client.keys(`darda:${scope}:*`))

const spoil = (side: ReadSide, scope: string) =>
  Effect.gen(function* () {
    const keys = yield* keysOf(side, scope)
    const tails = keys.filter((key) => key.includes(":t:"))
    yield* side.redis.run("spoil", (client) =>
      pipelined(client, [
        ["del", tails.slice(0, 3)],
        ...tails.slice(3, 6).map((key) => ["lset", key, -1, `[1,"eve",1,"x","text","forged"]`] as const)
      ])
    )
  })

const generations = (keys: ReadonlyArray<string>) =>
  new Set(keys.flatMap((key) => /\{\d+\}:([^:]+):/.exec(key)?.[1] ?? []))

/** Waits until nothing is left of any generation but the live one. */
const oneGeneration = (side: ReadSide, scope: string) =>
  keysOf(side, scope).pipe(
    Effect.filterOrFail(
      (keys) => generations(keys).size === 1,
      () => "more than one is there"
    ),
    Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))
  )

describe("a rebuild of read models in Redis", () => {
  it.live(
    "F21: goes on while several processes apply events, and leaves nothing of the old ones",
    () =>
      Effect.gen(function* () {
        const { history, open, scope } = yield* setUp(81, 6_000)
        const sides = [yield* open, yield* open, yield* open]
        const [live, other, builder] = sides as [ReadSide, ReadSide, ReadSide]
        const both = Effect.all([live.projector.catchUp, other.projector.catchUp], { concurrency: 2 })
        const { more } = yield* rest(live, history, 2_000, 20, both)
        yield* spoil(live, scope)
        assert.isAbove((yield* verify(builder)).differing, 3)
        const [result] = yield* Effect.all([replay(builder), more], { concurrency: 2 })
        assert.isTrue(result.comparable)
        yield* live.projector.catchUp
        const { checkpoints, differing } = yield* verify(other)
        assert.deepStrictEqual([checkpoints, differing], [heads(history), 0])
        assert.deepStrictEqual(yield* dump(live.readModels), keptOf(history))
        yield* oneGeneration(live, scope)
      }).pipe(quiet),
    120_000
  )

  it.live(
    "verify finds nothing while events are applied all the time",
    () =>
      Effect.gen(function* () {
        const { history, open } = yield* setUp(82, 4_000)
        const [live, other] = [yield* open, yield* open]
        const { more } = yield* rest(live, history, 1_000, 5, live.projector.catchUp)
        const moving = yield* Effect.forkChild(more)
        let looked = 0
        while (moving.pollUnsafe() === undefined || looked === 0) {
          const { differing, differences } = yield* verify(other)
          assert.strictEqual(differing, 0, JSON.stringify(differences[0]))
          looked++
        }
        yield* Fiber.join(moving)
        assert.strictEqual((yield* verify(other)).differing, 0)
      }).pipe(quiet),
    120_000
  )

  it.live(
    "F21: a process that dies in a rebuild leaves the live ones, and what it left goes with the next",
    () =>
      Effect.gen(function* () {
        const { history, log, open, scope } = yield* setUp(83, 3_000)
        const live = yield* open
        yield* appendHistory(live.log, history)
        yield* live.projector.catchUp
        const before = (yield* keysOf(live, scope)).length
        yield* Effect.scoped(
          Effect.gen(function* () {
            const dying = yield* open
            yield* Effect.exit(
              Effect.scoped(
                replay({
                  ...dying,
                  // Nothing that it would do in the end reaches Redis.
                  onProgress: () =>
                    Effect.andThen(
                      Effect.sync(() => dying.redis.client.disconnect()),
                      Effect.interrupt
                    )
                })
              )
            )
          })
        )
        assert.isAbove((yield* keysOf(live, scope)).length, before)
        assert.deepStrictEqual(yield* dump(live.readModels), keptOf(history))
        // As if its lease had run out.
        yield* live.redis.run("expire", (client) => client.del(`darda:${scope}:{0}:rebuild`))
        const result = yield* replay({ log: live.log, readModels: live.readModels })
        assert.deepStrictEqual(result.before, result.after)
        assert.deepStrictEqual(yield* dump(live.readModels), keptOf(history))
        yield* oneGeneration(live, scope)
        assert.strictEqual(log.partitions, PARTITIONS)
      }).pipe(quiet),
    120_000
  )

  it.live("only one rebuilds at a time, in all processes", () =>
    Effect.gen(function* () {
      const { history, open } = yield* setUp(84, 300)
      const [one, two] = [yield* open, yield* open]
      yield* appendHistory(one.log, history)
      const order: Array<string> = []
      const build = (name: string, side: ReadSide) =>
        Effect.scoped(
          Effect.gen(function* () {
            yield* side.readModels.shadow
            order.push(`${name} begins`)
            // Long enough for the others to look for the lease.
            for (let i = 0; i < 300; i++) yield* side.readModels.checkpoints
            order.push(`${name} ends`)
          })
        )
      yield* Effect.all([build("one", one), build("two", two), build("one", one)], { concurrency: 3 })
      for (let i = 0; i < order.length; i += 2) {
        assert.deepStrictEqual(
          order.slice(i, i + 2).map((line) => line.slice(4)),
          ["begins", "ends"],
          order.join(", ")
        )
      }
    }).pipe(quiet)
  )

  it.live("a shadow that Redis lost takes nobody's place", () =>
    Effect.gen(function* () {
      const { history, open, scope } = yield* setUp(85, 500)
      const side = yield* open
      yield* appendHistory(side.log, history)
      yield* side.projector.catchUp
      const shadow = yield* side.readModels.shadow
      yield* shadow.apply(history.logs.map((events, partition) => ({ partition, events: events.slice(0, 3) })))
      const shadows = (yield* keysOf(side, scope)).filter((key) => key.endsWith(":next"))
      yield* side.redis.run("lose", (client) => client.del(...shadows))
      const runs = history.logs.map((events, partition) => ({ partition, events }))
      assert.include((yield* Effect.flip(shadow.apply(runs))).message, "gone")
      assert.include(String(yield* Effect.flip(shadow.replaceLive(() => Effect.void))), "gone")
      assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history))
      assert.deepStrictEqual(yield* side.projector.catchUp, heads(history))
    }).pipe(quiet)
  )

  it.live("verify names what is not what the log says, the lists that lead to it included", () =>
    Effect.gen(function* () {
      const { history, open, scope } = yield* setUp(86, 800)
      const side = yield* open
      yield* appendHistory(side.log, history)
      yield* side.projector.catchUp
      const keys = yield* keysOf(side, scope)
      const group = keys.find((key) => key.includes(":o:g:"))!
      const conv = group.slice(group.indexOf(":o:") + 3)
      const other = keys.filter((key) => key.includes(":c:g:")).find((key) => !key.endsWith(conv))!
      const user = (yield* side.redis.run("look", (client) => client.zrange(group, "0", "0")))[0]!
      const users = keys.filter((key) => key.endsWith(`:u:${user}`))
      yield* side.redis.run("spoil", (client) =>
        pipelined(client, [
          ["zrem", group, user],
          ["hset", other, ":eve", "0 1 0 0 0 0 0"],
          ["del", users]
        ])
      )
      const { differences, differing } = yield* verify(side)
      const named = differences.map(({ conv, row }) => `${conv} ${row}`)
      assert.isAbove(differing, 2)
      assert.include(named, `${conv} member ${user}`)
      assert.include(named, `${other.slice(other.indexOf(":c:") + 3)} member eve`)
      yield* replay(side)
      assert.strictEqual((yield* verify(side)).differing, 0)
    }).pipe(quiet)
  )
})
