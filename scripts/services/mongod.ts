/** A MongoDB replica set of one or three members on this machine. */
import { MongoClient, MongoServerError } from "mongodb"
import { eventually, type Program } from "./processes.ts"

export interface MongodOptions {
  /** Fail points and the like, for tests. */
  readonly testCommands: boolean
  /** Of the storage engine's cache, in GB; 0.25 is the least. */
  readonly cacheGb: number
  /** More arguments of mongod. */
  readonly args?: ReadonlyArray<string>
}

export const mongodProgram = (file: string, folder: string, port: number, options: MongodOptions): Program => ({
  command: file,
  args: [
    ...["--dbpath", folder, "--port", `${port}`, "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"],
    ...["--replSet", "rs0", "--oplogSize", "1024", "--wiredTigerCacheSizeGB", `${options.cacheGb}`],
    // What MongoDB's own support reads costs processor time and disk.
    ...["--setParameter", "diagnosticDataCollectionEnabled=false"],
    // A stop does not wait for members that stop as well.
    ...["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"],
    ...(options.testCommands ? ["--setParameter", "enableTestCommands=1"] : []),
    ...(options.args ?? [])
  ],
  env: process.env
})

const hosts = (ports: ReadonlyArray<number>) => ports.map((port) => `127.0.0.1:${port}`)

export const mongoUrl = (ports: ReadonlyArray<number>): string =>
  `mongodb://${hosts(ports).join(",")}/darda?replicaSet=rs0`

type Config = {
  version: number
  members: ReadonlyArray<{ readonly _id: number; readonly host: string }>
}

/** MongoDB's code for a member that belongs to no set yet. */
const NOT_YET_INITIALIZED = 94

/** Asks the member at that port, without waiting for one that is away. */
const ask = async <A>(port: number, question: (client: MongoClient) => Promise<A>): Promise<A> => {
  const client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 1000,
    connectTimeoutMS: 1000,
    socketTimeoutMS: 10_000
  })
  try {
    return await question(client)
  } finally {
    await client.close()
  }
}

const config = async (client: MongoClient): Promise<Config | undefined> => {
  try {
    return (await client.db("admin").command({ replSetGetConfig: 1 }))["config"] as Config
  } catch (cause) {
    if (cause instanceof MongoServerError && cause.code === NOT_YET_INITIALIZED) return undefined
    throw cause
  }
}

/** Makes the set, or tells it the ports that its members have now. */
const configure = async (client: MongoClient, ports: ReadonlyArray<number>): Promise<void> => {
  const admin = client.db("admin")
  const before = await config(client)
  const members = hosts(ports).map((host, _id) => ({ _id, host }))
  if (before === undefined) {
    // A member that is gone is missed after two seconds instead of ten.
    const settings = { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500 }
    await admin.command({ replSetInitiate: { _id: "rs0", members, settings } })
  } else if (before.members.some(({ host }, index) => host !== members[index]?.host)) {
    const moved = before.members.map((member, index) => ({ ...member, ...members[index] }))
    await admin.command({ replSetReconfig: { ...before, version: before.version + 1, members: moved }, force: true })
  }
}

/** Whether the member at that port takes commands, whatever its role in the set. */
export const mongoMemberAnswers = async (port: number): Promise<boolean> => {
  try {
    await ask(port, (client) => client.db("admin").command({ ping: 1 }))
    return true
  } catch {
    return false
  }
}

/** Whether every member is there and one of them is the primary that takes writes. */
export const mongoAnswers = async (ports: ReadonlyArray<number>): Promise<boolean> => {
  try {
    return await ask(ports[0] as number, async (client) => {
      const status = await client.db("admin").command({ replSetGetStatus: 1 })
      const members = status["members"] as ReadonlyArray<{ readonly stateStr: string }>
      const healthy = members.every(({ stateStr }) => stateStr === "PRIMARY" || stateStr === "SECONDARY")
      if (!healthy || members.length !== ports.length) return false
      const { primary } = await client.db("admin").command({ hello: 1 })
      if (primary === undefined) return false
      const of = Number((primary as string).split(":")[1])
      const writable = (asked: MongoClient) => asked.db("admin").command({ hello: 1 })
      return (await (of === ports[0] ? writable(client) : ask(of, writable)))["isWritablePrimary"] === true
    })
  } catch {
    return false
  }
}

/** Waits until the members answer, makes them a set where they are none, and waits for its primary; `check` fails when it is in vain. */
export const mongoReady = async (ports: ReadonlyArray<number>, ms: number, check: () => void): Promise<boolean> => {
  const pings = await eventually(ms, async () => {
    check()
    return (await Promise.all(ports.map(mongoMemberAnswers))).every(Boolean)
  })
  if (!pings) return false
  await ask(ports[0] as number, (client) => configure(client, ports))
  return await eventually(ms, () => {
    check()
    return mongoAnswers(ports)
  })
}
