import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { expect, test } from "vitest"
import { freshMongoUrl } from "../support/engines.ts"
import { privateMongo, privateRabbit, privateRedis } from "../support/privateEngines.ts"

test("a fresh database is empty, takes transactions, and is the test's own", async () => {
  const [one, other] = [freshMongoUrl(), freshMongoUrl()]
  expect(new URL(one).pathname).not.toBe(new URL(other).pathname)
  await using client = await new MongoClient(one).connect()
  expect(await client.db().collections()).toEqual([])
  await client.withSession((session) =>
    session.withTransaction(() => client.db().collection("some").insertOne({ a: 1 }, { session }))
  )
})

test("a private Redis stops, goes on, is killed and comes back empty on its port", async () => {
  await using engine = await privateRedis({ args: ["--maxmemory", "8mb"] })
  const redis = new Redis(engine.url, { commandTimeout: 500, retryStrategy: () => 20 })
  redis.on("error", () => {})
  await redis.set("a", "1")
  expect(await redis.config("GET", "maxmemory")).toContain(`${8 * 1024 * 1024}`)
  engine.stop()
  await expect(redis.get("a")).rejects.toThrow("Command timed out")
  engine.cont()
  expect(await redis.get("a")).toBe("1")
  const former = engine.pid
  await engine.kill9()
  expect(engine.running()).toBe(false)
  await engine.restart()
  expect(engine.pid).not.toBe(former)
  expect(await redis.get("a")).toBeNull()
  redis.disconnect()
})

test("three members elect another primary when theirs is killed", async () => {
  await using engine = await privateMongo({ members: 3 })
  const first = await engine.primary()
  await first.kill9()
  const second = await engine.primary()
  expect(second.port).not.toBe(first.port)
  await first.restart()
  expect(first.running()).toBe(true)
})

test("a private RabbitMQ is asked by rabbitmqctl", async () => {
  await using engine = await privateRabbit()
  expect(await engine.ctl("list_queues", "--quiet")).toBe("")
  await engine.restart()
  expect(await engine.ctl("status")).toContain(`Interface: 127.0.0.1, port: ${engine.port}, protocol: amqp,`)
})
