import { Effect, Layer } from "effect"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { eventLogContract } from "./EventLog.contract.ts"

eventLogContract(
  "EventLog in memory",
  Effect.sync(() => {
    const log = makeMemoryLog(16)
    return {
      open: Effect.map(Layer.build(layerMemory(log)), (context) => EventLog.pipe(Effect.provide(context))).pipe(
        Effect.flatten
      )
    }
  })
)
