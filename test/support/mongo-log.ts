import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMongo } from "../../src/write-side/EventLogMongo.ts"

export const addressOf = (url: string): EngineAddress => ({ url: Redacted.make(url), tls: { verify: true } })

/** One process's way to the log at this address. */
export const openMongoLog = (url: string, partitions = 16) =>
  Effect.flatMap(Layer.build(Layer.fresh(layerMongo({ address: addressOf(url), partitions }))), (context) =>
    Effect.provide(EventLog, context)
  )
