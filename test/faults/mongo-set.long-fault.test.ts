/** F5 and F6: a replica set that loses its primary, or its majority. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { withAdmin } from "../support/fault-mongo.ts"
import { scene } from "../support/fault-scene.ts"
import { until } from "../support/fault-tools.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"

let mongo: PrivateMongo
beforeAll(async () => {
  mongo = await privateMongo({ members: 3 })
})
afterAll(() => mongo.dispose())

/** From the loss of a primary until there is another one and all have found it. */
const ELECTED_MS = 40_000

describe("the primary (F5)", () => {
  it("that steps down is followed to the next one", async () => {
    const { load } = await scene("F5-step-down", { engines: { mongoUrl: mongo.url } })
    for (let round = 0; round < 3; round++) {
      await load.progress(150)
      const before = await mongo.primary()
      await withAdmin(mongo.url, (client) =>
        client.db("admin").command({ replSetStepDown: 10, secondaryCatchUpPeriodSecs: 5 })
      )
      await until("another member is primary", 20_000, async () => (await mongo.primary()).port !== before.port)
      await load.progress(150, ELECTED_MS)
    }
    await load.settle()
  })

  it("that is killed takes nothing along that was acknowledged", async () => {
    const { load } = await scene("F5-kill", { engines: { mongoUrl: mongo.url } })
    for (let round = 0; round < 2; round++) {
      await load.progress(150)
      const killed = await mongo.primary()
      await killed.kill9()
      await load.progress(150, ELECTED_MS)
      await killed.restart()
    }
    await load.progress(150)
    await load.settle()
  })

  it("that stands still is replaced, and knows it when it goes on", async () => {
    const { load } = await scene("F5-stop", { engines: { mongoUrl: mongo.url } })
    await load.progress(150)
    const stopped = await mongo.primary()
    stopped.stop()
    try {
      await load.progress(150, ELECTED_MS)
    } finally {
      stopped.cont()
    }
    await load.progress(150)
    await load.settle()
  })
})

describe("a set without its majority (F6)", () => {
  it("persists nothing and says so, people go on talking, and everything is persisted when it is back", async () => {
    const { load } = await scene("F6", { rate: 30, engines: { mongoUrl: mongo.url } })
    await load.progress(150)
    const primary = await mongo.primary()
    const others = mongo.members.filter(({ port }) => port !== primary.port)
    await Promise.all(others.map((one) => one.kill9()))
    // What a majority had before is still answered.
    const from = Date.now() + 3_000
    await until("it is over", 60_000, () => Date.now() > from + 30_000)
    const to = Date.now()
    assert.strictEqual(
      load.heard(from, to, ({ state, t }) => t === "ack" && state === "persisted"),
      0,
      "nothing is acked"
    )
    assert.isAbove(
      load.heard(from, to, ({ state, t }) => t === "ack" && state === "sent"),
      0,
      "sends are accepted"
    )
    assert.isAbove(
      load.heard(from, to, ({ t }) => t === "live"),
      0,
      "people see what others say"
    )
    await Promise.all(others.map((one) => one.restart()))
    await load.progress(100, ELECTED_MS)
    await load.settle({ recoverMs: 40_000 })
  })
})
