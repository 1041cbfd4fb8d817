/** What a delivered message costs when there are more edges, and when there are more conversations, under the same load. */
import { type ChildProcess, fork } from "node:child_process"
import { cpus } from "node:os"
import { fileURLToPath } from "node:url"
import { type ManyEdges, startManyEdges } from "./durable/cluster.ts"
import { type Engines, startEngines } from "./durable/engines.ts"
import { ask } from "./fanout/ask.ts"
import type { Begin, Fill, Talk, Talked } from "./scale/people.ts"
import { type Bench, cpuSeconds, type Measured, median } from "./support.ts"

const EDGES = [1, 2, 4, 8]
const EDGES_TIMES = 1.5
/** Groups of this many members each, so that a message goes to every edge that there is. */
const MEMBERS = 10
const GROUPS = 20
const PEOPLE = 200
/** Little enough that eight edges leave a part of two cores unused: a full machine commits more at once, which makes a message cheaper. */
const RATE = 100
const SECONDS = 7
const WARM_UP_SECONDS = 4
const IDLE_SECONDS = 4

const CONVERSATIONS = [1_000, 100_000]
const CONVERSATIONS_TIMES = 1.25
const PAIR_PEOPLE = 500
const PAIR_RATE = 250

/** µs of CPU a delivered message, idle CPU taken off. */
interface Cost {
  readonly edges: number
  readonly others: number
  readonly engines: number
  /** Part of the whole machine that was in use, whoever used it, in percent. */
  readonly machine: number
}

type Told = Begin | Fill | Talk

const pidsOf = ({ edges, read, write }: ManyEdges, { pids }: Engines) => ({
  edges: edges.map(({ pid }) => pid),
  others: [write.pid, read.pid],
  engines: Object.values(pids)
})

/** Milliseconds that all cores together were at work and idle, since the machine was started. */
const machineTimes = () => {
  const times = cpus().map((core) => core.times)
  const idle = times.reduce((sum, core) => sum + core.idle, 0)
  return { idle, busy: times.reduce((sum, { irq, nice, sys, user }) => sum + irq + nice + sys + user, 0) }
}

/** Seconds of CPU that each kind of process uses while something is done, and how much of the machine. */
const cpuOf = async <A>(pids: ReturnType<typeof pidsOf>, work: () => Promise<A>) => {
  const sum = (some: ReadonlyArray<number>): number => some.reduce((all, pid) => all + cpuSeconds(pid), 0)
  const now = () => ({ edges: sum(pids.edges), others: sum(pids.others), engines: sum(pids.engines) })
  const before = { cpu: now(), machine: machineTimes(), at: performance.now() }
  const done = await work()
  const after = { cpu: now(), machine: machineTimes(), at: performance.now() }
  const busy = after.machine.busy - before.machine.busy
  return {
    done,
    seconds: (after.at - before.at) / 1000,
    machine: (100 * busy) / (busy + after.machine.idle - before.machine.idle),
    cpu: {
      edges: after.cpu.edges - before.cpu.edges,
      others: after.cpu.others - before.cpu.others,
      engines: after.cpu.engines - before.cpu.engines
    }
  }
}

const costOf = async (cluster: ManyEdges, engines: Engines, people: ChildProcess, talk: Talk): Promise<Cost> => {
  const pids = pidsOf(cluster, engines)
  await ask<Told, Talked>(people, { ...talk, seconds: WARM_UP_SECONDS })
  const idle = await cpuOf(pids, () => new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000)))
  const busy = await cpuOf(pids, () => ask<Told, Talked>(people, talk))
  const each = (kind: keyof typeof busy.cpu): number =>
    ((busy.cpu[kind] - (idle.cpu[kind] / idle.seconds) * busy.seconds) / busy.done.delivered) * 1e6
  return { edges: each("edges"), others: each("others"), engines: each("engines"), machine: busy.machine }
}

const all = ({ edges, engines, others }: Cost): number => edges + others + engines

const withPeople = async <A>(use: (people: ChildProcess) => Promise<A>): Promise<A> => {
  const people = fork(fileURLToPath(new URL("./scale/people.ts", import.meta.url)))
  try {
    return await use(people)
  } finally {
    people.disconnect()
  }
}

