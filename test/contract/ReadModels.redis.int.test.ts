import { Effect } from "effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { connectRedis } from "../../src/platform/RedisConnection.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerRedis } from "../../src/read-side/ReadModelsRedis.ts"
import { appliedLog } from "../support/appliedLog.ts"
import { engines } from "../support/engines.ts"
import { redisScope } from "../support/redis-keys.ts"
import { redisAddress } from "../support/redis-server.ts"
import { readModelsContract } from "./ReadModels.contract.ts"

readModelsContract("redis", {
  runs: 12,
  place: (partitions) =>
    Effect.gen(function* () {
      const { redisUrl } = engines()
      const scope = yield* redisScope(redisUrl)
      const { log, noted } = appliedLog()
      return {
        open: Effect.gen(function* () {
          const redis = yield* Effect.orDie(connectRedis({ address: redisAddress(redisUrl), name: "read-models" }))
          const context = yield* Layer.build(Layer.fresh(layerRedis({ redis, scope, partitions, log })))
          return noted(Context.get(context, ReadModels))
        })
      }
    })
})
