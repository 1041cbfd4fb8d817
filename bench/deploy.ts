/** A deploy: four edges with 5,000 clients, replaced one after the other while people talk. */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Begin, End, Ended, Ready } from "./deploy/clients.ts"
import { startManyEdges } from "./durable/cluster.ts"
import { startEngines } from "./durable/engines.ts"
import { ask } from "./fanout/ask.ts"
import { type Bench, machine, type Server } from "./support.ts"

const EDGES = 4
const CLIENTS = 5_000
const RATE = 50
const DRAIN_SECONDS = 15
/** How long a balancer sends clients to an edge that has said that it is not ready: it asks every so often. */
const ASKED_EVERY_MS = 1_000
const AWAY_MS = 5_000
const IN_A_SECOND = 500

type Told = Begin | Ready | End

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const bench: Bench = async (say) => {
  const engines = await startEngines()
  const clients = fork(fileURLToPath(new URL("./deploy/clients.ts", import.meta.url)))
  const replaced: Array<Server> = []
  try {
    const cluster = await startManyEdges(engines, "benchdeploy", EDGES, { DRAIN_SECONDS: String(DRAIN_SECONDS) })
    try {
      const edges = [...cluster.edges]
      const urls = (): ReadonlyArray<string> => edges.map(({ url }) => url)
      await ask<Told, object>(clients, { urls: urls(), clients: CLIENTS, rate: RATE })
      say(`${CLIENTS} clients are online, load ${machine().load}`)
      const stops: Array<number> = []
      for (let i = 0; i < EDGES; i++) {
        const leaving = edges[i]!
        const from = performance.now()
        const stopped = leaving.stop()
        await pause(ASKED_EVERY_MS)
        edges.splice(i, 1)
        await ask<Told, object>(clients, { urls: urls() })
        await stopped
        stops.push((performance.now() - from) / 1000)
        const next = await cluster.startEdge()
        replaced.push(next)
        edges.splice(i, 0, next)
        await ask<Told, object>(clients, { urls: urls() })
        say(`Edge ${i + 1} of ${EDGES} is replaced; its leaving took ${stops.at(-1)!.toFixed(1)} s`)
      }
      const ended = await ask<Told, Ended>(clients, { end: true })
      const most = Math.max(...stops)
      return [
        {
          name: "longest time away",
          unit: "ms",
          value: ended.longestAwayMs,
          target: `≤ ${AWAY_MS}`,
          ok: ended.longestAwayMs <= AWAY_MS
        },
        { name: "time away, p99", unit: "ms", value: ended.p99AwayMs },
        {
          name: "reconnects in the worst second",
          unit: "",
          value: ended.mostInASecond,
          target: `≤ ${IN_A_SECOND}`,
          ok: ended.mostInASecond <= IN_A_SECOND
        },
        { name: "reconnects", unit: "", value: ended.reconnects },
        {
          name: "longest leaving of an edge",
          unit: "s",
          value: most,
          runs: stops,
          target: `≤ ${DRAIN_SECONDS}`,
          ok: most <= DRAIN_SECONDS + 1
        },
        { name: "messages", unit: "", value: ended.sent },
        { name: "messages lost", unit: "", value: ended.lost, target: "0", ok: ended.lost === 0 },
        {
          name: "messages without an answer",
          unit: "",
          value: ended.unanswered,
          target: "0",
          ok: ended.unanswered === 0
        }
      ]
    } finally {
      await Promise.all([cluster.stop(), ...replaced.map((server) => server.stop())])
    }
  } finally {
    clients.disconnect()
    await engines.stop()
  }
}
