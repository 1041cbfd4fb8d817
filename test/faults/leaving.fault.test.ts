import { assert, describe, it, onTestFinished } from "@effect/vitest"
import { type Scene, scene } from "../support/fault-scene.ts"
import type { FaultLoad } from "../support/fault-load.ts"
import { busiest, metric } from "../support/fault-tools.ts"
import { privateRabbit } from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"

/**
 * How much longer than before a send may take while a process is replaced. What waits for a time-out instead of being handed over waits for 5 s at least,
 * and does so every time; a busy machine is slow now and then, so the best of some rounds counts.
 */
const SEND_MS = 1_500
const ROUNDS = 3

/** The longest time from a send to its `persisted`, of all that were first said since then, and how many they were. */
const slowest = ({ devices }: FaultLoad, since: number): { readonly count: number; readonly ms: number } => {
  let count = 0
  let ms = 0
  for (const { sessions } of devices) {
    const said = new Map<unknown, number>()
    for (const { entries } of sessions) {
      for (const entry of entries) {
        if (entry.dir !== "sent" && entry.dir !== "received") continue
        const { cid, state, t } = entry.frame
        if (entry.dir === "sent" && t === "send" && !said.has(cid)) said.set(cid, entry.at)
        if (entry.dir !== "received" || t !== "ack" || state !== "persisted") continue
        const at = said.get(cid)
        said.delete(cid)
        if (at === undefined || at < since) continue
        count++
        ms = Math.max(ms, entry.at - at)
      }
    }
  }
  return { count, ms }
}

/** Stops it as an operator would while people talk; gives how much longer than before the slowest send took. */
const stopUnderLoad = async ({ load }: Scene, stopped: DardaProcess): Promise<number> => {
  const from = Date.now()
  await load.progress(100)
  const before = slowest(load, from).ms
  const since = Date.now()
  assert.strictEqual(await stopped.stop(), 0, stopped.output)
  await load.progress(150)
  const { count, ms } = slowest(load, since)
  assert.isAbove(count, 50)
  return ms - before
}

describe("a process that is asked to stop while people talk", () => {
  it("hands over what it had: nobody waits long, nothing is lost, and it ends with 0", async () => {
    const rabbit = await privateRabbit()
    onTestFinished(() => rabbit.dispose())
    const engines = { amqpUrl: rabbit.url }
    const all = await scene("stop", { edges: 2, writers: 2, readers: 2, rate: 100, engines })
    const { cluster, load } = all

    const waits: Array<number> = []
    for (let round = 0; round < ROUNDS && (round < 2 || Math.min(...waits) >= SEND_MS); round++) {
      const writer = await busiest(cluster.writers)
      waits.push(await stopUnderLoad(all, writer))
      await writer.start()
    }
    assert.isBelow(
      Math.min(...waits),
      SEND_MS,
      `writers were stopped: ${waits.join()} ms\n${cluster.output().slice(-4_000)}`
    )

    const [reader] = cluster.readers as [DardaProcess]
    const replies = load.repliesTo("history")
    const refused = load.heard(0, Date.now(), isUnavailable)
    await stopUnderLoad(all, reader)
    await load.until("questions are still answered", 15_000, () => load.repliesTo("history") > replies + 10)
    assert.strictEqual(load.heard(0, Date.now(), isUnavailable), refused)
    await reader.start()

    const [edge] = cluster.edges as [DardaProcess]
    assert.isAbove(await metric(edge, "darda_connections"), 0)
    // Its people go to the other edge with what was not answered.
    await stopUnderLoad(all, edge)
    assert.match(edge.output, /Stopping: \d+ connections are asked to leave/)
    await edge.start()
    await load.settle({ judged: { I12: 3 } })
  })
})

const isUnavailable = ({ code, t }: { readonly t: string; readonly code?: unknown }): boolean =>
  t === "err" && code === "unavailable"
