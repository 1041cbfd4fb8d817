import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { makeRedisBatch } from "../../src/platform/RedisBatch.ts"
import { connectRedis, type RedisConnection } from "../../src/platform/RedisConnection.ts"
import { redisServer } from "../support/redis-server.ts"

/** A batch, and how many calls it has made. */
const setUp = Effect.fnUntraced(function* () {
  const server = yield* redisServer()
  const redis = yield* connectRedis({ address: server.address, name: "test" })
  let calls = 0
  const counted: RedisConnection = {
    ...redis,
    run: (operation, work) => {
      calls++
      return redis.run(operation, work)
    }
  }
  return { ask: yield* makeRedisBatch(counted), calls: () => calls, server }
})

describe("questions to Redis that come together", () => {
  it.live("go in one call, and each is answered in its order", () =>
    Effect.gen(function* () {
      const { ask, calls } = yield* setUp()
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, (_, i) =>
          ask("test", [
            ["set", `k${i}`, i],
            ["get", `k${i}`]
          ])
        ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers,
        Array.from({ length: 100 }, (_, i) => ["OK", String(i)])
      )
      assert.strictEqual(calls(), 1)
    })
  )

  it.live("one that is refused fails alone, with its own name", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp()
      const [, refused, right] = yield* Effect.all(
        [
          ask("first", [["set", "a", "text"]]),
          Effect.flip(
            ask("second", [
              ["incr", "b"],
              ["incr", "a"]
            ])
          ),
          ask("third", [["get", "a"]])
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([refused.operation, refused.code], ["second", "ERR"])
      assert.deepStrictEqual(right, ["text"])
    })
  )

  it.live("all fail when there is no Redis, and too many are refused at once", () =>
    Effect.gen(function* () {
      const { ask, server } = yield* setUp()
      const commands = Array.from({ length: 1_000 }, () => ["get", "a"] as const)
      const many = yield* Effect.all(
        Array.from({ length: 25 }, () => Effect.exit(ask("many", commands))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(many.filter(({ _tag }) => _tag === "Failure").length, 5)
      yield* server.kill
      const errors = yield* Effect.all(
        ["one", "two"].map((name) => Effect.flip(ask(name, [["get", "a"]]))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        errors.map(({ code, operation }) => [operation, code]),
        [
          ["one", "closed"],
          ["two", "closed"]
        ]
      )
    })
  )

  it.live("who is interrupted before the write is not asked for", () =>
    Effect.gen(function* () {
      const { ask, calls } = yield* setUp()
      const asking = yield* Effect.forkChild(ask("test", [["set", "a", "b"]]), { startImmediately: true })
      const other = yield* Effect.forkChild(ask("test", [["get", "a"]]), { startImmediately: true })
      yield* Fiber.interrupt(asking)
      assert.deepStrictEqual(yield* Fiber.join(other), [null])
      assert.strictEqual(calls(), 1)
    })
  )
})
