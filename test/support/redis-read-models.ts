import { Context, Effect, Layer, type Scope } from "effect"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"
import { connectRedis, type RedisConnection } from "../../src/platform/RedisConnection.ts"
import { type DumpRow, ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerRedis } from "../../src/read-side/ReadModelsRedis.ts"
import type { OlderLog } from "../../src/read-side/ReadModelsRedisApply.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import type { History } from "./histories.ts"

/** Messages of a conversation that Redis keeps. */
export const TAIL = 200

/** The read models of one process; several may be opened on the same keys. */
export const openReadModels = (options: {
  readonly address: EngineAddress
  readonly scope: string
  readonly partitions: number
  readonly log: OlderLog
}): Effect.Effect<
  { readonly redis: RedisConnection; readonly readModels: ReadModels["Service"] },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const redis = yield* Effect.orDie(connectRedis({ address: options.address, name: "read-models", timeoutMs: 5_000 }))
    const context = yield* Layer.build(Layer.fresh(layerRedis({ ...options, redis })))
    return { redis, readModels: Context.get(context, ReadModels) }
  })

/** Without the messages that are older than the newest 200 of their conversation. */
export const withinTail = (rows: ReadonlyArray<DumpRow>): ReadonlyArray<DumpRow> => {
  const later = new Map<string, number>()
  return rows
    .toReversed()
    .filter(({ key: [conv, kind] }) => {
      if (kind !== "message") return true
      const count = (later.get(conv!) ?? 0) + 1
      later.set(conv!, count)
      return count <= TAIL
    })
    .reverse()
}

/** What Redis holds after the first so many events of each partition. */
export const keptOf = (history: History, heads?: ReadonlyArray<number>): ReadonlyArray<DumpRow> => {
  const store = makeMemoryStore(history.partitions)
  store.apply(history.logs.map((log, partition) => ({ partition, events: log.slice(0, heads?.[partition]) })))
  return withinTail(store.dump())
}
