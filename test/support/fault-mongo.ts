/** MongoDB from outside: the log as a process of its own sees it, and fail points. */
import { Effect, ManagedRuntime, Redacted } from "effect"
import { MongoClient } from "mongodb"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMongo } from "../../src/write-side/EventLogMongo.ts"
import type { Cluster } from "./cluster.ts"
import type { WithLog } from "./fault-log.ts"
import { until } from "./fault-tools.ts"
import type { DardaProcess } from "./process.ts"
import { TcpProxy, type Through } from "./tcp-proxy.ts"

/** The log of a cluster, opened when it is first looked at. */
export const openMongoLog = (
  url: string,
  partitions: number
): { readonly look: WithLog; readonly close: () => Promise<void> } => {
  const runtime = ManagedRuntime.make(
    layerMongo({ address: { url: Redacted.make(url), tls: { verify: true } }, partitions })
  )
  return {
    look: (look) => runtime.runPromise(Effect.flatMap(EventLog, look)),
    close: () => runtime.dispose()
  }
}

/** Uses a client of its own for commands to the admin database. */
export const withAdmin = async <A>(url: string, use: (client: MongoClient) => Promise<A>): Promise<A> => {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 10_000 })
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}

export interface FailPoint {
  /** Ends it, and says how many commands it has failed. */
  readonly off: () => Promise<number>
}

/** Lets these commands fail with a code, as often as said, on the primary of now. */
export const failCommands = (
  url: string,
  commands: ReadonlyArray<string>,
  errorCode: number,
  times: number
): Promise<FailPoint> =>
  withAdmin(url, async (client) => {
    const before = await client.db("admin").command({
      configureFailPoint: "failCommand",
      mode: { times },
      data: { failCommands: commands, errorCode }
    })
    return {
      off: () =>
        withAdmin(url, async (again) => {
          const after = await again.db("admin").command({ configureFailPoint: "failCommand", mode: "off" })
          return Number(after["count"]) - Number(before["count"])
        })
    }
  })

/** A way to MongoDB of each writer's own. Whoever owns the partitions is seen by its commits. */
export class Ways {
  readonly proxies: ReadonlyArray<TcpProxy>
  readonly #url: (proxy: TcpProxy, cluster: Cluster) => string = (proxy, { env }) =>
    `mongodb://127.0.0.1:${proxy.port}${new URL(env["MONGO_URL"]!).pathname}?directConnection=true`

  private constructor(proxies: ReadonlyArray<TcpProxy>) {
    this.proxies = proxies
  }

  static async open(port: number, writers: number): Promise<Ways> {
    return new Ways(await Promise.all(Array.from({ length: writers }, () => TcpProxy.start(port))))
  }

  readonly start = async (cluster: Cluster): Promise<void> => {
    await Promise.all(cluster.all.map((one) => this.startOne(cluster, one)))
  }

  startOne(cluster: Cluster, one: DardaProcess): Promise<void> {
    const proxy = this.proxies[cluster.writers.indexOf(one)]
    return one.start(proxy === undefined ? {} : { MONGO_URL: this.#url(proxy, cluster) })
  }

  /** Waits for a commit, does this to its connection before it is on its way, and tells whose it is. */
  async commit(act: (through: Through) => void): Promise<number> {
    let whose: number | undefined
    this.proxies.forEach((proxy, index) => {
      proxy.look = (data, through) => {
        if (whose !== undefined || !data.includes("commitTransaction")) return
        whose = index
        act(through)
      }
    })
    await until("a commit is on its way", 20_000, () => whose !== undefined)
    return whose!
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.proxies.map((proxy) => proxy[Symbol.asyncDispose]()))
  }
}
