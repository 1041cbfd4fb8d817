/**
 * What it costs to follow sends, and that it costs nothing where nobody asked for traces: servers without traces (two, whose difference is the noise of this measurement), with one of 1,000 sends followed,
 * and with all of them, in turn under the same load. Whoever comes first in one round comes later in the next. A collector that reads and forgets runs in the bench's own process.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import {
  type Bench,
  cpuSeconds,
  type Measured,
  median,
  runLoad,
  type Server,
  startServer,
  UNLIMITED
} from "./support.ts"

const load = (seconds: number): ReadonlyArray<string> => [
  ...["--max", "--seconds", `${seconds}`, "--users", "20", "--conversations", "100"]
]

export const bench: Bench = async (say, { rounds, seconds }) => {
  let spans = 0
  const collector = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => (spans += chunk.length))
    request.on("end", () => response.end("{}"))
  }).listen(0, "127.0.0.1")
  await new Promise((resolve) => collector.once("listening", resolve))
  const OTLP_TRACES_URL = `http://127.0.0.1:${(collector.address() as AddressInfo).port}/v1/traces`
  const kinds: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    off: {},
    "off again": {},
    "1 in 1,000": { OTLP_TRACES_URL, TRACE_ONE_IN: "1000" },
    all: { OTLP_TRACES_URL, TRACE_ONE_IN: "1" }
  }
  const names = Object.keys(kinds)
  const persisted = new Map<string, Array<number>>(names.map((name) => [name, []]))
  const cpu = new Map<string, Array<number>>(names.map((name) => [name, []]))
  const servers = new Map<string, Server>()
  try {
    for (const name of names) {
      servers.set(name, await startServer({ ...UNLIMITED, ...kinds[name] }))
      await runLoad(servers.get(name)!.url, load(seconds))
    }
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(round + turn) % names.length]!
        const { pid, url } = servers.get(name)!
        const before = cpuSeconds(pid)
        const found = await runLoad(url, load(seconds))
        const micros = ((cpuSeconds(pid) - before) / found.persisted) * 1e6
        persisted.get(name)!.push(found.persistedPerSecond)
        cpu.get(name)!.push(micros)
        say(
          `Round ${round + 1} of ${rounds}, ${name}: ${found.persistedPerSecond}/s, ${micros.toFixed(1)} µs a message`
        )
      }
    }
  } finally {
    for (const server of servers.values()) await server.stop()
    collector.closeAllConnections()
    collector.close()
  }
  say(`The collector was sent ${Math.round(spans / 1024)} KiB`)
  return names.flatMap((name): ReadonlyArray<Measured> => {
    const [rates, micros] = [persisted.get(name)!, cpu.get(name)!]
    return [
      { name: "persisted, full speed", of: name, unit: "messages/s", value: median(rates), runs: rates },
      { name: "server CPU a message", of: name, unit: "µs", value: median(micros), runs: micros }
    ]
  })
}
