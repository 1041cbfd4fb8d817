/** F18: processes whose clocks are an hour apart. */
import { assert, describe, it } from "@effect/vitest"
import type { Cluster } from "../support/cluster.ts"
import { scene } from "../support/fault-scene.ts"
import { metric, RECOVERED, TAKEN_OVER_MS, until } from "../support/fault-tools.ts"
import { privateRedis } from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"
import { devToken, openRaw } from "../support/ws.ts"

const HOUR_MS = 3_600_000
const preload = new URL("../support/clock-shift.ts", import.meta.url).href

const wrongBy = (ms: number) => ({ NODE_OPTIONS: `--import=${preload}`, DARDA_TEST_CLOCK_MS: String(ms) })

/** One of each kind an hour ahead, one edge a day and an hour ahead, the reader an hour behind. */
const start = async ({ edges: [, ahead, dayAhead], all, readers, writers: [, late] }: Cluster): Promise<void> => {
  const clockOf = (one: DardaProcess): number =>
    one === dayAhead ? 25 * HOUR_MS : one === ahead || one === late ? HOUR_MS : readers.includes(one) ? -HOUR_MS : 0
  await Promise.all(all.map((one) => one.start(wrongBy(clockOf(one)))))
}

describe("clocks that are an hour apart (F18)", () => {
  it("change no order and lose nothing, whoever commits", async () => {
    const { cluster, load } = await scene("F18", { edges: 2, writers: 2, start })
    const [right, wrong] = cluster.writers as [DardaProcess, DardaProcess]
    await load.progress(150)
    // From one clock to the other, and back: no conversation's time may fall.
    await right.kill9()
    await load.everyPartitionMoves(TAKEN_OVER_MS)
    await right.start(wrongBy(0))
    await load.progress(100)
    await wrong.kill9()
    await load.everyPartitionMoves(TAKEN_OVER_MS)
    await wrong.start(wrongBy(HOUR_MS))
    await load.progress(100)
    await load.settle()
  })

  it("leave nothing untold that a writer of the future committed and had no time to tell", async () => {
    await using redis = await privateRedis()
    const { cluster, load, log } = await scene("F18-outbox", {
      engines: { redisUrl: redis.url },
      start: ({ all, writers }) =>
        Promise.all(all.map((one) => one.start(wrongBy(writers.includes(one) ? HOUR_MS : 0)))).then(() => {})
    })
    const [writer] = cluster.writers as [DardaProcess]
    await load.progress(100)
    await load.quiet()
    const heads = await log((one) => one.heads)
    redis.stop()
    load.devices[0]!.command({ t: "send", to: "bob", body: "of the future" })
    await load.until("it is committed", 15_000, async () =>
      (await log((one) => one.heads)).some((head, partition) => head > heads[partition]!)
    )
    await writer.kill9()
    redis.cont()
    await writer.start(wrongBy(0))
    await load.until("the sweep has found it", 15_000, async () => (await metric(writer, RECOVERED)) > 0)
    load.go()
    await load.progress(100)
    await load.settle()
  })

  it("let nobody in by a token or a ticket that is over by the clock of whoever is asked, or not to be had yet", async () => {
    const { cluster } = await scene("F18-tokens", { edges: 3, start })
    const [right, ahead, dayAhead] = cluster.edges as [DardaProcess, DardaProcess, DardaProcess]
    const ticketOf = async ({ url }: DardaProcess): Promise<string> => {
      const authorization = `Bearer ${await devToken(url, "ann")}`
      const answer = await fetch(`${url}/v1/tickets`, { method: "POST", headers: { authorization } })
      return ((await answer.json()) as { readonly ticket: string }).ticket
    }
    const enters = async ({ url }: DardaProcess, hello: object): Promise<boolean> => {
      const client = await openRaw(url)
      client.send({ t: "hello", v: 1, device: "clock", ...hello })
      let isOver = false
      void client.closed().then(() => (isOver = true))
      await until("it is let in or refused", 10_000, () => isOver || client.all.some(({ t }) => t === "welcome"))
      client.socket.terminate()
      return !isOver
    }
    assert.isTrue(await enters(right, { token: await devToken(right.url, "ann") }))
    assert.isFalse(await enters(dayAhead, { token: await devToken(right.url, "ann") }), "a token that is over there")
    assert.isTrue(await enters(ahead, { ticket: await ticketOf(ahead) }))
    assert.isFalse(await enters(ahead, { ticket: await ticketOf(right) }), "a ticket that is over there")
    assert.isFalse(await enters(right, { ticket: await ticketOf(ahead) }), "a ticket that is good for an hour there")
  })
})
