/**
 * 500 clients that never read among 1,500 that do: what the others notice of them, and what they cost. One server, one run: without them, with them, and without them again, since the log
 * grows by 3 MB a second meanwhile, which the tail shows too.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { ask } from "./fanout/ask.ts"
import type { Begin, Talk, Talked } from "./slow/crowd.ts"
import { type Bench, median, residentBytes, startServer, UNLIMITED } from "./support.ts"

const GROUPS = 25
const READERS = 60
const NEVER = 20
/** Long bodies, so that the buffers of the operating system are full in seconds. */
const BODY_CHARS = 16_000
const RATE = 200
const WARM_UP_SECONDS = 3
/** Enough for every one of those who never read to be cut. */
const SECONDS = 50
const WITHOUT_SECONDS = 15
const SAMPLE_MS = 250
const TIMES = 1.3
/** What a queue before a socket may hold, and some for what else a connection has. */
const BYTES_EACH = 1.2 * 1024 * 1024

const cutAsSlow = async (url: string): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  const found = /^darda_closes_total\{[^}]*code="4001"[^}]*\} (\d+)/m.exec(text)
  if (found === null) throw new Error("The server does not tell how many it has cut as slow")
  return Number(found[1])
}

/** The most that a process holds while something is done. */
const mostResident = async <A>(pid: number, work: Promise<A>): Promise<readonly [A, number]> => {
  let most = residentBytes(pid)
  const timer = setInterval(() => (most = Math.max(most, residentBytes(pid))), SAMPLE_MS)
  try {
    return [await work, most]
  } finally {
    clearInterval(timer)
  }
}

export const bench: Bench = async (say, { rounds }) => {
  const before: Array<Talked> = []
  const after: Array<Talked> = []
  const among: Array<Talked> = []
  const memory: Array<readonly [number, number]> = []
  const cut: Array<number> = []
  for (let round = 1; round <= rounds; round++) {
    const server = await startServer(UNLIMITED)
    const crowd = fork(fileURLToPath(new URL("./slow/crowd.ts", import.meta.url)))
    try {
      const begin: Begin = { url: server.url, groups: GROUPS, readers: READERS, never: NEVER, bodyChars: BODY_CHARS }
      const talk = (seconds: number, never: boolean) =>
        mostResident(server.pid, ask<Begin | Talk, Talked>(crowd, { seconds, never, rate: RATE }))
      await ask(crowd, begin)
      await talk(WARM_UP_SECONDS, false)
      const [alone, least] = await talk(WITHOUT_SECONDS, false)
      const [together, most] = await talk(SECONDS, true)
      cut.push(await cutAsSlow(server.url))
      const [again] = await talk(WITHOUT_SECONDS, false)
      before.push(alone)
      among.push(together)
      after.push(again)
      memory.push([least / 1e6, most / 1e6])
      say(
        `Round ${round} of ${rounds}: p99 ${alone.p99.toFixed(1)} ms without, ${together.p99.toFixed(1)} ms with, ${again.p99.toFixed(1)} ms without again; ` +
          `memory ${Math.round(least / 1e6)} MB and ${Math.round(most / 1e6)} MB; ${cut.at(-1)} cut`
      )
    } finally {
      crowd.disconnect()
      await server.stop()
    }
  }
  const column = (name: string, unit: string, of: string, runs: ReadonlyArray<number>, judged: object = {}) => ({
    name,
    unit,
    of,
    runs,
    value: median(runs),
    ...judged
  })
  const [WITHOUT, WITH, AGAIN] = ["without them", "with them", "without them again"] as const
  const p99 = among.map((talked, round) => (2 * talked.p99) / (before[round]!.p99 + after[round]!.p99))
  const grown = memory.map(([least, most]) => most - least)
  const most = (GROUPS * NEVER * BYTES_EACH) / 1e6
  return [
    ...([50, 99] as const).flatMap((q) =>
      [before, among, after].map((runs, i) =>
        column(
          `send to delivered, p${q}`,
          "ms",
          [WITHOUT, WITH, AGAIN][i]!,
          runs.map((one) => (q === 50 ? one.p50 : one.p99))
        )
      )
    ),
    column("p99, times the mean of both without them", "", WITH, p99, {
      target: `≤ ${TIMES}`,
      ok: median(p99) <= TIMES
    }),
    column(
      "most memory of the server",
      "MB",
      WITHOUT,
      memory.map(([least]) => least)
    ),
    column(
      "most memory of the server",
      "MB",
      WITH,
      memory.map(([, most]) => most)
    ),
    column("more memory", "MB", WITH, grown, { target: `≤ ${Math.round(most)}`, ok: Math.max(...grown) <= most }),
    column("cut with 4001", "", WITH, cut, {
      target: String(GROUPS * NEVER),
      ok: cut.every((count) => count === GROUPS * NEVER)
    })
  ]
}
