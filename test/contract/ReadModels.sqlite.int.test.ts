import { Effect } from "effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerSqlite } from "../../src/read-side/ReadModelsSqlite.ts"
import { readModelsContract } from "./ReadModels.contract.ts"

readModelsContract("sqlite", {
  runs: 12,
  place: (partitions) =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "darda-read-"))),
        (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true }))
      )
      const file = path.join(folder, "read-models.sqlite")
      return {
        open: Effect.suspend(() => Layer.build(Layer.fresh(layerSqlite({ file, log: "log-1", partitions })))).pipe(
          Effect.map((context) => Context.get(context, ReadModels)),
          Effect.orDie
        )
      }
    })
})
