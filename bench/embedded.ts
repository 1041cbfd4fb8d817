/** End to end on one machine: client, WebSocket, command side, fsync, fan-out, other client; the load generator beside the server. */
import { type Bench, cpuSeconds, type Load, median, runLoad, startServer, UNLIMITED } from "./support.ts"

const RUNS = 3
const WARM_UP = ["--max", "--seconds", "5", "--users", "20", "--conversations", "100"]
const FULL_SPEED = ["--max", "--seconds", "10", "--users", "20", "--conversations", "100"]
const STEADY = ["--rate", "500", "--seconds", "15", "--users", "20", "--conversations", "100"]

export const bench: Bench = async (say) => {
  const server = await startServer(UNLIMITED)
  try {
    say("Warming up")
    await runLoad(server.url, WARM_UP)
    const full: Array<Load> = []
    const cpu: Array<number> = []
    for (let run = 1; run <= RUNS; run++) {
      const before = cpuSeconds(server.pid)
      const load = await runLoad(server.url, FULL_SPEED)
      full.push(load)
      cpu.push(((cpuSeconds(server.pid) - before) / load.persisted) * 1e6)
      say(
        `Full speed, run ${run} of ${RUNS}: ${load.persistedPerSecond} persisted/s, ${load.deliveredPerSecond} delivered/s`
      )
    }
    const steady: Array<Load> = []
    for (let run = 1; run <= RUNS; run++) {
      const load = await runLoad(server.url, STEADY)
      steady.push(load)
      say(`500/s, run ${run} of ${RUNS}: p50 ${load.sendToPersistedMs.p50} ms, p99 ${load.sendToPersistedMs.p99} ms`)
    }
    const of = (loads: ReadonlyArray<Load>, value: (load: Load) => number) => {
      const runs = loads.map(value)
      return { value: median(runs), runs }
    }
    const persisted = of(full, (load) => load.persistedPerSecond)
    const delivered = of(full, (load) => load.deliveredPerSecond)
    const p99 = of(steady, (load) => load.sendToPersistedMs.p99)
    const wrong = [...full, ...steady].reduce(
      (sum, load) =>
        sum + load.unanswered + load.lostConnections + Object.values(load.errors).reduce((a, b) => a + b, 0),
      0
    )
    return [
      {
        name: "persisted, full speed",
        unit: "messages/s",
        ...persisted,
        target: "≥ 10,000",
        ok: persisted.value >= 10_000
      },
      {
        name: "delivered, full speed",
        unit: "messages/s",
        ...delivered,
        target: "≥ 10,000",
        ok: delivered.value >= 10_000
      },
      { name: "server CPU a message, full speed", unit: "µs", value: median(cpu), runs: cpu },
      { name: "send to persisted at 500/s, p50", unit: "ms", ...of(steady, (load) => load.sendToPersistedMs.p50) },
      { name: "send to persisted at 500/s, p99", unit: "ms", ...p99, target: "≤ 20", ok: p99.value <= 20 },
      { name: "send to delivered at 500/s, p99", unit: "ms", ...of(steady, (load) => load.sendToDeliveredMs.p99) },
      { name: "errors and unanswered, all runs", unit: "", value: wrong, target: "0", ok: wrong === 0 }
    ]
  } finally {
    await server.stop()
  }
}
