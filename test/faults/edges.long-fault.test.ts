/** F1, F14, F16, F19 and F20 at once: many edges that come and go under many people. */
import { assert, describe, it, onTestFinished } from "@effect/vitest"
import { Redis } from "ioredis"
import { groupConversation } from "../../src/domain/groupId.ts"
import { residentBytes } from "../../bench/support.ts"
import { scene } from "../support/fault-scene.ts"
import { STREAM_LOSSES, metrics, until } from "../support/fault-tools.ts"
import { privateRedis } from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"
import { RealDevice } from "../support/real-device.ts"
import { httpAs } from "../support/talk.ts"
import { TcpProxy } from "../support/tcp-proxy.ts"
import { devToken, greet } from "../support/ws.ts"

const SECONDS = 120
/** Messages a second, and what all together do a second to say so many: a part of it is questions and marks. */
const MESSAGES = 50
const RATE = 60
const PEOPLE = 2_000
/** Those of them who come by networks that break. */
const BY_PROXY = 120
/** People who stop reading, and what is said to them: more than the operating system takes for them, and their queues. */
const DEAF = 25
const DEAF_EVERY_MS = 40
const DEAF_CHARS = 16_000
/** A lease, and what it may take until the last word of a dead node is swept away. */
const OFFLINE_MS = 12_000
const LONELY = Array.from({ length: 5 }, (_, i) => `lonely-${i}`)
/** Of an edge that most of them are on: 80 MB of values, 200 MB without anybody, and several times that of what is not collected yet. */
const RESIDENT_BYTES = 1e9

const chance = (share: number): boolean => Math.random() < share

/** Connections that an edge has cut because their queue was full. */
const cutAsSlow = async ({ url }: DardaProcess): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^darda_closes_total\{[^}]*code="4001"[^}]*\} (\d+)/m.exec(text)?.[1] ?? 0)
}

/** What networks do to those who come by them: a byte a second, nothing at all, or a reset in the middle of a frame. */
const breakNetworks = (proxies: ReadonlyArray<TcpProxy>): void => {
  for (const proxy of proxies) {
    proxy.all((through) => {
      const roll = Math.random()
      if (roll < 0.1) through.replies("pass", 1)
      else if (roll < 0.2) {
        through.requests("hold")
        through.replies("hold")
      } else if (roll < 0.35) {
        through.replies("pass", 400)
        setTimeout(() => through.cut(), 1_000).unref()
      } else {
        through.requests("pass")
        through.replies("pass")
      }
    })
  }
}

