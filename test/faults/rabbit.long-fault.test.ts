/** F10 to F12: RabbitMQ goes, comes back, throws everyone out, or is short of memory. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { deleteQueues, queuesOf, waitingIn } from "../support/fault-rabbit.ts"
import { scene } from "../support/fault-scene.ts"
import { TAKEN_OVER_MS, until } from "../support/fault-tools.ts"
import { privateMongo, type PrivateRabbit, privateRabbit } from "../support/privateEngines.ts"
import { talk } from "../support/talk.ts"

let rabbit: PrivateRabbit
beforeAll(async () => {
  rabbit = await privateRabbit()
})
afterAll(() => rabbit.dispose())

describe("RabbitMQ (F10)", () => {
  it("that stops and starts loses nothing that it confirmed", async () => {
    const { load } = await scene("F10-stop", { edges: 2, writers: 2, engines: { amqpUrl: rabbit.url } })
    for (let round = 0; round < 2; round++) {
      await load.progress(150)
      await rabbit.ctl("stop_app")
      await rabbit.ctl("start_app")
      await load.everyPartitionMoves(40_000)
    }
    await load.settle()
  })

  it("that is killed loses nothing that it confirmed", async () => {
    const { load } = await scene("F10-kill", { edges: 2, writers: 2, engines: { amqpUrl: rabbit.url } })
    await load.progress(150)
    await rabbit.restart()
    await load.everyPartitionMoves(40_000)
    await load.settle()
  })

  it("that throws everyone out is connected to again, also by those who are just starting", async () => {
    const { cluster, load } = await scene("F10-close", { edges: 2, writers: 2, engines: { amqpUrl: rabbit.url } })
    const [writer] = cluster.writers as [(typeof cluster.writers)[0]]
    for (let round = 0; round < 4; round++) {
      await load.progress(100)
      await rabbit.ctl("close_all_connections", "a test")
    }
    await writer.kill9()
    let isReady = false
    const ready = writer.start().then(() => (isReady = true))
    for (let round = 0; round < 3 || !isReady; round++) await rabbit.ctl("close_all_connections", "a test")
    await ready
    await load.everyPartitionMoves(20_000)
    await load.settle()
  })
})

const residentMb = (pid: number | undefined): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024

describe("RabbitMQ without memory (F11)", () => {
  it("makes publishers wait: what they keep is bounded, and they say that they are busy", async () => {
    const { cluster, load } = await scene("F11", { rate: 30, engines: { amqpUrl: rabbit.url } })
    const [edge] = cluster.edges as [(typeof cluster.edges)[0]]
    await load.progress(100)
    const before = residentMb(edge.pid)
    const body = "x".repeat(1_000)
    let flooded = 0
    const frames = (from: number): ReadonlyArray<{ readonly cid: string }> =>
      Array.from({ length: 40 }, (_, i) => ({ t: "send", to: "flo", cid: `flood-${from + i}`, body }))
    await rabbit.ctl("set_vm_memory_high_watermark", "0")
    try {
      const flood = await talk(edge.url, "flo")
      await until("somebody is told that it is busy", 30_000, () => {
        flood.tell(frames(flooded))
        flooded += 40
        return flood.frames.some(({ code, t }) => t === "err" && code === "busy")
      })
      const after = residentMb(edge.pid)
      assert.isBelow(after - before, 200, `the edge grew from ${before} to ${after} MiB`)
      assert.isAbove(flooded, 3_000)
      flood.socket.terminate()
    } finally {
      await rabbit.ctl("set_vm_memory_high_watermark", "0.6")
    }
    await load.everyPartitionMoves(20_000)
    // Whoever flooded sends everything again, and learns what became of it.
    const again = await talk(edge.url, "flo")
    for (let from = 0; from < flooded; from += 40) {
      const cids = new Set(frames(from).map(({ cid }) => cid))
      again.tell(frames(from))
      await again.until("forty answers", (all) => {
        const answers = all.filter(({ cid, state }) => cids.has(cid as string) && state === "persisted")
        return answers.length >= cids.size ? true : undefined
      })
    }
    await again.leave()
    await load.settle({ recoverMs: 40_000 })
  })
})

describe("commands that are deleted with their queue (F12)", () => {
  it("hold up their partition for a while and not for ever, and are sent again by those whose they are", async () => {
    const { cluster, load, log } = await scene("F12-loss", { edges: 2, engines: { amqpUrl: rabbit.url } })
    const [writer] = cluster.writers as [(typeof cluster.writers)[0]]
    await load.progress(150)
    const { commands } = await log((one) => Effect.succeed(queuesOf(one.id, one.partitions)))
    writer.pause()
    const doomed = commands.slice(0, 2)
    await load.until("more waits in both than their consumer was given ahead", 20_000, async () =>
      (await waitingIn(rabbit.url, doomed)).every((count) => count > 0)
    )
    await deleteQueues(rabbit.url, doomed)
    writer.resume()
    // What the writer was given ahead moves those partitions too: that they go on past what is missing is seen after it is said.
    await load.until("the writer says that commands are lost", 40_000, async () =>
      /commands of the edge \S+ before its batch \d+ are lost/.test(writer.output)
    )
    await load.everyPartitionMoves(40_000)
    // Whoever was told that it is sent waits longer than for any answer before it sends it again, and then it comes after what was sent meanwhile.
    await load.settle({ recoverMs: 60_000, except: ["I5"] })
  })
})

describe("a channel that the server closes (F12)", () => {
  it("is opened again, and what was not acked on it comes again", async () => {
    await using mongo = await privateMongo()
    // Deliveries that nobody acks for a second are given up by the server, with their channel.
    const set = (timeout: number, tick: number): Promise<string> =>
      rabbit.ctl(
        "eval",
        `application:set_env(rabbit, consumer_timeout, ${timeout}), application:set_env(rabbit, channel_tick_interval, ${tick}).`
      )
    await set(1_000, 500)
    try {
      const { load } = await scene("F12-channel", { writers: 2, engines: { amqpUrl: rabbit.url, mongoUrl: mongo.url } })
      for (let round = 0; round < 3; round++) {
        await load.progress(100)
        const from = Date.now()
        mongo.stop()
        await until("nobody acks for longer than that", 10_000, () => Date.now() > from + 3_000)
        mongo.cont()
        await load.everyPartitionMoves(TAKEN_OVER_MS)
      }
      assert.match(rabbit.output(), /delivery acknowledgement on channel \d+ timed out/)
      await load.settle()
    } finally {
      await set(1_800_000, 60_000)
    }
  })
})
