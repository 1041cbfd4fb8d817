/** Memory of idle connections: a server with none and with 10,000 that have said hello and been welcomed; ours, and bare `ws` that does no more than welcome. */
import { fileURLToPath } from "node:url"
import { devTokens } from "../src/main/load/tokens.ts"
import { eachOf, openDarda } from "./fanout/greet.ts"
import type { LightSocket } from "./fanout/socket.ts"
import { type Bench, median, residentBytes, type Server, startProcess, startServer, UNLIMITED } from "./support.ts"

const CONNECTIONS = 10_000
const WARM_CONNECTIONS = 200
const AT_ONCE = 100
const SETTLE_SECONDS = 30
const STILL_SECONDS = 4
const TARGET_KB = 20
const TIMES = 1.5

const bare = (flags?: Array<string>): Promise<Server> =>
  startProcess([fileURLToPath(new URL("./fanout/bare.ts", import.meta.url))], { PATH: process.env["PATH"] }, flags)

const PROGRAMS = [
  { name: "ours", start: () => startServer(UNLIMITED) },
  { name: "bare ws", start: () => bare([]) },
  // What of the difference is Node.js being told how much to keep for young objects.
  { name: "bare ws, started as ours", start: () => bare() }
]

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The memory once it has stopped moving: within 1 % for some seconds, or the last after half a minute. */
const settled = async (pid: number): Promise<number> => {
  let still = 0
  let last = residentBytes(pid)
  for (let second = 0; second < SETTLE_SECONDS && still < STILL_SECONDS; second++) {
    await pause(1_000)
    const now = residentBytes(pid)
    still = Math.abs(now - last) < last / 100 ? still + 1 : 0
    last = now
  }
  return last
}

/** MB without connections, and kB for each of them. */
const measure = async (server: Server): Promise<{ readonly without: number; readonly each: number }> => {
  let lost = 0
  const open = (user: { readonly user: string; readonly token: string }): Promise<LightSocket> =>
    openDarda(server.url, user, { marks: () => {}, lost: () => lost++ })
  const names = Array.from({ length: CONNECTIONS }, (_, i) => `idle-${i}`)
  // Tokens and a first round of connections beforehand, so that code that is only loaded once is not counted as theirs.
  const users = await devTokens(server.url, names)
  for (const socket of await eachOf(users.slice(0, WARM_CONNECTIONS), AT_ONCE, open)) socket.close()
  const none = await settled(server.pid)
  const sockets = await eachOf(users, AT_ONCE, open)
  const all = await settled(server.pid)
  if (lost > 0) throw new Error(`${lost} of ${CONNECTIONS} connections were lost; see ulimit -n`)
  for (const socket of sockets) socket.close()
  return { without: none / 1e6, each: (all - none) / CONNECTIONS / 1e3 }
}

export const bench: Bench = async (say, { rounds }) => {
  const without = PROGRAMS.map((): Array<number> => [])
  const each = PROGRAMS.map((): Array<number> => [])
  for (let round = 1; round <= rounds; round++) {
    for (const [index, { name, start }] of PROGRAMS.entries()) {
      const server = await start()
      try {
        const measured = await measure(server)
        without[index]!.push(measured.without)
        each[index]!.push(measured.each)
        say(
          `Round ${round} of ${rounds}, ${name}: ${measured.without.toFixed(1)} MB without, ${measured.each.toFixed(2)} kB each of ${CONNECTIONS}`
        )
      } finally {
        await server.stop()
      }
    }
  }
  const own = PROGRAMS[0]!.name
  const times = (index: number, judged: (value: number) => object) => {
    const runs = each[0]!.map((own, round) => own / each[index]![round]!)
    return {
      name: `times ${PROGRAMS[index]!.name}`,
      of: own,
      unit: "",
      value: median(runs),
      runs,
      ...judged(median(runs))
    }
  }
  const ofEach = `each of ${CONNECTIONS} idle connections`
  return [
    ...PROGRAMS.map(({ name }, i) => ({
      name: "server without connections",
      of: name,
      unit: "MB",
      value: median(without[i]!),
      runs: without[i]!
    })),
    ...PROGRAMS.map(({ name }, i) => ({
      name: ofEach,
      of: name,
      unit: "kB",
      value: median(each[i]!),
      runs: each[i]!,
      ...(name === own ? { target: `≤ ${TARGET_KB}`, ok: median(each[i]!) <= TARGET_KB } : {})
    })),
    times(1, (value) => ({ target: `≤ ${TIMES}`, ok: value <= TIMES })),
    times(2, () => ({}))
  ]
}
