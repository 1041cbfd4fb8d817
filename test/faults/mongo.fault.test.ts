/** F2, F3 and F8: transactions whose commands fail, or whose writer stops or dies within them. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { failCommands, Ways } from "../support/fault-mongo.ts"
import { isFull, scene } from "../support/fault-scene.ts"
import { TAKEN_OVER_MS } from "../support/fault-tools.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"
import type { Through } from "../support/tcp-proxy.ts"

let mongo: PrivateMongo
beforeAll(async () => {
  mongo = await privateMongo()
})
afterAll(() => mongo.dispose())

describe("a transaction that fails (F8)", () => {
  it("is done again as a whole, whichever of its commands failed and how", async () => {
    const { load } = await scene("F8", { engines: { mongoUrl: mongo.url } })
    await load.progress(100)
    for (const command of ["bulkWrite", "commitTransaction"]) {
      for (const code of [112, 251, 91]) {
        // After a 91 the driver takes the server for one that leaves, and looks for another for up to two seconds.
        const point = await failCommands(mongo.url, [command], code, isFull && code !== 91 ? 10 : 3)
        await load.progress(60, 20_000)
        assert.isAbove(await point.off(), 0, `${command} has failed with ${code}`)
      }
    }
    await load.settle()
  })
})

describe("a writer within its transaction (F2, F3)", () => {
  it("that stops there holds nobody up for longer than 15 s, and commits nothing when it goes on", async () => {
    await using ways = await Ways.open(mongo.port, 2)
    const { cluster, load } = await scene("F3-transaction", {
      writers: 2,
      engines: { mongoUrl: mongo.url },
      start: ways.start
    })
    await load.progress(200)
    let held: Through | undefined
    const stopped = cluster.writers[await ways.commit((through) => (held = through).requests("hold"))]!
    stopped.pause()
    await load.everyPartitionMoves(TAKEN_OVER_MS)
    // The commit arrives after all, from a time when others own its partitions.
    held!.requests("pass")
    stopped.resume()
    await load.progress(300)
    await load.settle()
  })

  it("that dies when its commit is made and not yet answered: what is delivered again is answered from the log", async () => {
    await using ways = await Ways.open(mongo.port, 2)
    const { cluster, load } = await scene("F2-commit", {
      writers: 2,
      engines: { mongoUrl: mongo.url },
      start: ways.start
    })
    for (let round = 0; round < (isFull ? 4 : 1); round++) {
      await load.progress(200)
      const from = Date.now()
      const killed = cluster.writers[await ways.commit((through) => through.replies("swallow"))]!
      await killed.kill9()
      await load.everyPartitionMoves(TAKEN_OVER_MS)
      await load.progress(100)
      const repeats = load.heard(from, Date.now(), ({ dup, t }) => (t === "ack" || t === "reply") && dup === true)
      assert.isAbove(repeats, 0, "a command was taken for a repeat")
      await ways.startOne(cluster, killed)
    }
    await load.settle()
  })
})
