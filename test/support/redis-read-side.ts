import { Context, Effect, Layer, type Scope } from "effect"
import { EventLog, type EventReader } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, type MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import {
  layerMemory as busMemory,
  makeMemoryEventBus,
  type MemoryEventBus
} from "../../src/write-side/EventBusMemory.ts"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"
import { connectRedis, type RedisConnection } from "../../src/platform/RedisConnection.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { Queries } from "../../src/read-side/Queries.ts"
import { layer as queriesLive } from "../../src/read-side/QueriesLive.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerRedis } from "../../src/read-side/ReadModelsRedis.ts"

/** The read side of one process, on a log in memory and a real Redis. */
export interface ReadSide {
  readonly redis: RedisConnection
  readonly log: EventLog["Service"]
  readonly bus: MemoryEventBus
  readonly readModels: ReadModels["Service"]
  readonly projector: Projector["Service"]
  readonly queries: Queries["Service"]
}

export const openReadSide = (options: {
  readonly address: EngineAddress
  readonly scope?: string
  readonly log: MemoryLog
  readonly timeoutMs?: number
  /** The log as this process reads it. */
  readonly reader?: (log: EventReader) => EventReader
}): Effect.Effect<ReadSide, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { address, scope = "test", timeoutMs = 1_000 } = options
    const redis = yield* Effect.orDie(connectRedis({ address, name: "read-side", timeoutMs }))
    const bus = makeMemoryEventBus()
    const logs = Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => EventLog.of({ ...log, ...options.reader?.(log) }))
    ).pipe(Layer.provide(logMemory(options.log)))
    const models = Layer.unwrap(
      Effect.map(EventLog, (log) => layerRedis({ redis, scope, partitions: log.partitions, log }))
    ).pipe(Layer.provideMerge(logs))
    const services = Layer.mergeAll(Projector.layer, queriesLive).pipe(
      Layer.provideMerge(Layer.mergeAll(models, busMemory(bus)))
    )
    const context = yield* Layer.build(Layer.fresh(services))
    return {
      redis,
      bus,
      log: Context.get(context, EventLog),
      readModels: Context.get(context, ReadModels),
      projector: Context.get(context, Projector),
      queries: Context.get(context, Queries)
    }
  })
