/** `darda replay` from the log's first event, beside a cursor scan by hand that makes the same values in Redis, in turns on the same engines. */
import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { fileURLToPath } from "node:url"
import { partitionPrefix } from "../src/read-side/ReadModelsRedisRows.ts"
import { type Engines, startEngines } from "./durable/engines.ts"
import { ours, settings } from "./durable/programs.ts"
import { caughtUp, logOf, pointersOf } from "./durable/readModels.ts"
import {
  bin,
  type Bench,
  childrenCpuSeconds,
  cpuSeconds,
  type Measured,
  median,
  runLoad,
  runProcess
} from "./support.ts"

const RUN = "benchreplay"
/** Many conversations, so that a batch finds few of its messages in the same one. */
const LOAD = ["--max", "--users", "200", "--conversations", "2000"]
const scanner = fileURLToPath(new URL("replay/scan.ts", import.meta.url))

interface Turn {
  readonly events: number
  readonly seconds: number
  /** µs an event, by process. */
  readonly cpu: Readonly<Record<string, number>>
}

/** Runs a program that says in the end how many events it replayed in which time. */
const run = async (
  engines: Engines,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string | undefined>>
): Promise<Turn> => {
  const pids = Object.entries(engines.pids)
  const before = pids.map(([, pid]) => cpuSeconds(pid))
  const own = childrenCpuSeconds()
  const output = await runProcess(args, env)
  const found = /Replayed ([\d,]+) events in ([\d.]+) s/.exec(output)
  if (found === null) throw new Error(`${args.join(" ")} did not say what it replayed:\n${output}`)
  const events = Number(found[1]!.replaceAll(",", ""))
  const used = pids.map(([name, pid], index) => [name, cpuSeconds(pid) - before[index]!] as const)
  const each = [["replay", childrenCpuSeconds() - own] as const, ...used]
  return {
    events,
    seconds: Number(found[2]),
    cpu: Object.fromEntries(each.map(([name, seconds]) => [name, (seconds / events) * 1e6]))
  }
}

/** Every value of a set, by its name within it. The prefixes are those of its partitions. */
const valuesOf = async (redis: Redis, prefixes: ReadonlyArray<string>): Promise<ReadonlyMap<string, string>> => {
  const values = new Map<string, string>()
  for (const [partition, prefix] of prefixes.entries()) {
    let cursor = "0"
    do {
      const [next, keys] = await redis.scan(
        cursor,
        "MATCH",
        `${prefix.replaceAll(/[[\]?*\\]/g, "\\$&")}*`,
        "COUNT",
        1_000
      )
      cursor = next
      const found = await Promise.all(keys.map((key) => valueOf(redis, key)))
      keys.forEach((key, index) => values.set(`${partition} ${key.slice(prefix.length)}`, found[index]!))
    } while (cursor !== "0")
  }
  return values
}

const valueOf = async (redis: Redis, key: string): Promise<string> => {
  switch (await redis.type(key)) {
    case "hash":
      return JSON.stringify(Object.entries(await redis.hgetall(key)).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    case "list":
      // What is before the newest 200 waits to be trimmed, and does not count.
      return JSON.stringify(await redis.lrange(key, -200, -1))
    case "zset":
      return JSON.stringify(await redis.zrange(key, "0", "-1", "WITHSCORES"))
    default:
      return (await redis.get(key)) ?? ""
  }
}

/** The two sets are to be equal, or other writes were measured. */
const compared = (replayed: ReadonlyMap<string, string>, scanned: ReadonlyMap<string, string>) => {
  const names = new Set([...replayed.keys(), ...scanned.keys()])
  return { values: names.size, differing: [...names].filter((name) => replayed.get(name) !== scanned.get(name)) }
}

export const bench: Bench = async (say, { rounds, seconds }) => {
  const engines = await startEngines()
  const env = settings(engines, RUN)
  const mongo = new MongoClient(env.MONGO_URL)
  const redis = new Redis(engines.redisUrl)
  try {
    const running = await ours.start(engines, RUN)
    try {
      say("Writing the log")
      await runLoad(running.url, [...LOAD, "--seconds", String(2 * seconds)])
      await caughtUp(redis, mongo)
    } finally {
      await running.stop()
    }
    const own: Array<Turn> = []
    const byHand: Array<Turn> = []
    for (let round = 1; round <= rounds; round++) {
      own.push(await run(engines, [bin, "replay"], env))
      byHand.push(await run(engines, [scanner, env.MONGO_URL, engines.redisUrl, `scan${round}`], env))
      say(
        `Round ${round} of ${rounds}, ${own.at(-1)!.events} events: darda replay ${own.at(-1)!.seconds} s, by hand ${byHand.at(-1)!.seconds} s`
      )
    }
    const log = await logOf(mongo)
    const generations = (await pointersOf(redis, log)).map(({ generation }) => generation)
    const replayed = await valuesOf(
      redis,
      generations.map((generation, p) => `${partitionPrefix(log.scope, p)}${generation}:`)
    )
    const scanned = await valuesOf(
      redis,
      generations.map((_, p) => `${partitionPrefix("scan1", p)}scan:`)
    )
    return report(own, byHand, compared(replayed, scanned))
  } finally {
    redis.disconnect()
    await mongo.close()
    await engines.stop()
  }
}

const report = (
  own: ReadonlyArray<Turn>,
  byHand: ReadonlyArray<Turn>,
  { differing, values }: ReturnType<typeof compared>
): ReadonlyArray<Measured> => {
  const rate = ({ events, seconds }: Turn) => events / seconds
  const rows: Array<Measured> = []
  const columns = [
    ["darda replay", own],
    ["by hand", byHand]
  ] as const
  const row = (name: string, unit: string, value: (turn: Turn) => number) => {
    for (const [of, turns] of columns)
      rows.push({ name, of, unit, value: median(turns.map(value)), runs: turns.map(value) })
  }
  row("events", "", ({ events }) => events)
  row("speed", "events/s", rate)
  const ratios = own.map((turn, index) => rate(turn) / rate(byHand[index]!))
  const ratio = median(ratios)
  rows.push({
    name: "times by hand",
    of: "darda replay",
    unit: "",
    value: ratio,
    runs: ratios,
    target: "≥ 0.6",
    ok: ratio >= 0.6
  })
  for (const process of Object.keys(own[0]!.cpu)) row(`CPU an event: ${process}`, "µs", ({ cpu }) => cpu[process]!)
  if (differing.length > 0) console.log(`Values that differ, the first of them: ${differing.slice(0, 5).join(", ")}`)
  rows.push({ name: "values compared", of: "by hand", unit: "", value: values })
  const ok = values > 0 && differing.length === 0
  rows.push({ name: "values that differ", of: "by hand", unit: "", value: differing.length, target: "0", ok })
  return rows
}
