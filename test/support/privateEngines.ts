/** Engines of one test's own, for those who kill, stop, flush or fill them. They end with the process that started them at the latest. */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { binaries } from "../../scripts/services/binaries.ts"
import {
  bring,
  bringPart,
  type Engine,
  mongo,
  type Part,
  outputOf,
  type Place,
  rabbit,
  redis,
  takeDown
} from "../../scripts/services/engine.ts"
import { testFolder } from "../../scripts/services/folders.ts"
import { alive, eventually, signal } from "../../scripts/services/processes.ts"
import { rabbitCtl, rabbitPorts } from "../../scripts/services/rabbitmq.ts"

/** One process of an engine. */
export interface EngineProcess {
  readonly port: number
  /** Of the process that runs, or ran last. */
  readonly pid: number
  readonly running: () => boolean
  /** SIGKILL; comes back when the process is gone. */
  readonly kill9: () => Promise<void>
  /** SIGSTOP: it keeps its connections and answers nothing. */
  readonly stop: () => void
  /** SIGCONT, after a `stop`. */
  readonly cont: () => void
  /** Kills it where it runs, and starts it on the same port and data; comes back when it answers. */
  readonly restart: () => Promise<void>
  /** The last 4,000 characters that it wrote since its start. */
  readonly output: () => string
}

export interface PrivateEngine extends EngineProcess {
  readonly url: string
  /** Kills its processes, stopped ones as well, and removes the data. */
  readonly dispose: () => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

export interface PrivateMongo extends PrivateEngine {
  /** Every member of the set. What the engine itself offers as a process is the first one's. */
  readonly members: ReadonlyArray<EngineProcess>
  /** The member that is primary now; waits at most 30 s for one, asking only those that run and are not stopped. */
  readonly primary: () => Promise<EngineProcess>
}

export interface PrivateRabbit extends PrivateEngine {
  /** Runs rabbitmqctl with these arguments, a second or two each, and gives what it prints. */
  readonly ctl: (...args: ReadonlyArray<string>) => Promise<string>
}

export interface PrivateOptions {
  /** Where the data lie: an empty folder that exists and is kept, on a small file system for example. One of the checkout by default. */
  readonly folder?: string
  /** More arguments of mongod or redis-server, `["--maxmemory", "1mb"]` for example; more lines of rabbitmq.conf. What is added later counts from the next `restart`. */
  readonly args?: ReadonlyArray<string>
}

const start = async (options: PrivateOptions, make: (folder: string) => Engine) => {
  const folder = options.folder ?? join(testFolder, `${process.pid}-${randomBytes(4).toString("hex")}`)
  mkdirSync(folder, { recursive: true })
  const place: Place = { ports: {}, processes: {}, save: () => {}, own: true, files: binaries }
  const engine = make(folder)
  const dispose = async (): Promise<void> => {
    await takeDown(engine, place, true)
    if (options.folder === undefined) rmSync(folder, { recursive: true, force: true })
  }
  try {
    await bring(engine, place)
  } catch (cause) {
    await dispose()
    throw cause
  }
  return { folder, place, engine, dispose, url: engine.url(place.ports) }
}

const processOf = (part: Part, place: Place): EngineProcess => {
  const port = place.ports[part.ports[0] as string] as number
  const known = () => place.processes[part.name] as Place["processes"][string]
  const kill9 = async (): Promise<void> => {
    const killed = known()
    signal(killed, "SIGKILL")
    if (!(await eventually(30_000, () => !alive(killed)))) throw new Error(`${part.name} survives SIGKILL`)
  }
  return {
    port,
    get pid() {
      return known().pid
    },
    running: () => alive(known()),
    kill9,
    stop: () => void signal(known(), "SIGSTOP"),
    cont: () => void signal(known(), "SIGCONT"),
    restart: async () => {
      await kill9()
      await bringPart(part, place)
    },
    output: () => outputOf(part)
  }
}

/** Adds to `own` what every engine has: the last part is the server itself, what comes before serves it. */
const engineOf = <A extends object>(
  { dispose, url }: Pick<PrivateEngine, "dispose" | "url">,
  server: EngineProcess,
  own: A
): PrivateEngine & A => ({
  ...server,
  get pid() {
    return server.pid
  },
  url,
  dispose,
  [Symbol.asyncDispose]: dispose,
  ...own
})

/** A replica set with fail points, of one member (a second to start) or three (three seconds). A member that is gone is missed after 2 s. */
export const privateMongo = async ({
  members: size = 1,
  args = [],
  ...options
}: PrivateOptions & { readonly members?: 1 | 3 } = {}): Promise<PrivateMongo> => {
  const started = await start(options, (folder) =>
    mongo(folder, { members: size, testCommands: true, cacheGb: 0.25, args })
  )
  const members = started.engine.parts.map((part) => processOf(part, started.place))
  const primary = async (): Promise<EngineProcess> => {
    let found: EngineProcess | undefined
    await eventually(30_000, async () => {
      const asked = await Promise.all(members.map(async (member) => ((await isPrimary(member.port)) ? [member] : [])))
      found = asked.flat()[0]
      return found !== undefined
    })
    if (found === undefined) throw new Error("No member of the replica set became primary within 30 s")
    return found
  }
  return engineOf(started, members[0] as EngineProcess, { members, primary })
}

const isPrimary = async (port: number): Promise<boolean> => {
  const client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 1000,
    connectTimeoutMS: 1000,
    socketTimeoutMS: 1000
  })
  try {
    return (await client.db("admin").command({ hello: 1 }))["isWritablePrimary"] === true
  } catch {
    return false
  } finally {
    await client.close()
  }
}

/** An empty Redis, some milliseconds to start. */
export const privateRedis = async ({ args, ...options }: PrivateOptions = {}): Promise<PrivateEngine> => {
  const { engine, place, ...started } = await start(options, (folder) => redis(folder, args))
  return engineOf(started, processOf(engine.parts.at(-1) as Part, place), {})
}

/** A RabbitMQ, four seconds of processor time to start: share it between the tests of a file. */
export const privateRabbit = async ({ args, ...options }: PrivateOptions = {}): Promise<PrivateRabbit> => {
  const { engine, place, folder, ...started } = await start(options, (folder) => rabbit(folder, args))
  const { rabbit: scripts } = await binaries()
  return engineOf(started, processOf(engine.parts.at(-1) as Part, place), {
    ctl: (...args: ReadonlyArray<string>) =>
      rabbitCtl(scripts, join(folder, "rabbitmq"), rabbitPorts(place.ports), args)
  })
}
