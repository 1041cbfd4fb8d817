import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Schedule } from "effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { inspect } from "node:util"
import {
  connectRedis,
  pipelined,
  type RedisConnection,
  type RedisUnavailable
} from "../../src/platform/RedisConnection.ts"
import { redisAddress, redisServer } from "../support/redis-server.ts"
import { TcpProxy } from "../support/tcp-proxy.ts"

/** Tries again until Redis is there. */
const eventually = <A>(effect: Effect.Effect<A, RedisUnavailable>) =>
  Effect.retry(effect, Schedule.spaced("10 millis").pipe(Schedule.upTo({ duration: "10 seconds" })))

const get = (redis: RedisConnection, key: string) => redis.run("get", (client) => client.get(key))

describe("a connection to Redis", () => {
  it.live("answers, several commands at once in their order", () =>
    Effect.gen(function* () {
      const { address } = yield* redisServer()
      const redis = yield* connectRedis({ address, name: "test" })
      const answers = yield* redis.run("set and get", (client) =>
        pipelined(client, [
          ["set", "a", "ä"],
          ["get", "a"],
          ["incr", "b"]
        ])
      )
      assert.deepStrictEqual(answers, ["OK", "ä", 1])
    })
  )

  it.live("goes on after Redis was killed, and scripts are known to the new one", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const redis = yield* connectRedis({ address: server.address, name: "test" })
      const double = redis.script("dardaDouble", "return tonumber(ARGV[1]) * 2")
      const doubled = (n: number) => redis.run("double", (client) => double(client, [], [n]))
      assert.strictEqual(yield* doubled(2), 4)
      assert.strictEqual(yield* doubled(3), 6)
      yield* redis.run("forget", (client) => client.script("FLUSH"))
      assert.strictEqual(yield* doubled(4), 8)
      yield* server.kill
      const error = yield* Effect.flip(doubled(5))
      assert.strictEqual(error.code, "closed")
      yield* server.start
      assert.strictEqual(yield* eventually(doubled(6)), 12)
    })
  )

  it.live("a stopped Redis costs a call its time-out, then calls fail at once, and what is on its way is bounded", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const redis = yield* connectRedis({ address: server.address, name: "test", timeoutMs: 100, inFlight: 2 })
      server.pause()
      const calls = yield* Effect.all(
        Array.from({ length: 40 }, () => Effect.flip(get(redis, "a"))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(calls.map(({ code }) => code))].sort(), ["busy", "timeout"])
      assert.strictEqual(calls.filter(({ code }) => code === "busy").length, 40 - 2 - 32)
      while (redis.isReady()) yield* Effect.sleep("5 millis")
      assert.strictEqual((yield* Effect.flip(get(redis, "a"))).code, "closed")
      server.resume()
      assert.isNull(yield* eventually(get(redis, "a")))
    })
  )

  it.live("one on which answers only trickle is given up, as if nothing came", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => TcpProxy.start(server.port)),
        (one) => Effect.promise(() => one[Symbol.asyncDispose]())
      )
      const redis = yield* connectRedis({
        address: redisAddress(`redis://127.0.0.1:${proxy.port}`),
        name: "test",
        timeoutMs: 200
      })
      assert.isNull(yield* get(redis, "a"))
      proxy.all((through) => through.replies("pass", 100))
      // More than comes in a minute.
      const large = redis.run("echo", (client) => client.echo("x".repeat(10_000)))
      assert.strictEqual((yield* Effect.flip(large)).code, "timeout")
      assert.isNull(yield* eventually(get(redis, "a")))
    })
  )

  it.live("waits for Redis at the start, and goes on without when it does not come", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      yield* server.kill
      const lines: Array<unknown> = []
      const logger = Logger.make(({ message }) => void lines.push(message))
      const redis = yield* connectRedis({ address: server.address, name: "test" }).pipe(
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual((yield* Effect.flip(get(redis, "a"))).code, "closed")
      yield* server.start
      assert.isNull(yield* eventually(get(redis, "a")))
      assert.strictEqual(lines.length, 2, lines.join("\n"))
    })
  )

  it.live("tells of every new connection", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const redis = yield* connectRedis({ address: server.address, name: "test" })
      const lost = Effect.map(PrometheusMetrics.format(), (text) =>
        Number(/^darda_redis_reconnects_total (\d+)/m.exec(text)?.[1])
      )
      const before = yield* lost
      let ready = 0
      yield* redis.onReady(() => void ready++)
      assert.strictEqual(ready, 1)
      yield* redis
        .run("kill", (client) => client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"))
        .pipe(Effect.ignore)
      yield* eventually(get(redis, "a"))
      assert.strictEqual(ready, 2)
      assert.strictEqual(yield* lost, before + 1)
    })
  )

  it.live("is in the database that the URL names, or there is none", () =>
    Effect.gen(function* () {
      const { port } = yield* redisServer("--databases", "2")
      const connect = (db: number) =>
        connectRedis({ address: redisAddress(`redis://127.0.0.1:${port}/${db}`), name: "test" })
      const [zero, one, two] = [yield* connect(0), yield* connect(1), yield* connect(2)]
      yield* one.run("set", (client) => client.set("a", "of one"))
      assert.isNull(yield* get(zero, "a"))
      assert.strictEqual(yield* get(one, "a"), "of one")
      assert.strictEqual((yield* Effect.flip(get(two, "a"))).code, "closed")
      assert.match(
        two.trouble()!,
        /the database 2 that REDIS_URL names cannot be used \(ERR DB index is out of range\)/
      )
    })
  )

  it.live("neither errors nor log lines hold passwords or what was sent", () =>
    Effect.gen(function* () {
      const { address, port } = yield* redisServer()
      const open = yield* connectRedis({ address, name: "test" })
      yield* open.run("config", (client) => client.config("SET", "requirepass", "right"))
      const lines: Array<unknown> = []
      const logger = Logger.make(({ message }) => void lines.push(message))
      const connect = (url: string) =>
        connectRedis({ address: redisAddress(url), name: "test" }).pipe(Effect.provide(Logger.layer([logger])))

      const bad = yield* Effect.flip(connect("http://me:s3cret@host"))
      assert.strictEqual(bad.code, "bad-url")
      yield* connect(`redis://default:s3cret@127.0.0.1:${port}`)
      assert.include(lines.join("\n"), "WRONGPASS")
      const redis = yield* connect(`redis://:right@127.0.0.1:${port}`)
      yield* redis.run("set", (client) => client.set("a", "text"))
      const refused = yield* Effect.flip(redis.run("add", (client) => client.sadd("a", "s3cret")))
      assert.strictEqual(refused.code, "WRONGTYPE")
      const unknown = yield* Effect.flip(redis.run("call", (client) => client.call("NOSUCH", "s3cret")))
      for (const error of [bad, refused, unknown]) {
        assert.notInclude(inspect(error, { depth: 10, showHidden: true }), "s3cret")
      }
      assert.notInclude(lines.join("\n"), "s3cret")
    })
  )
})
