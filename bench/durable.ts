/**
 * End to end on MongoDB, RabbitMQ and Redis, everything on this machine: ours, the limit (the same hops and batches by hand on bare drivers), and the
 * engines driven as Darda-chat drives them, in turns, under the same load from the same generator.
 */
import { type Engines, startEngines } from "./durable/engines.ts"
import { chat, limit, ours, type Program, type Running } from "./durable/programs.ts"
import { type Bench, cpuSeconds, type Load, type Measured, median, runLoad } from "./support.ts"

/** Messages a second of the measurement of latency. */
const RATE = 1_000
/** Enough for the compiler; at full speed where that leaves nothing behind. */
const WARM_UP = ["--max", "--seconds", "3"]
const GENTLE_WARM_UP = ["--rate", "200", "--seconds", "2"]
/** Seconds that what is still under way at the end is waited for. */
const SETTLE = "4"
const LOAD = ["--users", "20", "--conversations", "100", "--body", "64", "--settle", SETTLE]

/** One load, and the CPU that each process used for a message, in µs. */
interface Turn {
  readonly load: Load
  readonly cpu: Readonly<Record<string, number>>
}

const measure = async (engines: Engines, running: Running, flags: ReadonlyArray<string>): Promise<Turn> => {
  const pids = Object.entries({ ...running.pids, ...engines.pids })
  const before = pids.map(([, pid]) => cpuSeconds(pid))
  const load = await runLoad(running.url, [...LOAD, ...flags])
  const seconds = pids.map(([name, pid], index) => [name, cpuSeconds(pid) - before[index]!] as const)
  const each = [...seconds, ["load generator", load.cpuSeconds] as const]
  return { load, cpu: Object.fromEntries(each.map(([name, used]) => [name, (used / load.persisted) * 1e6])) }
}

/** Starts a program, warms it up, and stops it when `use` has used it. */
const once = async (
  engines: Engines,
  program: Program,
  run: string,
  use: (running: Running) => Promise<void>
): Promise<void> => {
  const running = await program.start(engines, run)
  try {
    await runLoad(running.url, [...LOAD, ...(program.fallsBehind === true ? GENTLE_WARM_UP : WARM_UP)])
    await use(running)
  } finally {
    await running.stop()
  }
}

interface Turns {
  readonly program: Program
  readonly full: Array<Turn>
  readonly steady: Array<Turn>
}

export const bench: Bench = async (say, { rounds, seconds }) => {
  const all = [ours, limit, chat].map((program): Turns => ({ program, full: [], steady: [] }))
  const engines = await startEngines()
  try {
    for (let round = 1; round <= rounds; round++) {
      // Whoever comes first in one round comes last in the next.
      const order = all.map((_, index) => all[(index + round - 1) % all.length]!)
      for (const { full, program, steady } of order) {
        const run = `bench${round}${program.name.replaceAll(/\W/g, "")}`
        const time = ["--seconds", String(seconds)]
        await once(engines, program, run, async (running) => {
          steady.push(await measure(engines, running, ["--rate", String(RATE), ...time]))
          if (program.fallsBehind !== true) full.push(await measure(engines, running, ["--max", ...time]))
        })
        if (program.fallsBehind === true) {
          await once(engines, program, `${run}full`, async (running) => {
            full.push(await measure(engines, running, ["--max", ...time]))
          })
        }
        const { deliveredPerSecond, persistedPerSecond } = full.at(-1)!.load
        const { p50, p99 } = steady.at(-1)!.load.sendToPersistedMs
        say(
          `Round ${round} of ${rounds}, ${program.name}: ${persistedPerSecond} persisted/s, ${deliveredPerSecond} delivered/s; ` +
            `at ${RATE}/s p50 ${p50} ms, p99 ${p99} ms`
        )
      }
    }
  } finally {
    await engines.stop()
  }
  return report(all)
}

