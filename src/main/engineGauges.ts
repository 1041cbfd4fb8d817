/**
 * What MongoDB and Redis tell of themselves, for `/metrics` of every process that writes: what people have to know of their engines does not depend on
 * exporters beside them. RabbitMQ has a page of its own for Prometheus.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Document, Timestamp } from "mongodb"
import { connectMongo, mongoCode, mongoReason } from "../platform/MongoConnection.ts"
import { makeQuietLog } from "../platform/quietLog.ts"
import { connectRedis } from "../platform/RedisConnection.ts"
import type { EngineAddresses } from "../platform/Settings.ts"

/** As often as Prometheus asks. What it costs the engines is one answer of some 70 kB and one of 5 kB for each process that writes. */
const EVERY = "15 seconds"
/** MongoDB's code for a user who may not. */
const UNAUTHORIZED = 13
/** Sections of MongoDB's answer that are large and not read here. */
const LEFT_OUT = { metrics: 0, locks: 0, tcmalloc: 0, transactions: 0, opLatencies: 0, queryStats: 0, indexStats: 0 }
/** MongoDB's numbers of the states in which a member is in order. */
const STATES: Readonly<Record<number, State>> = { 1: "primary", 2: "secondary", 7: "arbiter" }
type State = "primary" | "secondary" | "arbiter" | "other"

const gauge = (name: string, description: string) => Metric.gauge(`darda_${name}`, { description })

const mongoUp = gauge("mongodb_up", "1 when the primary of MongoDB answered, else 0")
const mongoGauges = {
  lag: gauge("mongodb_replication_lag_seconds", "By how much the last of the secondaries is behind the primary"),
  oplog: gauge("mongodb_oplog_window_seconds", "How long a member may be away and still catch up by itself"),
  connections: gauge("mongodb_connections", "Connections to the primary"),
  connectionsLeft: gauge("mongodb_connections_available", "Connections that the primary would still take"),
  cache: gauge("mongodb_cache_bytes", "What the primary's cache holds"),
  cacheDirty: gauge("mongodb_cache_dirty_bytes", "What the primary's cache holds that is not on disk yet"),
  cacheLimit: gauge("mongodb_cache_limit_bytes", "What the primary's cache may hold")
}
const member = (state: State) =>
  Metric.withAttributes(gauge("mongodb_members", "Members of the replica set by state, as the primary sees them"), {
    state
  })
const mongoMembers = {
  primary: member("primary"),
  secondary: member("secondary"),
  arbiter: member("arbiter"),
  other: member("other")
}
const redisUp = gauge("redis_up", "1 when Redis answered, else 0")
const redisGauges = {
  memory: gauge("redis_memory_bytes", "Memory that Redis counts against its limit"),
  memoryLimit: gauge("redis_memory_limit_bytes", "What Redis may hold (maxmemory); 0 is as much as it wants"),
  clients: gauge("redis_clients", "Connections to Redis"),
  operations: gauge("redis_operations_per_second", "Commands that Redis carried out in the last second"),
  replicas: gauge("redis_replicas", "Replicas that follow Redis"),
  replicaLag: gauge("redis_replica_lag_bytes", "By how much the last of the replicas is behind")
}
const redisEvicted = Metric.counter("darda_redis_evicted_keys_total", {
  description: "Keys that Redis threw away for want of memory; with the right policy none",
  incremental: true
})

/** Tells the values; where there are none, that none is known rather than the last ones. */
const tell = <K extends string>(
  context: Context.Context<never>,
  gauges: Readonly<Record<K, Metric.Gauge<number>>>,
  values: Readonly<Record<K, number>> | undefined
): void => {
  for (const name of Object.keys(gauges) as Array<K>) gauges[name].updateUnsafe(values?.[name] ?? NaN, context)
}

