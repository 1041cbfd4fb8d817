/** F4, F14 and F15, what takes longer: relays that die between publish and removal, half-open connections, a Redis that stands still or is full. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Redis } from "ioredis"
import { scene } from "../support/fault-scene.ts"
import { REPAIRED_MS, until } from "../support/fault-tools.ts"
import { type PrivateEngine, privateRedis } from "../support/privateEngines.ts"
import { TcpProxy, type Through } from "../support/tcp-proxy.ts"

let redis: PrivateEngine
let admin: Redis
beforeAll(async () => {
  redis = await privateRedis()
  admin = new Redis(redis.url, { maxRetriesPerRequest: null })
  admin.on("error", () => {})
})
afterAll(async () => {
  admin.disconnect()
  await redis.dispose()
})

describe("a relay that is killed between publish and removal (F4)", () => {
  it("is repeated, and nobody is given anything twice", async () => {
    const { cluster, load } = await scene("F4-after", { writers: 2, engines: { redisUrl: redis.url } })
    const [ann] = load.devices as [(typeof load.devices)[0]]
    const bob = load.devices.find(({ user }) => user === "bob")!
    const given = (): number => [...bob.have.values()].reduce((sum, seq) => sum + seq, 0)
    await load.progress(200)
    let left = 0
    for (let round = 0; round < 6; round++) {
      await load.quiet()
      const before = given()
      ann.command({ t: "send", to: "bob", body: "told, and not yet taken for told" })
      await load.until("it is told", 10_000, () => given() > before)
      await Promise.all(cluster.writers.map((writer) => writer.kill9()))
      if (await load.outboxIs((count) => count > 0)) left++
      await Promise.all(cluster.writers.map((writer) => writer.start()))
      await load.until("the outbox is empty", 15_000, () => load.outboxIs((count) => count === 0))
    }
    assert.isAbove(left, 0, "what was told was still in the outbox when its writer died")
    load.go()
    await load.progress(100)
    await load.settle()
  })
})

describe("a connection to Redis that is half open (F14)", () => {
  it("is found, whether it swallows, holds back or trickles", async () => {
    await using proxy = await TcpProxy.start(redis.port)
    const { load } = await scene("F14-half-open", {
      edges: 2,
      engines: { redisUrl: redis.url },
      start: async ({ all, edges: [first] }) => {
        const through = { REDIS_URL: `redis://127.0.0.1:${proxy.port}` }
        await Promise.all(all.map((one) => one.start(one === first ? through : {})))
      }
    })
    const breakAll = async (act: (through: Through) => void): Promise<void> => {
      await load.progress(100)
      assert.isAbove(proxy.connections.length, 0)
      proxy.all(act)
      await load.everybodyHears(REPAIRED_MS)
    }
    await breakAll((through) => {
      through.requests("swallow")
      through.replies("swallow")
    })
    await breakAll((through) => through.requests("hold"))
    await breakAll((through) => through.replies("hold"))
    // It lives, and is of no use.
    await breakAll((through) => through.replies("pass", 500))
    proxy.all((through) => through.cut())
    await load.progress(100)
    await load.settle()
  })
})

describe("Redis as a whole (F15)", () => {
  it("that stands still: what is asked is answered from the log, and what is sent is told afterwards", async () => {
    const { load } = await scene("F15-stop", { edges: 2, engines: { redisUrl: redis.url } })
    await load.progress(200)
    const [ann] = load.devices as [(typeof load.devices)[0]]
    const conv = [...ann.have.keys()][0]!
    for (let round = 0; round < 2; round++) {
      redis.stop()
      try {
        const from = load.repliesTo("history")
        await load.until("history is answered without Redis", 15_000, () => {
          if (ann.asked.size === 0) ann.ask({ t: "history", conv })
          return load.repliesTo("history") > from
        })
      } finally {
        redis.cont()
      }
      await load.progress(100)
    }
    await load.settle()
  })

  it("that is killed and comes back with nothing is filled again", async () => {
    const { load } = await scene("F15-kill", { edges: 2, engines: { redisUrl: redis.url } })
    for (let round = 0; round < 2; round++) {
      await load.progress(100)
      await redis.restart()
    }
    await load.progress(100)
    await load.settle()
  })

  it("that is full refuses to be written, and nothing is lost", async () => {
    const { load } = await scene("F15-full", { edges: 2, engines: { redisUrl: redis.url } })
    await load.progress(200)
    const refused = async (): Promise<number> =>
      Number(/errorstat_OOM:count=(\d+)/.exec(await admin.info("errorstats"))?.[1] ?? 0)
    await admin.set("ballast of this test", "x".repeat(2 ** 20))
    await admin.config("SET", "maxmemory", "1mb")
    try {
      const before = await refused()
      await until("Redis has refused something", 20_000, async () => (await refused()) > before + 10)
    } finally {
      await admin.config("SET", "maxmemory", "1gb")
      await admin.del("ballast of this test")
    }
    await load.progress(200)
    await load.settle()
  })
})
