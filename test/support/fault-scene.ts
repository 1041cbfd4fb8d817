/** A cluster on engines that may be broken, people who talk on it, and its log. */
import { randomBytes } from "node:crypto"
import { onTestFinished } from "vitest"
import { type Cluster, type ClusterOptions, makeCluster } from "./cluster.ts"
import { type Engines, engines, freshMongoUrl } from "./engines.ts"
import { FaultLoad, type LoadOptions } from "./fault-load.ts"
import type { WithLog } from "./fault-log.ts"
import { openMongoLog } from "./fault-mongo.ts"

/** Whether all faults are injected, as long and as often as it makes sense (`npm run test:faults`), or only the short ones. */
export const isFull = process.env["DARDA_FAULTS"] === "all"

const PARTITIONS = 4

/** Limits are not what is tested here. */
const SETTINGS = {
  PARTITIONS: String(PARTITIONS),
  LIMIT_PER_SECOND: "1000000",
  LIMIT_BURST: "1000000",
  LIMIT_IN_FLIGHT: "1000000",
  LIMIT_NEW_DMS_PER_HOUR: "1000000"
}

export interface SceneOptions extends LoadOptions, Pick<ClusterOptions, "edges" | "writers" | "readers" | "env"> {
  /** Engines of this test's own; the shared ones in place of those that are not given. */
  readonly engines?: Partial<Engines>
  /** Starts the processes where they are to be started in another way: some of them with other settings, say. */
  readonly start?: (cluster: Cluster) => Promise<void>
}

export interface Scene {
  readonly cluster: Cluster
  readonly load: FaultLoad
  readonly log: WithLog
}

/** The address of a database of this test's own in a MongoDB of its own. */
export const ownDatabase = (mongoUrl: string): string =>
  // No `URL` takes several hosts.
  mongoUrl.replace(/^(mongodb:\/\/[^/]+)\/[^?]*/, `$1/t_${randomBytes(6).toString("hex")}`)

/** Starts everything and lets people talk; it all ends with the test. `name`: for what is kept when something is found. */
export const scene = async (name: string, options: SceneOptions = {}): Promise<Scene> => {
  const { engines: own = {}, start, ...rest } = options
  const used: Engines = {
    mongoUrl: own.mongoUrl === undefined ? freshMongoUrl() : ownDatabase(own.mongoUrl),
    amqpUrl: own.amqpUrl ?? engines().amqpUrl,
    redisUrl: own.redisUrl ?? engines().redisUrl
  }
  const cluster = await makeCluster({ ...rest, env: { ...SETTINGS, ...options.env }, engines: used })
  onTestFinished(() => cluster.dispose())
  await (start === undefined ? Promise.all(cluster.all.map((one) => one.start())) : start(cluster))
  const log = openMongoLog(used.mongoUrl, PARTITIONS)
  onTestFinished(() => log.close())
  const load = await FaultLoad.start(name, cluster, log.look, options)
  onTestFinished(() => load.end())
  return { cluster, load, log: log.look }
}
