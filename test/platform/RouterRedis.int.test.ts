import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schedule, type Scope } from "effect"
import { connectRedis, type RedisConnection } from "../../src/platform/RedisConnection.ts"
import type { NodeItem, Router } from "../../src/platform/Router.ts"
import { makeRouterRedis } from "../../src/platform/RouterRedis.ts"
import { incarnationOf, makeKeys, shardOf } from "../../src/platform/RouterRedisKeys.ts"
import { Lease } from "../../src/platform/RouterRedisLease.ts"
import { defineScripts } from "../../src/platform/RouterRedisScripts.ts"
import { NodeStream } from "../../src/platform/RouterRedisStream.ts"
import { type Proxy, tcpProxy } from "../support/proxy.ts"
import { redisAddress, redisServer, type RedisServer } from "../support/redis-server.ts"

const SCOPE = "faults"
const WITHIN_MS = 5_000
const keys = makeKeys(SCOPE)

const itemOf = (position: number): NodeItem => ({ _tag: "Progress", partition: 0, position })
const items = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => itemOf(from + i))

/** A Redis, an edge `n1` that has its connections through a proxy, another process that is none, and a connection of the test's own. */
interface Scene {
  readonly server: RedisServer
  readonly proxy: Proxy
  readonly edge: Router["Service"]
  readonly writer: Router["Service"]
  readonly redis: RedisConnection
}

const scene: Effect.Effect<Scene, never, Scope.Scope> = Effect.gen(function* () {
  const server = yield* redisServer()
  const proxy = yield* tcpProxy(server.port)
  const address = redisAddress(`redis://127.0.0.1:${proxy.port}`)
  const redis = yield* connectRedis({ address: server.address, name: "test" })
  const edge = yield* makeRouterRedis({ address, scope: SCOPE, node: "n1", edge: true })
  const writer = yield* makeRouterRedis({ address: server.address, scope: SCOPE, node: "w1", edge: false })
  yield* edge.register("ann")
  yield* edge.register("bob")
  return { server, proxy, edge, writer, redis }
}).pipe(Effect.orDie)

const within = <A, E>(what: string, effect: Effect.Effect<A, E>, ms = WITHIN_MS) =>
  Effect.timeoutOrElse(effect, { duration: ms, orElse: () => Effect.die(new Error(`${what}: not within ${ms} ms`)) })

/** Takes until the edge is told of its loss; what came before is the answer. */
const lost = Effect.fnUntraced(function* (router: Router["Service"]) {
  const before: Array<NodeItem> = []
  for (;;) {
    const taken = yield* Effect.result(router.take(1_000))
    if (taken._tag === "Success") before.push(...taken.success)
    else if (taken.failure._tag === "StreamLost") return before
  }
})

const patiently = <A, E>(effect: Effect.Effect<A, E>) => Effect.retry(effect, Schedule.spaced("20 millis"))

/** What an edge does after a loss, and that everything is well then: users are found, and what is appended comes in order. */
const repaired = Effect.fnUntraced(function* ({ edge, writer }: Scene) {
  for (const user of ["ann", "bob"]) yield* patiently(edge.register(user))
  assert.deepStrictEqual([...(yield* patiently(writer.routes(["ann", "bob", "cat"])))], [["n1", ["ann", "bob"]]])
  yield* patiently(writer.append("n1", items(100, 110)))
  yield* patiently(writer.append("n1", items(110, 120)))
  const taken: Array<NodeItem> = []
  while (taken.length < 20) taken.push(...(yield* edge.take(1_000)).filter(({ _tag }) => _tag === "Progress"))
  assert.deepStrictEqual(taken, items(100, 120))
})

/** Carries out a fault, and expects that the edge is told of a loss and that all is well within five seconds after it. */
const found = (name: string, fault: (scene: Scene) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () =>
    Effect.gen(function* () {
      const all = yield* scene
      yield* all.writer.append("n1", items(0, 3))
      assert.deepStrictEqual(yield* all.edge.take(10), items(0, 3))
      yield* fault(all)
      yield* within("found and repaired", Effect.andThen(lost(all.edge), repaired(all)))
    })
  )

const command = ({ redis }: Scene, ...[name, ...args]: readonly [string, ...ReadonlyArray<string>]) =>
  Effect.asVoid(redis.run(name, (client) => client.call(name, ...args)))

