import { Effect, Layer } from "effect"
import * as path from "node:path"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerSqlite } from "../../src/write-side/EventLogSqlite.ts"
import { temporaryFolder } from "../support/log-folder.ts"
import { eventLogContract } from "./EventLog.contract.ts"

eventLogContract(
  "EventLog in SQLite",
  Effect.map(temporaryFolder, (folder) => ({
    open: Effect.flatMap(
      Layer.build(Layer.fresh(layerSqlite({ file: path.join(folder, "log.sqlite"), partitions: 16 }))),
      (context) => Effect.provide(EventLog, context)
    )
  }))
)