const report = (all: ReadonlyArray<Turns>): ReadonlyArray<Measured> => {
  const [own, bound, plain] = all as [Turns, Turns, Turns]
  const rows: Array<Measured> = []
  /** A row with a value of each program; `judge` says what ours has to be. */
  const row = (
    name: string,
    unit: string,
    value: (turns: Turns) => ReadonlyArray<number>,
    judge?: { readonly target: string; readonly ok: (value: number) => boolean }
  ) => {
    for (const turns of all) {
      const runs = value(turns)
      const middle = median(runs)
      const judged = turns === own && judge !== undefined ? { target: judge.target, ok: judge.ok(middle) } : {}
      rows.push({ name, of: turns.program.name, value: middle, unit, runs, ...judged })
    }
  }
  const full = (value: (load: Load) => number) => (turns: Turns) => turns.full.map(({ load }) => value(load))
  const steady = (value: (load: Load) => number) => (turns: Turns) => turns.steady.map(({ load }) => value(load))
  const atLeast = (least: number) => ({
    target: `≥ ${least.toLocaleString("en")}`,
    ok: (value: number) => value >= least
  })
  const atMost = (most: number) => ({ target: `≤ ${most}`, ok: (value: number) => value <= most })

  const persisted = full((load) => load.persistedPerSecond)
  const delivered = full((load) => load.deliveredPerSecond)
  row("persisted, full speed", "messages/s", persisted, atLeast(10_000))
  row("delivered, full speed", "messages/s", delivered, atLeast(10_000))
  row(
    "send to persisted, full speed, p50",
    "ms",
    full((load) => load.sendToPersistedMs.p50)
  )
  row(
    "send to persisted, full speed, p99",
    "ms",
    full((load) => load.sendToPersistedMs.p99)
  )
  row(
    `send to persisted at ${RATE}/s, p50`,
    "ms",
    steady((load) => load.sendToPersistedMs.p50),
    atMost(10)
  )
  row(
    `send to persisted at ${RATE}/s, p99`,
    "ms",
    steady((load) => load.sendToPersistedMs.p99),
    atMost(50)
  )
  row(
    `send to delivered at ${RATE}/s, p99`,
    "ms",
    steady((load) => load.sendToDeliveredMs.p99)
  )

  /** Ours by another, round by round: the machine is the same within a round. */
  const ratio = (name: string, other: Turns, value: (turns: Turns) => ReadonlyArray<number>, least: number) => {
    const theirs = value(other)
    const runs = value(own).map((one, index) => one / theirs[index]!)
    const middle = median(runs)
    rows.push({ name, of: own.program.name, value: middle, unit: "", runs, target: `≥ ${least}`, ok: middle >= least })
  }
  ratio(`persisted: times ${bound.program.name}`, bound, persisted, 0.6)
  ratio(`delivered: times ${bound.program.name}`, bound, delivered, 0.6)
  ratio(`persisted: times ${plain.program.name}`, plain, persisted, 8)
  ratio(`delivered: times ${plain.program.name}`, plain, delivered, 8)

  for (const [when, turnsOf] of [
    ["full speed", (turns: Turns) => turns.full],
    [`${RATE}/s`, (turns: Turns) => turns.steady]
  ] as const) {
    for (const process of Object.keys(turnsOf(own)[0]!.cpu)) {
      row(`CPU a message at ${when}: ${process}`, "µs", (turns) => turnsOf(turns).map(({ cpu }) => cpu[process]!))
    }
    row(`CPU a message at ${when}: all`, "µs", (turns) =>
      turnsOf(turns).map(({ cpu }) => Object.values(cpu).reduce((sum, used) => sum + used, 0))
    )
  }
  const wrong = ({ load }: Turn) =>
    load.unanswered + load.lostConnections + Object.values(load.errors).reduce((sum, count) => sum + count, 0)
  row("errors and unanswered", "", (turns) => [...turns.full, ...turns.steady].map(wrong), {
    target: "0",
    ok: (value) => value === 0
  })
  return rows
}