/** Fills the stream so far that the edge, which does not take, leaves some of it in Redis. */
const fill = ({ writer }: Scene) =>
  Effect.forEach(
    Array.from({ length: 200 }, (_, i) => i),
    (i) => writer.append("n1", items(i * 100, i * 100 + 100)),
    { discard: true }
  )

describe("a node that joins", () => {
  it.live("is found by the others before its stream takes anything, also when Redis is emptied meanwhile", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const redis = yield* connectRedis({ address: server.address, name: "test" })
      defineScripts(redis)
      let steps = 0
      const emptied: RedisConnection = {
        ...redis,
        // After its first step: it is among the nodes, and has no lease yet.
        run: (operation, work) =>
          operation === "join" && ++steps === 1
            ? Effect.tap(redis.run(operation, work), () => redis.run("flush", (client) => client.flushall()))
            : redis.run(operation, work)
      }
      const stream = new NodeStream("n1", keys)
      yield* Effect.forkScoped(new Lease(emptied, keys, stream, () => true).keep)
      yield* within("it joins", stream.live.await)
      assert.isAbove(steps, 2)
      const known = yield* redis.run("look", (client) => client.zrange(keys.nodes, "0", "-1"))
      assert.deepStrictEqual(known, [incarnationOf("n1", stream.epoch)])
    })
  )
})

