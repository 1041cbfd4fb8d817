/**
 * One message to many: a group of 2,000 members, all online at one server, on ours, a bare `ws` broadcast, socket.io and the limit, in turns. The members are
 * in processes of their own, the same program for all.
 */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { ask } from "./fanout/ask.ts"
import type { Members, Ran, Run } from "./fanout/receivers.ts"
import {
  type Bench,
  cpuSeconds,
  type Measured,
  median,
  type Server,
  startProcess,
  startServer,
  UNLIMITED
} from "./support.ts"

const MEMBERS = 2_000
const BODY_BYTES = 120
/** Messages under way when a group is busy: as many as one connection may have without an answer, unless a server is told otherwise (`LIMIT_IN_FLIGHT`). */
const UNDER_WAY = 256
const WARM_UP_SECONDS = 2
const ALONE_SECONDS = 1.5

interface Program {
  readonly name: string
  readonly greet: Members["greet"]
  readonly makesGroup: boolean
  readonly start: () => Promise<Server>
}

const file = (name: string) => fileURLToPath(new URL(`./fanout/${name}.ts`, import.meta.url))

const written = (name: string, program: string, greet: Members["greet"] = "darda"): Program => ({
  name,
  greet,
  makesGroup: false,
  start: () => startProcess([file(program)], { PATH: process.env["PATH"], NODE_ENV: "production" })
})

const ours: Program = { name: "ours", greet: "darda", makesGroup: true, start: () => startServer(UNLIMITED) }
const bare = written("bare ws", "bare")
const socketIo = written("socket.io", "socketIo", "socket.io")
const limit = written("the limit", "limit")
const PROGRAMS = [ours, bare, socketIo, limit]

/** One program with its members connected. */
interface Online {
  readonly program: Program
  readonly server: Server
  readonly members: ChildProcess
  readonly busy: Array<Turn>
  readonly alone: Array<Turn>
}

interface Turn {
  readonly perSecond: number
  /** µs of CPU a delivery: of the server, and of the members. */
  readonly cpu: number
  readonly memberCpu: number
}

const measure = async ({ members, server }: Online, run: Run): Promise<Turn> => {
  const before = cpuSeconds(server.pid)
  const ran = await ask<Run, Ran>(members, run)
  return {
    perSecond: ran.delivered / ran.seconds,
    cpu: ((cpuSeconds(server.pid) - before) / ran.delivered) * 1e6,
    memberCpu: (ran.cpuSeconds / ran.delivered) * 1e6
  }
}

export const bench: Bench = async (say, { rounds, seconds }) => {
  const online: Array<Online> = []
  try {
    for (const program of PROGRAMS) {
      const server = await program.start()
      const members = fork(file("receivers"), { stdio: ["ignore", "inherit", "inherit", "ipc"] })
      const one: Online = { program, server, members, busy: [], alone: [] }
      online.push(one)
      const { greet, makesGroup } = program
      await ask(members, { url: server.url, greet, makesGroup, members: MEMBERS, bodyBytes: BODY_BYTES })
      await measure(one, { seconds: WARM_UP_SECONDS, underWay: UNDER_WAY })
      say(`${program.name}: ${MEMBERS} members are online`)
    }
    for (let round = 0; round < rounds; round++) {
      // Who comes first in one round comes later in the next.
      for (let turn = 0; turn < online.length; turn++) {
        const one = online[(round + turn) % online.length]!
        const busy = await measure(one, { seconds, underWay: UNDER_WAY })
        one.busy.push(busy)
        one.alone.push(await measure(one, { seconds: ALONE_SECONDS, underWay: 1 }))
        say(
          `Round ${round + 1} of ${rounds}, ${one.program.name}: ${Math.round(busy.perSecond).toLocaleString("en")} deliveries/s, ` +
            `${busy.cpu.toFixed(2)} µs of CPU each`
        )
      }
    }
  } finally {
    for (const { members, server } of online) {
      members.disconnect()
      await server.stop()
    }
  }
  return report(online)
}

const report = (all: ReadonlyArray<Online>): ReadonlyArray<Measured> => {
  const rows: Array<Measured> = []
  const row = (name: string, unit: string, value: (one: Online) => ReadonlyArray<number>) => {
    for (const one of all) {
      const runs = value(one)
      rows.push({ name, of: one.program.name, unit, value: median(runs), runs })
    }
  }
  row("deliveries", "a second", ({ busy }) => busy.map(({ perSecond }) => perSecond))
  row("CPU a delivery", "µs", ({ busy }) => busy.map(({ cpu }) => cpu))
  row("CPU a delivery of the members", "µs", ({ busy }) => busy.map(({ memberCpu }) => memberCpu))
  row("deliveries, one message at a time", "a second", ({ alone }) => alone.map(({ perSecond }) => perSecond))
  row("CPU a delivery, one message at a time", "µs", ({ alone }) => alone.map(({ cpu }) => cpu))

  /** Ours by another, round by round. */
  const ratio = (name: string, other: Program, least: number | undefined, value: (one: Online) => Array<number>) => {
    const own = all.find(({ program }) => program === ours)!
    const theirs = value(all.find(({ program }) => program === other)!)
    const runs = value(own).map((one, index) => one / theirs[index]!)
    const middle = median(runs)
    const judged = least === undefined ? {} : { target: `≥ ${least}`, ok: middle >= least }
    rows.push({ name: `${name}: times ${other.name}`, of: ours.name, unit: "", value: middle, runs, ...judged })
  }
  const speed = ({ busy }: Online) => busy.map(({ perSecond }) => perSecond)
  ratio("deliveries", bare, 3, speed)
  ratio("deliveries", limit, 0.6, speed)
  ratio("deliveries", socketIo, 5, speed)
  const alone = (one: Online) => one.alone.map(({ perSecond }) => perSecond)
  ratio("one message at a time", bare, undefined, alone)
  ratio("one message at a time", limit, undefined, alone)
  return rows
}