const mean = (costs: ReadonlyArray<Cost>): Cost => {
  const of = (kind: keyof Cost): number => costs.reduce((sum, cost) => sum + cost[kind], 0) / costs.length
  return { edges: of("edges"), others: of("others"), engines: of("engines"), machine: of("machine") }
}

/** The cost with each number of edges: there and back, since how fast the machine itself is changes within minutes. */
const byEdges = async (engines: Engines, round: number, say: (line: string) => void): Promise<ReadonlyArray<Cost>> => {
  const costs = EDGES.map((): Array<Cost> => [])
  for (const [turn, count] of [...EDGES, ...EDGES.toReversed()].entries()) {
    const cluster = await startManyEdges(engines, `benchscale${round}x${turn}`, count)
    try {
      const cost = await withPeople(async (people) => {
        const urls = cluster.edges.map(({ url }) => url)
        await ask<Told, object>(people, { urls, users: PEOPLE, members: MEMBERS, conversations: GROUPS })
        return await costOf(cluster, engines, people, { conversations: GROUPS, seconds: SECONDS, rate: RATE })
      })
      costs[EDGES.indexOf(count)]!.push(cost)
      say(
        `${edgesOf(count)}: ${all(cost).toFixed(0)} µs a delivered message, ${cost.machine.toFixed(0)} % of the machine`
      )
    } finally {
      await cluster.stop()
    }
  }
  return costs.map(mean)
}

/** The cost with each number of conversations, all of which have been spoken in. */
const byConversations = async (
  engines: Engines,
  round: number,
  say: (line: string) => void
): Promise<ReadonlyArray<Cost>> => {
  const costs: Array<Cost> = []
  const cluster = await startManyEdges(engines, `benchscale${round}many`, 1)
  try {
    await withPeople(async (people) => {
      const urls = cluster.edges.map(({ url }) => url)
      await ask<Told, object>(people, { urls, users: PAIR_PEOPLE, members: 2, conversations: CONVERSATIONS.at(-1)! })
      for (const count of CONVERSATIONS) {
        await ask<Told, object>(people, { fill: count })
        const cost = await costOf(cluster, engines, people, { conversations: count, seconds: SECONDS, rate: PAIR_RATE })
        costs.push(cost)
        say(`${conversationsOf(count)}: ${all(cost).toFixed(0)} µs, ${cost.machine.toFixed(0)} % of the machine`)
      }
    })
  } finally {
    await cluster.stop()
  }
  return costs
}

const edgesOf = (count: number): string => (count === 1 ? "1 edge" : `${count} edges`)
const conversationsOf = (count: number): string => `${count.toLocaleString("en")} conversations`

export const bench: Bench = async (say, { rounds }) => {
  const edges: Array<ReadonlyArray<Cost>> = []
  const conversations: Array<ReadonlyArray<Cost>> = []
  for (let round = 0; round < rounds; round++) {
    const engines = await startEngines()
    try {
      edges.push(await byEdges(engines, round, say))
      conversations.push(await byConversations(engines, round, say))
    } finally {
      await engines.stop()
    }
  }
  return [
    ...report(EDGES.map(edgesOf), edges, EDGES_TIMES),
    ...report(CONVERSATIONS.map(conversationsOf), conversations, CONVERSATIONS_TIMES)
  ]
}

/** Medians, and those of each round's own comparison. */
const report = (
  names: ReadonlyArray<string>,
  rounds: ReadonlyArray<ReadonlyArray<Cost>>,
  most: number
): ReadonlyArray<Measured> =>
  names.flatMap((of, index) => {
    const row = (name: string, unit: string, value: (cost: Cost, first: Cost) => number): Measured => {
      const runs = rounds.map((costs) => value(costs[index]!, costs[0]!))
      return { name, of, unit, value: median(runs), runs }
    }
    const times = row("times the first", "", (cost, first) => all(cost) / all(first))
    return [
      row("CPU a delivered message: all", "µs", all),
      row("CPU a delivered message: edges", "µs", ({ edges }) => edges),
      row("CPU a delivered message: writer and reader", "µs", ({ others }) => others),
      row("CPU a delivered message: engines", "µs", ({ engines }) => engines),
      row("the machine in use", "%", ({ machine }) => machine),
      index === 0 ? times : { ...times, target: `≤ ${most}`, ok: times.value <= most }
    ]
  })