describe("what is lost in Redis is found and repaired", () => {
  found("everything is flushed", (all) => command(all, "FLUSHALL"))

  found("connections are killed", (all) => command(all, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

  found("the lease is deleted", (all) => command(all, "DEL", keys.lease("n1")))

  found("a part of the routes is deleted", (all) => command(all, "DEL", keys.shards[2]!.routes))

  found("this node is no longer among the nodes", (all) => command(all, "DEL", keys.nodes))

  found("the stream is deleted with what waits in it", (all) =>
    Effect.andThen(fill(all), command(all, "DEL", keys.stream("n1")))
  )

  found("the stream is trimmed", (all) =>
    Effect.andThen(fill(all), command(all, "XTRIM", keys.stream("n1"), "MAXLEN", "5"))
  )

  found("Redis is killed, and started again with nothing", ({ server }) => Effect.andThen(server.kill, server.start))

  found("Redis stands still for three seconds", ({ server }) =>
    Effect.sync(server.pause).pipe(
      Effect.andThen(Effect.sleep("3 seconds")),
      Effect.andThen(Effect.sync(server.resume))
    )
  )

  found("connections die without a word", ({ proxy }) => Effect.sync(() => proxy.deafen()))

  it.live("a lost stream does not come back as it was before", () =>
    Effect.gen(function* () {
      const all = yield* scene
      const { edge, redis, writer } = all
      yield* writer.append("n1", items(0, 3))
      const before = yield* redis.run("dump", (client) => client.dumpBuffer(keys.lease("n1")))
      yield* writer.append("n1", items(3, 6))
      const taken: Array<NodeItem> = []
      while (taken.length < 6) taken.push(...(yield* edge.take(10)))
      // As a replica has it that was behind, and takes over.
      yield* redis.run("restore", (client) => client.restore(keys.lease("n1"), 60_000, before, "REPLACE"))
      yield* within("found and repaired", Effect.andThen(lost(edge), repaired(all)))
    })
  )

  it.live("what came before a loss is taken before it is told, and nothing after it goes missing", () =>
    Effect.gen(function* () {
      const all = yield* scene
      yield* all.writer.append("n1", items(0, 100))
      // Some is taken, so that all of it has come.
      const some = yield* all.edge.take(10)
      yield* command(all, "FLUSHALL")
      const rest = yield* within("found", lost(all.edge))
      assert.deepStrictEqual([...some, ...rest], items(0, 100))
      yield* within("repaired", repaired(all))
    })
  )
})

describe("signals over Redis", () => {
  /** Sends typing signals until one of them comes. */
  const heard = ({ edge, writer }: Scene) =>
    Effect.gen(function* () {
      const typing = { _tag: "Typing", conv: "dm:ann:bob", user: "bob", on: true, session: "s" } as const
      const talk = yield* Effect.forkChild(
        writer.signal(["ann"], typing).pipe(Effect.andThen(Effect.sleep("50 millis")), Effect.forever)
      )
      for (;;) {
        const taken = yield* Effect.result(edge.takeSignals)
        if (taken._tag === "Success" && taken.success.some(({ signal }) => signal._tag === "Typing")) break
      }
      yield* Fiber.interrupt(talk)
    })
  const told = Effect.fnUntraced(function* (router: Router["Service"]) {
    while ((yield* Effect.result(router.takeSignals))._tag === "Success");
  })

  it.live("a subscriber that is killed subscribes again, and says that some were lost", () =>
    Effect.gen(function* () {
      const all = yield* scene
      yield* within("heard", heard(all))
      yield* command(all, "CLIENT", "KILL", "TYPE", "pubsub")
      yield* within("told", told(all.edge))
      yield* within("heard again", heard(all))
    })
  )

  it.live("a subscriber that hears nothing any more is made anew", () =>
    Effect.gen(function* () {
      const all = yield* scene
      yield* within("heard", heard(all))
      all.proxy.deafen("darda-router-signals")
      yield* within("heard again", heard(all))
    })
  )
})

describe("bounds", () => {
  it.live("a node that does not take loses its stream, and nobody waits for it", () =>
    Effect.gen(function* () {
      const all = yield* scene
      const other = yield* Effect.orDie(
        makeRouterRedis({ address: all.server.address, scope: SCOPE, node: "n2", edge: true })
      )
      const body = "x".repeat(100_000)
      const large: NodeItem = {
        _tag: "Answer",
        answer: { session: "s", cid: body, conv: "dm:ann:bob", outcome: { _tag: "Repeat", seq: 1, at: 1 } }
      }
      // A mebibyte each: some are read ahead, 16 may wait, and the rest is too much.
      const COUNT = 26
      for (let i = 0; i < COUNT; i++) {
        const streams = new Map([
          ["n1", Array.from({ length: 10 }, () => large)],
          ["n2", [itemOf(i)]]
        ])
        yield* within("appended to both", all.writer.appendAll(streams))
      }
      const taken: Array<NodeItem> = []
      while (taken.length < COUNT) taken.push(...(yield* other.take(1_000)))
      assert.deepStrictEqual(taken, items(0, COUNT))
      const bytes = yield* all.redis.run("info", (client) => client.info("memory"))
      assert.isBelow(Number(/used_memory:(\d+)/.exec(bytes)![1]), 64 * 1024 * 1024)
      yield* within("found and repaired", Effect.andThen(lost(all.edge), repaired(all)))
    })
  )

  it.live("what an edge has taken does not stay in Redis: a few entries, and a few hundred kilobytes, at most", () =>
    Effect.gen(function* () {
      const { edge, redis, writer } = yield* scene
      const length = redis.run("length", (client) => client.xlen(keys.stream("n1")))
      const shrinks = (below: number) =>
        within(
          `less than ${below} entries are left`,
          length.pipe(
            Effect.repeat({ until: (count) => count < below, schedule: Schedule.spaced("20 millis") }),
            Effect.asVoid
          )
        )
      const COUNT = 300
      for (let i = 0; i < COUNT; i++) yield* writer.append("n1", [itemOf(i)])
      const taken: Array<NodeItem> = []
      while (taken.length < COUNT) taken.push(...(yield* edge.take(1_000)))
      assert.deepStrictEqual(taken, items(0, COUNT))
      yield* shrinks(100)

      const cid = "x".repeat(100_000)
      const large: NodeItem = {
        _tag: "Answer",
        answer: { session: "s", cid, conv: "dm:ann:bob", outcome: { _tag: "Repeat", seq: 1, at: 1 } }
      }
      for (let i = 0; i < 10; i++) {
        yield* writer.append("n1", [large])
        yield* edge.take(1_000)
      }
      yield* shrinks(10)
    }).pipe(Effect.orDie)
  )

  it.live("a Redis that has no memory left still routes", () =>
    Effect.gen(function* () {
      const all = yield* scene
      yield* command(all, "SET", "others", "x".repeat(2_000_000))
      yield* command(all, "CONFIG", "SET", "maxmemory", "1mb")
      const refused = yield* Effect.flip(all.redis.run("set", (client) => client.set("more", "x")))
      assert.strictEqual(refused.code, "OOM")
      yield* repaired(all)
      assert.isTrue(yield* all.writer.claimOnce("ticket", 1_000))
      const other = yield* Effect.orDie(
        makeRouterRedis({ address: all.server.address, scope: SCOPE, node: "n2", edge: true })
      )
      yield* other.register("cat")
      assert.deepStrictEqual([...(yield* all.writer.routes(["cat"]))], [["n2", ["cat"]]])
    })
  )

  it.live("users of a node that died are let go by another one, which says that they are offline", () =>
    Effect.gen(function* () {
      const all = yield* scene
      const users = Array.from({ length: 1_000 }, (_, i) => `user${i}`)
      yield* Effect.forEach(users, (user) => all.edge.register(user), { concurrency: "unbounded" })
      const other = yield* Effect.orDie(
        makeRouterRedis({ address: all.server.address, scope: SCOPE, node: "n2", edge: true })
      )
      yield* other.register("ann")
      const began = Date.now()
      all.proxy.swallow()
      const waiting = new Set<string>(["bob", ...users])
      const gone = Effect.gen(function* () {
        while (waiting.size > 0) {
          for (const { signal } of yield* other.takeSignals) {
            if (signal._tag !== "Presence" || signal.online) continue
            assert.notStrictEqual(signal.user, "ann")
            assert.isAtMost(signal.lastSeen ?? Infinity, Date.now())
            assert.isAtLeast(signal.lastSeen ?? 0, began - 2_000)
            waiting.delete(signal.user)
          }
        }
      })
      yield* within("all are offline", gone, 8_000)
      const routes = yield* all.redis.run("routes", (client) =>
        Promise.all(keys.shards.map(({ routes }) => client.hgetall(routes)))
      )
      assert.deepStrictEqual(Object.assign({}, ...routes.map(withoutCanaries)), { ann: "n2.1" })
      const held = yield* all.redis.run("held", (client) => client.keys(`*held:n1*`))
      assert.deepStrictEqual(held, [])
    })
  )

  it.live("users of a node that leaves are there for as long as a lease, since they come back elsewhere", () =>
    Effect.gen(function* () {
      const { server, writer } = yield* scene
      const leaving = yield* Effect.scoped(
        Effect.gen(function* () {
          const other = yield* makeRouterRedis({ address: server.address, scope: SCOPE, node: "n2", edge: true })
          yield* other.register("cat")
          return other.node
        })
      )
      assert.deepStrictEqual((yield* writer.presence(["cat"])).get("cat"), { online: true })
      // What is appended meanwhile goes nowhere, and holds nobody up.
      yield* writer.append(leaving, items(0, 10))
      const offline = Effect.gen(function* () {
        while ((yield* writer.presence(["cat"])).get("cat")?.online === true) yield* Effect.sleep("20 millis")
      })
      yield* within("offline", offline, 6_000)
    }).pipe(Effect.orDie)
  )

  it.live("what was left by a node that died when nobody was there is swept too", () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const redis = yield* connectRedis({ address: server.address, name: "test" })
      const shard = keys.shards[shardOf("zoe")]!
      yield* redis.run("leave", (client) =>
        Promise.all([
          client.zadd(keys.nodes, 1_000_000, "old.7"),
          client.hset(shard.routes, "zoe", "old.7"),
          client.sadd(shard.held("old.7"), "zoe")
        ])
      )
      yield* makeRouterRedis({ address: server.address, scope: SCOPE, node: "n1", edge: true })
      const left = redis.run("left", async (client) => [
        await client.hexists(shard.routes, "zoe"),
        await client.exists(shard.held("old.7")),
        await client.zcount(keys.nodes, "-inf", 1_000_001)
      ])
      const swept = Effect.gen(function* () {
        while ((yield* left).some((count) => count > 0)) yield* Effect.yieldNow
      })
      yield* within("swept", swept)
    })
  )

  it.live("a Redis that stands still fails calls instead of holding them", () =>
    Effect.gen(function* () {
      const all = yield* scene
      all.server.pause()
      const failed = yield* within("append", Effect.flip(all.writer.append("n1", items(0, 1))), 3_000)
      assert.strictEqual(failed._tag, "RouterUnavailable")
      const routes = yield* within("routes", Effect.flip(all.writer.routes(["ann"])), 3_000)
      assert.strictEqual(routes.operation, "routes")
      all.server.resume()
    })
  )
})

const withoutCanaries = (routes: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(routes).filter(([user]) => !user.startsWith("*")))
