/** All three engines in one folder: what runs there is written down, so that any later call finds it. */
import { createHash } from "node:crypto"
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { setTimeout as wait } from "node:timers/promises"
import { type Binaries, binaries } from "./binaries.ts"
import { bring, type Engine, mongo, type Place, type Ports, rabbit, redis, takeDown } from "./engine.ts"
import { alive, type Identity } from "./processes.ts"

export interface StackOptions {
  /** Members of the replica set; what the folder has, or 1. */
  readonly members?: 1 | 3
  /** MongoDB's fail points. */
  readonly testCommands?: boolean
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

/** How long one call waits for another on the same folder; the first may have to fetch servers. */
const LOCK_MS = 20 * 60_000

/** One at a time on that folder, over all processes: the system takes the name back when its holder ends. */
const exclusive = async <A>(folder: string, run: () => Promise<A>): Promise<A> => {
  const name = `\0darda-services-${createHash("sha256").update(folder).digest("hex")}`
  const server = createServer()
  for (const deadline = performance.now() + LOCK_MS; ;) {
    const taken = await new Promise<boolean>((resolve, reject) => {
      server.once("error", (cause: NodeJS.ErrnoException) =>
        cause.code === "EADDRINUSE" ? resolve(true) : reject(cause)
      )
      server.listen({ path: name }, () => resolve(false))
    })
    server.removeAllListeners("error")
    if (!taken) break
    if (performance.now() > deadline)
      throw new Error(`Another call has been busy with ${folder} for ${LOCK_MS / 60_000} minutes`)
    await wait(50)
  }
  try {
    return await run()
  } finally {
    server.close()
  }
}

type Engines = readonly [mongo: Engine, rabbit: Engine, redis: Engine]

const engines = (files: Binaries, folder: string, { members, testCommands }: State): Engines => [
  mongo(files, folder, { members, testCommands, cacheGb: 0.5 }),
  rabbit(files, folder),
  redis(files, folder)
]

const runningOf = (all: Engines, { ports, processes }: State): Running => ({
  mongoUrl: all[0].url(ports),
  amqpUrl: all[1].url(ports),
  redisUrl: all[2].url(ports),
  pids: Object.fromEntries(Object.entries(processes).map(([name, { pid }]) => [name, pid]))
})

/** Starts what does not run in that folder, waits until all three take work, and says where they are. */
export const up = async (folder: string, options: StackOptions = {}): Promise<Running> => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return await exclusive(folder, async () => {
    const before = read(folder)
    if (before !== undefined && options.members !== undefined && options.members !== before.members) {
      throw new Error(
        `The replica set in ${folder} has ${before.members} member${before.members === 1 ? "" : "s"}: ` +
          `run \`npm run services -- down\` and remove that folder to have ${options.members}`
      )
    }
    const state: State = {
      members: before?.members ?? options.members ?? 1,
      testCommands: options.testCommands ?? before?.testCommands ?? false,
      ports: before?.ports ?? {},
      processes: before?.processes ?? {}
    }
    const all = engines(await binaries(), folder, state)
    const place: Place = { ...state, save: () => write(folder, state), own: options.own ?? false }
    await Promise.all(all.map((engine) => bring(engine, place)))
    return runningOf(all, state)
  })
}

/** What is in that folder: undefined when none of its processes runs. */
export const status = async (
  folder: string
): Promise<(Running & { readonly missing: ReadonlyArray<string> }) | undefined> => {
  const state = read(folder)
  if (state === undefined || !Object.values(state.processes).some(alive)) return undefined
  const all = engines(NO_FILES, folder, state)
  const missing = await Promise.all(
    all.flatMap(({ parts }) =>
      parts.map(async (part) => {
        const known = state.processes[part.name]
        return known !== undefined && alive(known) && (await part.answers(state.ports)) ? [] : [part.name]
      })
    )
  )
  const processes = Object.fromEntries(Object.entries(state.processes).filter(([, known]) => alive(known)))
  return { ...runningOf(all, { ...state, processes }), missing: missing.flat() }
}

/** Nothing is started where these are given. */
const NO_FILES: Binaries = { mongod: "", redis: "", rabbit: "" }

/** Ends what `up` started in that folder: in order, so that data are kept, or at once. */
export const down = async (folder: string, { atOnce = false } = {}): Promise<void> => {
  const state = read(folder)
  if (state === undefined) return
  await exclusive(folder, async () => {
    const now = read(folder) as State
    const place: Place = { ...now, save: () => write(folder, now), own: false }
    await Promise.all(engines(NO_FILES, folder, now).map((engine) => takeDown(engine, place, atOnce)))
  })
}
