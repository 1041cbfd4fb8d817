/** F4, F14 and F15: a relay that dies while it waits for Redis, and Redis without its connections, streams, or anything. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Redis } from "ioredis"
import { isFull, scene } from "../support/fault-scene.ts"
import { metrics, RECOVERED, REPAIRED_MS, STREAM_LOSSES } from "../support/fault-tools.ts"
import { type PrivateEngine, privateRedis } from "../support/privateEngines.ts"

let redis: PrivateEngine
let admin: Redis
beforeAll(async () => {
  redis = await privateRedis()
  admin = new Redis(redis.url)
  admin.on("error", () => {})
})
afterAll(async () => {
  admin.disconnect()
  await redis.dispose()
})

describe("a relay that is killed between commit and publish (F4)", () => {
  it("in a partition in which nothing comes after: the sweep of others finds what it left", async () => {
    const { cluster, load, log } = await scene("F4", { writers: 2, engines: { redisUrl: redis.url } })
    await load.progress(200)
    await load.quiet()
    const heads = await log((one) => one.heads)
    redis.stop()
    try {
      load.devices[0]!.command({ t: "send", to: "bob", body: "committed, and told to nobody" })
      await load.until("it is committed", 15_000, async () =>
        (await log((one) => one.heads)).some((head, partition) => head > heads[partition]!)
      )
      assert.isTrue(await load.outboxIs((count) => count === 1))
      await Promise.all(cluster.writers.map((writer) => writer.kill9()))
    } finally {
      redis.cont()
    }
    await Promise.all(cluster.writers.map((writer) => writer.start()))
    await load.until("the sweep has found it", 15_000, async () => (await metrics(cluster.writers, RECOVERED)) > 0)
    await load.settle()
  })
})

describe("connections to Redis (F14)", () => {
  it("that are killed, all of them and again and again, are made anew within seconds", async () => {
    const { load } = await scene("F14-kill", { edges: 2, engines: { redisUrl: redis.url } })
    for (let round = 0; round < (isFull ? 8 : 3); round++) {
      await load.progress(100)
      assert.isAbove(Number(await admin.call("CLIENT", "KILL", "TYPE", "normal")), 0)
      await load.progress(50)
      assert.isAbove(Number(await admin.call("CLIENT", "KILL", "TYPE", "pubsub")), 0)
    }
    await load.progress(100)
    await load.settle({ recoverMs: REPAIRED_MS })
  })
})

describe("a node's stream that is deleted or trimmed (F14)", () => {
  it("is noticed, and what was in it is read from the log", async () => {
    const { cluster, load } = await scene("F14-stream", { edges: 2, engines: { redisUrl: redis.url } })
    for (let round = 0; round < (isFull ? 6 : 2); round++) {
      await load.progress(100)
      // Something is in it that its edge has not taken.
      const edge = cluster.edges[round % 2]!
      edge.pause()
      const streams = await admin.keys("darda:*:stream")
      const lengths = () => Promise.all(streams.map((stream) => admin.xlen(stream)))
      // Redis is told a few entries late of what was taken.
      const before = await lengths()
      let full: ReadonlyArray<string> = []
      await load.until("items wait in a stream", 4_000, async () => {
        const now = await lengths()
        full = streams.filter((_, index) => now[index]! > before[index]! + 20)
        return full.length > 0
      })
      if (round % 2 === 0) await admin.del(...full)
      else for (const stream of full) await admin.xtrim(stream, "MAXLEN", 0)
      edge.resume()
      await load.everybodyHears(REPAIRED_MS)
    }
    await load.settle({ recoverMs: REPAIRED_MS })
    assert.isAbove(await metrics(cluster.edges, STREAM_LOSSES), 0)
  })
})

describe("a Redis that is emptied (F15)", () => {
  it("again and again in the middle of everything is filled again", async () => {
    const { cluster, load } = await scene("F15-flush", { edges: 2, engines: { redisUrl: redis.url } })
    for (let round = 0; round < (isFull ? 20 : 5); round++) {
      await load.progress(40 + Math.random() * 80)
      await admin.flushall()
    }
    await load.progress(100)
    await load.settle({ recoverMs: 15_000 })
    assert.isAbove(await metrics(cluster.edges, STREAM_LOSSES), 0)
  })
})
