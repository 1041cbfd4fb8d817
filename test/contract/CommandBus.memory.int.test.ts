import { Context, Effect, Layer } from "effect"
import { CommandBus } from "../../src/write-side/CommandBus.ts"
import { layerMemory, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { commandBusContract, PARTITIONS } from "./CommandBus.contract.ts"

commandBusContract(
  "memory",
  Effect.sync(() => {
    const broker = makeMemoryBroker(PARTITIONS)
    return (edge: string) =>
      Effect.map(Layer.build(Layer.fresh(layerMemory(broker, edge))), (context) => Context.get(context, CommandBus))
  })
)
