/** The engines of one measurement: fresh ones on the real disk, which end with this process at the latest. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { binaries } from "../../scripts/services/binaries.ts"
import { bring, mongo, type Place, rabbit, redis, takeDown } from "../../scripts/services/engine.ts"

/** More than all that a run writes, so that no engine is measured while it makes room. */
const CACHE_GB = 1.5

export interface Engines {
  readonly mongoUrl: string
  readonly amqpUrl: string
  readonly redisUrl: string
  /** The servers themselves, by their names. */
  readonly pids: Readonly<Record<"mongod" | "beam.smp" | "redis-server", number>>
  readonly stop: () => Promise<void>
}

/** Starts MongoDB (a replica set of one), RabbitMQ and Redis, each with its data in a folder of this run. */
export const startEngines = async (): Promise<Engines> => {
  const folder = mkdtempSync(join(tmpdir(), "darda-bench-engines-"))
  const engines = [
    mongo(folder, { members: 1, testCommands: false, cacheGb: CACHE_GB }),
    rabbit(folder),
    redis(folder)
  ] as const
  const place: Place = { ports: {}, processes: {}, save: () => {}, own: true, files: binaries }
  const remove = () => rmSync(folder, { recursive: true, force: true })
  process.once("exit", remove)
  const stop = async (): Promise<void> => {
    await Promise.all(engines.map((engine) => takeDown(engine, place, true)))
    process.off("exit", remove)
    remove()
  }
  try {
    await Promise.all(engines.map((engine) => bring(engine, place)))
  } catch (cause) {
    await stop()
    throw cause
  }
  const pid = (name: string): number => place.processes[name]!.pid
  const [mongoUrl, amqpUrl, redisUrl] = engines.map((engine) => engine.url(place.ports)) as [string, string, string]
  return {
    mongoUrl,
    amqpUrl,
    redisUrl,
    pids: { mongod: pid("mongod-1"), "beam.smp": pid("rabbitmq"), "redis-server": pid("redis") },
    stop
  }
}
