/** A cluster of real processes on real engines: edges, writers and readers, each of which can be killed, stopped and started. */
import { engines, freshMongoUrl } from "./engines.ts"
import { onFreshLog, sharedPods } from "./pods.ts"
import { DardaProcess } from "./process.ts"

/** The secret of the clusters of tests: the same for all processes, as in a real one. */
const CLUSTER_SECRET = "the secret of a cluster that only tests know"

type Environment = Readonly<Record<string, string>>

export interface ClusterOptions {
  /** Settings of every process. */
  readonly env?: Environment
  /** How many processes of each role; one of each unless given. */
  readonly edges?: number
  readonly writers?: number
  readonly readers?: number
  /** Other engines than the shared ones, for tests that break them. The database must be a fresh one. */
  readonly engines?: { readonly mongoUrl: string; readonly amqpUrl: string; readonly redisUrl: string }
}

export interface Cluster {
  readonly edges: ReadonlyArray<DardaProcess>
  readonly writers: ReadonlyArray<DardaProcess>
  readonly readers: ReadonlyArray<DardaProcess>
  /** What every process is given: for commands of the `darda` tool on this cluster. */
  readonly env: Environment
  readonly all: ReadonlyArray<DardaProcess>
  /** What all processes wrote. */
  readonly output: () => string
  readonly dispose: () => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

/** Starts a cluster on a log of its own and waits until every process is ready. */
export const startCluster = async (options: ClusterOptions = {}): Promise<Cluster> => {
  const cluster = await makeCluster(options)
  try {
    await Promise.all(cluster.all.map((one) => one.start()))
  } catch (cause) {
    await cluster.dispose()
    throw cause
  }
  return cluster
}

const enginesOf = (options: ClusterOptions): Environment => {
  const used = options.engines ?? { ...engines(), mongoUrl: freshMongoUrl() }
  return { MONGO_URL: used.mongoUrl, AMQP_URL: used.amqpUrl, REDIS_URL: used.redisUrl }
}

/** The processes of a cluster, none of which runs yet. */
export const makeCluster = async (options: ClusterOptions = {}): Promise<Cluster> => {
  const shared = options.engines === undefined ? sharedPods() : undefined
  const pods = shared === undefined ? {} : await onFreshLog(shared)
  const env: Environment = { CLUSTER_SECRET, ...(pods["edge"] ?? enginesOf(options)), ...options.env }
  const make = (role: string, count: number, more: Environment = {}): Promise<ReadonlyArray<DardaProcess>> =>
    Promise.all(
      Array.from({ length: count }, () =>
        DardaProcess.make(["serve", "--roles", role], {
          ...without({ ...env, ...pods[role], ...options.env }, "PORT"),
          ...more
        })
      )
    )
  const readers = await make("read", options.readers ?? 1)
  const writers = await make("write", options.writers ?? 1)
  const edges = await make("edge", options.edges ?? 1, {
    ...(env["PORT"] === undefined ? {} : { PORT: env["PORT"] }),
    READ_URL: readers.map(({ url }) => url).join(",")
  })
  const all = [...readers, ...writers, ...edges]
  const dispose = async (): Promise<void> => {
    await Promise.all(all.map((one) => one.dispose()))
  }
  return {
    edges,
    writers,
    readers,
    env,
    all,
    output: () => all.map(({ output }) => output).join("\n"),
    dispose,
    [Symbol.asyncDispose]: dispose
  }
}

const without = (env: Environment, name: string): Environment =>
  Object.fromEntries(Object.entries(env).filter(([key]) => key !== name))