/** What is read of MongoDB's answers to `serverStatus` and `replSetGetStatus`. */
export const ofMongo = (server: Document, set: Document) => {
  const members = { primary: 0, secondary: 0, arbiter: 0, other: 0 }
  let newest = 0
  let oldest = Infinity
  for (const { optimeDate, state } of set["members"] as ReadonlyArray<{ state: number; optimeDate?: Date }>) {
    const known = STATES[state] ?? "other"
    members[known]++
    if (known === "primary") newest = optimeDate?.getTime() ?? 0
    if (known === "secondary") oldest = Math.min(oldest, optimeDate?.getTime() ?? 0)
  }
  const { connections, oplog, wiredTiger } = server as {
    readonly connections: { readonly current: number; readonly available: number }
    readonly oplog: { readonly latestOptime: Timestamp; readonly earliestOptime: Timestamp }
    readonly wiredTiger: { readonly cache: Readonly<Record<string, number>> }
  }
  return {
    members,
    values: {
      lag: Math.max(0, newest - oldest) / 1_000,
      oplog: oplog.latestOptime.t - oplog.earliestOptime.t,
      connections: connections.current,
      connectionsLeft: connections.available,
      cache: wiredTiger.cache["bytes currently in the cache"] ?? NaN,
      cacheDirty: wiredTiger.cache["tracked dirty bytes in the cache"] ?? NaN,
      cacheLimit: wiredTiger.cache["maximum bytes configured"] ?? NaN
    }
  }
}

/** What is read of Redis' answer to `INFO`. */
export const ofRedis = (info: string) => {
  const of = (field: string): number => Number(new RegExp(`^${field}:(\\d+)`, "m").exec(info)?.[1] ?? NaN)
  const offsets = Array.from(info.matchAll(/^slave\d+:.*\boffset=(\d+)/gm), ([, offset]) => Number(offset))
  return {
    evicted: of("evicted_keys"),
    values: {
      memory: of("used_memory"),
      memoryLimit: of("maxmemory"),
      clients: of("connected_clients"),
      operations: of("instantaneous_ops_per_sec"),
      replicas: of("connected_slaves"),
      replicaLag: Math.max(0, ...offsets.map((offset) => of("master_repl_offset") - offset))
    }
  }
}

/** Asks both for ever. */
export const measureEngines = (engines: EngineAddresses) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const mongo = yield* connectMongo(engines.mongo)
    const redis = yield* connectRedis({ address: engines.redis, name: "gauges" })
    const quiet = makeQuietLog()
    let evicted: number | undefined

    const askMongo = Effect.tryPromise(async () => {
      const admin = mongo.client.db("admin")
      const server = await admin.command({ serverStatus: 1, oplog: 1, ...LEFT_OUT })
      return ofMongo(server, await admin.command({ replSetGetStatus: 1 }))
    }).pipe(
      Effect.map(({ members, values }) => {
        mongoUp.updateUnsafe(1, context)
        tell(context, mongoGauges, values)
        tell(context, mongoMembers, members)
      }),
      Effect.catch(({ cause }) => {
        const isForbidden = mongoCode(cause) === UNAUTHORIZED
        mongoUp.updateUnsafe(isForbidden ? 1 : 0, context)
        tell(context, mongoGauges, undefined)
        tell(context, mongoMembers, undefined)
        return quiet.warn(
          "Asking MongoDB how it is",
          isForbidden
            ? "the user in MONGO_URL may not serverStatus and replSetGetStatus, so that nothing is known of the replica set; docs/operations.md has the role"
            : mongoReason(cause)
        )
      })
    )
    const askRedis = redis
      .run("INFO", (client) => client.info())
      .pipe(
        Effect.map(ofRedis),
        Effect.map((found) => {
          redisUp.updateUnsafe(1, context)
          tell(context, redisGauges, found.values)
          // It counts from its start.
          const before = evicted === undefined ? found.evicted : evicted > found.evicted ? 0 : evicted
          redisEvicted.updateUnsafe(found.evicted - before, context)
          evicted = found.evicted
        }),
        // Those who work with it say why.
        Effect.catch(() =>
          Effect.sync(() => {
            redisUp.updateUnsafe(0, context)
            tell(context, redisGauges, undefined)
          })
        )
      )
    return yield* Effect.all([askMongo, askRedis], { concurrency: 2, discard: true }).pipe(
      Effect.andThen(Effect.sleep(EVERY)),
      Effect.forever
    )
  }).pipe(Effect.scoped)
