import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { metricsWriter } from "../platform/Metrics.ts"
import type { RedisConnection } from "../platform/RedisConnection.ts"
import { ReadModels } from "./ReadModels.ts"
import { logAway, makeApplier, type OlderLog, readPointers, type RedisSet } from "./ReadModelsRedisApply.ts"
import { makeOlder } from "./ReadModelsRedisOlder.ts"
import { makeRedisProgress } from "./ReadModelsRedisProgress.ts"
import { makeReads } from "./ReadModelsRedisReads.ts"
import * as ReadScripts from "./ReadModelsRedisReadScripts.ts"
import { makePointer } from "./ReadModelsRedisRows.ts"
import { APPLY, FETCH } from "./ReadModelsRedisScripts.ts"
import * as SetScripts from "./ReadModelsRedisSetScripts.ts"
import { checkpointsOf, makeShadow, newGeneration, onAll, readCounts } from "./ReadModelsRedisShadow.ts"
import { openSnapshot } from "./ReadModelsRedisSnapshot.ts"
import { makeSweep } from "./ReadModelsRedisSweep.ts"

export interface ReadModelsRedisOptions {
  readonly redis: RedisConnection
  /** The part of every key that tells logs apart: letters and digits, from the log's id. */
  readonly scope: string
  readonly partitions: number
  /** The log itself, for what is older than what is kept: the newest 200 messages of a conversation. */
  readonly log: OlderLog
}

/**
 * Read models in Redis, which may be emptied at any time: then the projector fills them again. Several processes may project and read the same ones: every write
 * compares how far its partition is and moves it, in one script.
 */
export const layerRedis = (options: ReadModelsRedisOptions): Layer.Layer<ReadModels> =>
  Layer.effect(ReadModels, Effect.map(make(options), ReadModels.of))

const make = Effect.fn("ReadModelsRedis.make")(function* (
  options: ReadModelsRedisOptions
): Effect.fn.Return<ReadModels["Service"], never, Scope.Scope> {
  const { partitions, redis } = options
  for (const [name, lua] of [
    ["dardaApply", APPLY],
    ["dardaFetch", FETCH],
    ["dardaAccess", ReadScripts.ACCESS],
    ["dardaPage", ReadScripts.PAGE],
    ["dardaRoster", ReadScripts.ROSTER],
    ["dardaList", ReadScripts.LIST],
    ["dardaItems", ReadScripts.ITEMS],
    ["dardaInbox", ReadScripts.INBOX],
    ["dardaCounts", SetScripts.COUNTS],
    ["dardaProlong", SetScripts.PROLONG],
    ["dardaLetGo", SetScripts.LET_GO],
    ["dardaSnapshot", SetScripts.SNAPSHOT],
    ["dardaUnsave", SetScripts.UNSAVE],
    ["dardaRegister", SetScripts.REGISTER],
    ["dardaDump", SetScripts.DUMP],
    ["dardaBegin", SetScripts.BEGIN],
    ["dardaGiveUp", SetScripts.GIVE_UP],
    ["dardaHold", SetScripts.HOLD],
    ["dardaFlip", SetScripts.FLIP],
    ["dardaOrphans", SetScripts.ORPHANS],
    ["dardaPurge", SetScripts.PURGE]
  ] as const) {
    redis.script(name, lua)
  }
  const set: RedisSet = { ...options, which: "live" }
  const pointers = readPointers(set)
  const metrics = yield* metricsWriter
  const progress = yield* makeRedisProgress(partitions, pointers, () => metrics.update("readModelsWentBack", 1))
  const apply = makeApplier(set, {
    generation: newGeneration,
    lost: () => metrics.update("readModelsContended", 1),
    ...progress
  })
  const sweep = yield* makeSweep(set)
  const reads = yield* makeReads(set, progress, makeOlder(set, progress, metrics))

  return {
    checkpoints: Effect.suspend(() => {
      const told = progress.told()
      return Effect.map(pointers, (found) => {
        for (const [partition, pointer] of found.entries()) progress.found(partition, pointer, told)
        return checkpointsOf(found)
      })
    }),
    reached: progress.reached,
    apply: (runs) => Effect.map(Effect.mapError(apply(runs), logAway), () => progress.current()),
    ...reads,
    counts: readCounts(set),
    snapshot: openSnapshot(set),
    shadow: makeShadow(set, progress, sweep),
    reset: Effect.suspend(() => {
      const generation = newGeneration()
      const told = progress.told()
      return Effect.map(
        onAll(set, "reset", () => ["dardaBegin", generation]),
        () => {
          for (let partition = 0; partition < partitions; partition++) {
            progress.found(partition, makePointer(generation, 0), told)
          }
          sweep()
        }
      )
    })
  }
})