describe("edges that come and go (F1, F14, F16, F19, F20)", () => {
  it("are one to 2,000 people, who lose nothing and wait for nobody", async () => {
    const redis = await privateRedis()
    onTestFinished(() => redis.dispose())
    const proxies: Array<TcpProxy> = []
    const { cluster, load } = await scene("edges", {
      edges: 4,
      writers: 2,
      readers: 2,
      rate: RATE,
      engines: { redisUrl: redis.url },
      start: async ({ all, edges }) => {
        await Promise.all(all.map((one) => one.start()))
        for (const { port } of edges.slice(0, 2)) proxies.push(await TcpProxy.start(port))
      },
      crowd: {
        users: PEOPLE,
        groups: [
          { members: 1_000, count: 2, share: 0.04 },
          { members: 50, count: 20, share: 0.3 },
          { members: 3, count: 200, share: 0.66 }
        ],
        ways: (urls, index) => (index < BY_PROXY ? proxies.map(({ port }) => `ws://127.0.0.1:${port}/v1/ws`) : urls)
      }
    })
    onTestFinished(async () => {
      for (const proxy of proxies) await proxy[Symbol.asyncDispose]()
    })
    const admin = new Redis(redis.url, { lazyConnect: true })
    onTestFinished(() => admin.disconnect())
    await admin.connect()
    const dying = cluster.edges.slice(0, 3)
    const staying = cluster.edges[3]!

    // F19: they are all on the edge that stays, and hear one who says much.
    const [speaker] = load.devices as [RealDevice]
    const deaf = await Promise.all(Array.from({ length: DEAF }, (_, i) => greet(staying.url, `deaf-${i}`)))
    const [cid] = speaker.commands([
      { t: "create", rid: "to the deaf", members: Array.from({ length: DEAF }, (_, i) => `deaf-${i}`) }
    ]) as [string]
    const toTheDeaf = groupConversation(speaker.user, cid)
    await load.until("the deaf have a group", 10_000, () => speaker.have.has(toTheDeaf))
    for (const { socket } of deaf) socket.pause()
    const shouter = new RealDevice(
      `${staying.url.replace(/^http/, "ws")}/v1/ws`,
      speaker.user,
      `${speaker.user}-shouter`,
      await devToken(staying.url, speaker.user)
    )
    shouter.connect()
    onTestFinished(() => shouter.end())
    const shouting = setInterval(() => {
      // All that waits is sent again in one frame, which holds 64 KiB.
      if (shouter.pending.length < 3)
        shouter.command({ t: "send", conv: toTheDeaf, body: "hear me! ".repeat(DEAF_CHARS / 9) })
    }, DEAF_EVERY_MS)

    // People come and go all the time; some stay away for a while.
    const leaving = setInterval(() => {
      const one = load.devices[Math.floor(Math.random() * load.devices.length)]!
      one.vanish(chance(0.3) ? Math.random() * 5_000 : 0)
    }, 50)
    const breaking = setInterval(() => breakNetworks(proxies), 4_000)
    const ends = (): void => [shouting, leaving, breaking].forEach((timer) => clearInterval(timer))
    onTestFinished(ends)

    // One is told how those are with whom one shares a conversation.
    speaker.command({ t: "create", rid: "to the lonely", members: LONELY })
    const lonely: Array<RealDevice> = []
    for (const user of LONELY) {
      const device = new RealDevice(
        `${dying[0]!.url.replace(/^http/, "ws")}/v1/ws`,
        user,
        `${user}-phone`,
        await devToken(staying.url, user)
      )
      device.connect()
      lonely.push(device)
    }
    const ann = await httpAs(staying.url, "ann")
    const online = async (): Promise<number> => {
      const { body } = await ann.get(`/v1/presence?users=${LONELY.join(",")}`)
      return Object.values(body["users"] as Record<string, { readonly online: boolean }>).filter((one) => one.online)
        .length
    }
    await until("the lonely are shown online", 10_000, async () => (await online()) === LONELY.length)

    const end = Date.now() + SECONDS * 1000
    let kills = 0
    let drains = 0
    for (let step = 0; Date.now() < end; step++) {
      const edge = dying[step % dying.length]!
      if (step % 2 === 0) {
        await edge.kill9()
        kills++
      } else {
        assert.strictEqual(await edge.stop(), 0, edge.output)
        drains++
      }
      if (step === 0) {
        lonely.forEach((device) => device.end())
        // I20: whoever was on it and came back nowhere is not there.
        await until("the lonely are shown offline", OFFLINE_MS, async () => (await online()) === 0)
      }
      await edge.start()
      if (step % 4 === 2) {
        assert.isAbove(Number(await admin.call("CLIENT", "KILL", "TYPE", "normal")), 0)
        assert.isAbove(Number(await admin.call("CLIENT", "KILL", "TYPE", "pubsub")), 0)
      }
      await load.progress(100)
    }
    clearInterval(shouting)
    await load.until("the deaf are cut", 30_000, async () => (await cutAsSlow(staying)) >= DEAF)
    ends()
    for (const proxy of proxies) proxy.all((through) => through.cut())
    assert.isAbove(await metrics(cluster.edges, STREAM_LOSSES), 0)
    for (const { pid } of cluster.edges) assert.isBelow(residentBytes(pid!), RESIDENT_BYTES)
    deaf.forEach(({ socket }) => socket.terminate())
    assert.strictEqual(await staying.stop(), 0, staying.output)
    await staying.start()
    assert.isAtLeast(kills, 3)
    assert.isAtLeast(drains, 3)
    const { log } = await load.settle({
      recoverMs: 60_000,
      judged: { I10: 20_000, I11: 2_000, I12: 500, I13: 500 }
    })
    const { [toTheDeaf]: _, ...others } = log.timelines
    const said = Object.values(others)
      .flat()
      .filter(({ type }) => type === "message")
    assert.isAtLeast(said.length, MESSAGES * SECONDS)
  }, 360_000)
})
