import { Effect } from "effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { readModelsContract } from "./ReadModels.contract.ts"

readModelsContract("memory", {
  runs: 200,
  place: (partitions) =>
    Effect.sync(() => {
      const layer = Layer.fresh(layerMemory(makeReadModelsEngine(partitions)))
      return { open: Effect.map(Layer.build(layer), (context) => Context.get(context, ReadModels)) }
    })
})
