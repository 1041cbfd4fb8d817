/** F3: a process that is stopped in the middle of its work. */
import { assert, describe, it } from "@effect/vitest"
import { scene } from "../support/fault-scene.ts"
import { busiest, metrics, TAKEN_OVER_MS, until } from "../support/fault-tools.ts"

describe("a writer that is stopped (F3)", () => {
  it("is replaced within 15 s, and is fenced when it goes on", async () => {
    const { cluster, load } = await scene("F3", { writers: 2 })
    await load.progress(200)
    const stopped = await busiest(cluster.writers)
    const others = cluster.writers.filter((writer) => writer !== stopped)
    const commits = await metrics(others, "darda_commits_total")
    const began = Date.now()
    stopped.pause()
    await load.everyPartitionMoves(TAKEN_OVER_MS)
    assert.isAbove(await metrics(others, "darda_commits_total"), commits)
    // It sleeps longer than anything waits for it.
    await until("a minute has passed", 70_000, () => Date.now() > began + 60_000)
    stopped.resume()
    await load.progress(300)
    await load.settle()
  })
})
