/** Pages of history over HTTP, from the edge and the read role: out of a warm Redis, and right after Redis has lost everything. */
import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { type Engines, startEngines } from "./durable/engines.ts"
import { ours, type Running, settings } from "./durable/programs.ts"
import { caughtUp } from "./durable/readModels.ts"
import { type Asked, ask, type Asking } from "./history/ask.ts"
import { fill, type Filled } from "./history/fill.ts"
import { type Bench, cpuSeconds, type Measured, median, residentBytes } from "./support.ts"

const RUN = "benchhistory"
/** Requests under way at a time, one on each connection. */
const CONNECTIONS = 16
const PAGE = 50
/** Messages of each conversation: more than Redis keeps as its tail. */
const MESSAGES = 600
const CONVERSATIONS = 100
const USERS = 20

interface Turn extends Asked {
  /** µs of CPU a read, by process. */
  readonly cpu: Readonly<Record<string, number>>
  readonly residentMb: number
}

const measure = async (
  engines: Engines,
  running: Running,
  { conversations, tokens }: Filled,
  seconds: number,
  older: boolean
): Promise<Turn> => {
  let count = 0
  const next = (): Asking => {
    // A stride that meets every conversation, and not in an order that anything could profit from.
    const { conv, reader } = conversations[(count++ * 37) % conversations.length]!
    const before = older ? `&before=${PAGE + ((count * 7919) % (MESSAGES - 250))}` : ""
    return {
      path: `/v1/conversations/${encodeURIComponent(conv)}/messages?limit=${PAGE}${before}`,
      token: tokens[reader]!
    }
  }
  const pids = Object.entries({ ...running.pids, ...engines.pids })
  const before = pids.map(([, pid]) => cpuSeconds(pid))
  const asked = await ask({ url: running.url, connections: CONNECTIONS, seconds, next })
  const cpu = pids.map(([name, pid], index) => [name, ((cpuSeconds(pid) - before[index]!) / asked.reads) * 1e6])
  return {
    ...asked,
    cpu: Object.fromEntries([...cpu, ["load generator", (asked.cpuSeconds / asked.reads) * 1e6]]) as Turn["cpu"],
    residentMb: residentBytes(running.pids.read!) / 1e6
  }
}

const KINDS = ["newest page, warm", "older page, warm", "newest page, cold"] as const
type Kind = (typeof KINDS)[number]

export const bench: Bench = async (say, { rounds, seconds }) => {
  const turns: Record<Kind, Array<Turn>> = { "newest page, warm": [], "older page, warm": [], "newest page, cold": [] }
  const engines = await startEngines()
  const redis = new Redis(engines.redisUrl)
  const mongo = new MongoClient(settings(engines, RUN).MONGO_URL)
  try {
    const running = await ours.start(engines, RUN)
    try {
      say(`Writing ${CONVERSATIONS} conversations of ${MESSAGES} messages`)
      const filled = await fill(running.url, { users: USERS, conversations: CONVERSATIONS, messages: MESSAGES })
      await caughtUp(redis, mongo)
      const turn = async (kind: Kind, length: number) => {
        const one = await measure(engines, running, filled, length, kind === "older page, warm")
        turns[kind].push(one)
        say(`${kind}: ${Math.round(one.reads / one.seconds)} reads/s, p99 ${one.p99.toFixed(1)} ms`)
      }
      await measure(engines, running, filled, 2, false)
      await measure(engines, running, filled, 2, true)
      for (let round = 0; round < rounds; round++) {
        await turn("newest page, warm", seconds)
        await turn("older page, warm", seconds)
        await redis.flushall()
        await turn("newest page, cold", seconds)
        await caughtUp(redis, mongo)
      }
    } finally {
      await running.stop()
    }
  } finally {
    redis.disconnect()
    await mongo.close()
    await engines.stop()
  }
  return report(turns)
}

const report = (turns: Readonly<Record<Kind, ReadonlyArray<Turn>>>): ReadonlyArray<Measured> => {
  const rows: Array<Measured> = []
  const row = (name: string, unit: string, value: (turn: Turn) => number) => {
    for (const kind of KINDS) {
      const runs = turns[kind].map(value)
      rows.push({ name, of: kind, unit, value: median(runs), runs })
    }
  }
  row("reads", "pages/s", ({ reads, seconds }) => reads / seconds)
  row("p50", "ms", ({ p50 }) => p50)
  row("p99", "ms", ({ p99 }) => p99)
  row("messages in a page", "", ({ messages, reads }) => messages / reads)
  for (const process of Object.keys(turns[KINDS[0]][0]!.cpu))
    row(`CPU a read: ${process}`, "µs", ({ cpu }) => cpu[process]!)
  row("memory of the read process", "MB", ({ residentMb }) => residentMb)
  for (const kind of KINDS) {
    const runs = turns[kind].map(({ refused }) => refused)
    const most = Math.max(...runs)
    rows.push({
      name: "refused",
      of: kind,
      unit: "",
      value: most,
      runs,
      ...(kind === KINDS[0] ? { target: "0", ok: most === 0 } : {})
    })
  }
  return rows
}
