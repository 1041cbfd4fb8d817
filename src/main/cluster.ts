/** The engines of many processes: MongoDB, RabbitMQ and Redis. The one place that chooses their adapters. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { EngineAddresses, SettingsValues } from "../platform/Settings.ts"
import { layerRedis as layerRedisRouter } from "../platform/RouterRedis.ts"
import { connectRedis } from "../platform/RedisConnection.ts"
import { layerRedis as layerRedisReadModels } from "../read-side/ReadModelsRedis.ts"
import { layerRabbit as layerRabbitCommands } from "../write-side/CommandBusRabbit.ts"
import { layerRabbit as layerRabbitEvents } from "../write-side/EventBusRabbit.ts"
import { EventLog, type LogUnavailable, type LogUnusable } from "../write-side/EventLog.ts"
import { keptSecret, layerMongo } from "../write-side/EventLogMongo.ts"

/** Characters of a log's id that names in RabbitMQ and keys in Redis begin with, so that two logs never mix. */
const SCOPE_CHARS = 8

/** What everything of one log is called by in the engines that logs share. */
export const scopeOf = (logId: string): string => logId.replaceAll("-", "").slice(0, SCOPE_CHARS)

/** How long a start waits for MongoDB, and how often it tries: engines and processes are often started at the same time. */
const TRY_AGAIN = Schedule.spaced("1 second").pipe(Schedule.upTo({ duration: "1 minute" }))

/** Tries again while MongoDB cannot be reached; what is wrong with the log itself ends the start at once. */
const patiently = <A, R>(open: Effect.Effect<A, LogUnusable | LogUnavailable, R>) =>
  open.pipe(
    Effect.tapError((error) =>
      error._tag === "LogUnavailable" ? Effect.logWarning(`${error.message} It is tried again.`) : Effect.void
    ),
    Effect.retry({ schedule: TRY_AGAIN, while: (error) => error._tag === "LogUnavailable" })
  )

/** The event log; made where there is none, unless it must exist. */
export const layerLog = (
  { partitions }: SettingsValues,
  { mongo: address }: EngineAddresses,
  options: { readonly mustExist?: boolean } = {}
) => Layer.effectContext(patiently(Layer.build(layerMongo({ address, partitions, ...options }))))

/** What signs dev tokens, tickets and the query API: the setting, or with AUTH=dev a secret that is made once and kept with the log. */
export const clusterSecret = (settings: SettingsValues, engines: EngineAddresses) =>
  settings.clusterSecret === undefined
    ? Effect.map(patiently(keptSecret(engines.mongo)), Redacted.make)
    : Effect.succeed(settings.clusterSecret)

/** The read models of the log. */
export const layerReadModels = (engines: EngineAddresses) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const log = yield* EventLog
      const redis = yield* connectRedis({ address: engines.redis, name: "read models" })
      return layerRedisReadModels({ redis, scope: scopeOf(log.id), partitions: log.partitions, log })
    })
  )

/** Routes and streams. `node` is the name of this process, and `edge` whether it serves connections. */
export const layerRouter = (engines: EngineAddresses, logId: string, node: string, edge: boolean) =>
  layerRedisRouter({ address: engines.redis, scope: scopeOf(logId), node, edge })

/** The command bus. `edge` is this process's boot id. */
export const layerCommandBus = (
  engines: EngineAddresses,
  log: { readonly id: string; readonly partitions: number },
  edge: string
) => layerRabbitCommands({ address: engines.amqp, scope: scopeOf(log.id), partitions: log.partitions, edge })

/** The event bus. */
export const layerEventBus = (engines: EngineAddresses, log: { readonly id: string; readonly partitions: number }) =>
  layerRabbitEvents({ address: engines.amqp, scope: scopeOf(log.id), partitions: log.partitions })
