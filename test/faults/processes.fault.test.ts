/** F1 and F2: processes that are killed in the middle of their work. */
import { describe, it } from "@effect/vitest"
import { isFull, scene } from "../support/fault-scene.ts"
import { until } from "../support/fault-tools.ts"
import { httpAs } from "../support/talk.ts"
import { RealDevice } from "../support/real-device.ts"
import { devToken } from "../support/ws.ts"

/** A lease, and what it may take until the last word of a dead node is swept away. */
const OFFLINE_MS = 12_000

describe("an edge that is killed (F1)", () => {
  it("leaves nobody behind: its people go on elsewhere, and whoever does not come back is shown offline", async () => {
    const { cluster, load } = await scene("F1", { edges: 2 })
    const [first, second] = cluster.edges as [(typeof cluster.edges)[0], (typeof cluster.edges)[0]]
    const wsUrl = `${first.url.replace(/^http/, "ws")}/v1/ws`
    const lonely = new RealDevice(wsUrl, "hal", "hal-phone", await devToken(first.url, "hal"))
    lonely.connect()
    // Everybody may ask about themselves.
    const hal = await httpAs(second.url, "hal")
    const isOnline = async (): Promise<boolean> => {
      const { body } = await hal.get("/v1/presence?users=hal")
      return (body["users"] as Record<string, { readonly online: boolean }>)["hal"]?.online === true
    }
    await until("hal is shown online", 10_000, isOnline)

    for (let kill = 0; kill < (isFull ? 6 : 2); kill++) {
      const killed = cluster.edges[kill % 2]!
      await load.progress(100 + Math.random() * 100)
      await killed.kill9()
      lonely.end()
      await load.progress(300)
      if (kill === 0) await until("hal is shown offline", OFFLINE_MS, async () => !(await isOnline()))
      await killed.start()
    }
    await load.settle({ judged: { I12: 10 } })
  })
})

describe("a writer that is killed (F2)", () => {
  it("before, in and after its commits: nothing is lost, nothing is doubled", async () => {
    const { cluster, load } = await scene("F2", { writers: 2 })
    for (let kill = 0; kill < (isFull ? 16 : 5); kill++) {
      const killed = cluster.writers[kill % 2]!
      await load.progress(Math.random() * 150)
      await killed.kill9()
      if (kill % 3 === 0) await load.progress(100)
      await killed.start()
    }
    await load.settle()
  })
})
