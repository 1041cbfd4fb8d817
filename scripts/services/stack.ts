/** All three engines in one folder: what runs there is written down, so that any later call finds it. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { binaries } from "./binaries.ts"
import { bring, type Engine, mongo, type Place, type Ports, rabbit, redis, takeDown } from "./engine.ts"
import { exclusive } from "./lock.ts"
import { alive, type Identity } from "./processes.ts"

export interface StackOptions {
  /** Members of the replica set; what the folder has, or 1. */
  readonly members?: 1 | 3 | undefined
  /** Whether MongoDB has fail points: what the folder has, or no. Fixed while it runs. */
  readonly testCommands?: boolean | undefined
  /** The engines end with this process, however it ends. */
  readonly own?: boolean
}

export interface Running {
  readonly mongoUrl: string
  readonly amqpUrl: string
  readonly redisUrl: string
  readonly pids: Record<string, number>
}

interface State {
  readonly members: 1 | 3
  readonly testCommands: boolean
  readonly ports: Ports
  readonly processes: Record<string, Identity>
}

const CACHE_GB = 0.5

const file = (folder: string) => join(folder, "state.json")

const read = (folder: string): State | undefined => {
  try {
    return JSON.parse(readFileSync(file(folder), "utf8")) as State
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw new Error(`${file(folder)} cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** Written beside and moved, so that a crash leaves the one or the other. */
const write = (folder: string, state: State): void => {
  writeFileSync(`${file(folder)}.new`, JSON.stringify(state, null, 2))
  renameSync(`${file(folder)}.new`, file(folder))
}

type Engines = readonly [mongo: Engine, rabbit: Engine, redis: Engine]

const enginesOf = (folder: string, { members, testCommands }: State): Engines => [
  mongo(folder, { members, testCommands, cacheGb: CACHE_GB }),
  rabbit(folder),
  redis(folder)
]

const placeOf = (folder: string, state: State, own: boolean): Place => {
  let files: ReturnType<typeof binaries> | undefined
  return { ...state, own, save: () => write(folder, state), files: () => (files ??= binaries()) }
}

const runningOf = (engines: Engines, { ports, processes }: State): Running => ({
  mongoUrl: engines[0].url(ports),
  amqpUrl: engines[1].url(ports),
  redisUrl: engines[2].url(ports),
  pids: Object.fromEntries(
    Object.entries(processes).flatMap(([name, known]) => (alive(known) ? [[name, known.pid]] : []))
  )
})

/** What was written down there, with what is wanted now; fails where that needs a stop or an empty folder first. */
const stateFor = (folder: string, members?: 1 | 3, testCommands?: boolean): State => {
  const before = read(folder)
  if (before === undefined)
    return { members: members ?? 1, testCommands: testCommands ?? false, ports: {}, processes: {} }
  if (members !== undefined && members !== before.members) {
    throw new Error(
      `The replica set in ${folder} was made with --members ${before.members}: ` +
        `to have ${members}, run \`npm run services -- down\` and remove that folder`
    )
  }
  if (testCommands === undefined || testCommands === before.testCommands) return before
  if (Object.entries(before.processes).some(([name, known]) => name.startsWith("mongod") && alive(known))) {
    const how = testCommands ? "without" : "with"
    throw new Error(`MongoDB runs ${how} test commands: run \`npm run services -- down\` first`)
  }
  return { ...before, testCommands }
}

/** Starts what does not run in that folder, waits until all three take work, and says where they are. */
export const up = async (
  folder: string,
  { members, testCommands, own = false }: StackOptions = {}
): Promise<Running> => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return await exclusive(folder, async () => {
    const state = stateFor(folder, members, testCommands)
    const engines = enginesOf(folder, state)
    const place = placeOf(folder, state, own)
    // All are waited for, also after one has failed: none is started behind the caller's back.
    const results = await Promise.allSettled(engines.map((engine) => bring(engine, place)))
    const failed = results.find((result) => result.status === "rejected")
    if (failed !== undefined) throw failed.reason
    return runningOf(engines, state)
  })
}

export interface Status extends Running {
  /** The processes that do not run, or do not answer. */
  readonly missing: ReadonlyArray<string>
  readonly testCommands: boolean
}

/** What is in that folder: undefined when none of its processes runs. */
export const status = async (folder: string): Promise<Status | undefined> => {
  const state = read(folder)
  if (state === undefined || !Object.values(state.processes).some(alive)) return undefined
  const engines = enginesOf(folder, state)
  const parts = engines.flatMap((engine) => engine.parts)
  const answers = await Promise.all(
    parts.map(async ({ name, answers: ask }) => {
      const known = state.processes[name]
      return known !== undefined && alive(known) && (await ask(state.ports))
    })
  )
  return {
    ...runningOf(engines, state),
    testCommands: state.testCommands,
    missing: parts.flatMap(({ name }, index) => (answers[index] === true ? [] : [name]))
  }
}

/** Ends what `up` started in that folder, and nothing else: in order, so that data are kept, or at once. */
export const down = async (folder: string, { atOnce = false } = {}): Promise<void> => {
  if (read(folder) === undefined) return
  await exclusive(folder, async () => {
    const state = read(folder)
    if (state === undefined) return
    const place = placeOf(folder, state, false)
    await Promise.all(enginesOf(folder, state).map((engine) => takeDown(engine, place, atOnce)))
  })
}
