import { Context, Effect, Layer } from "effect"
import { CommandBus } from "../../src/write-side/CommandBus.ts"
import { layerRabbit } from "../../src/write-side/CommandBusRabbit.ts"
import { engines } from "../support/engines.ts"
import { freshScope, rabbitAddress } from "../support/rabbit.ts"
import { commandBusContract, PARTITIONS } from "./CommandBus.contract.ts"

commandBusContract(
  "rabbit",
  Effect.gen(function* () {
    const { amqpUrl } = engines()
    const scope = yield* freshScope(amqpUrl, PARTITIONS)
    const address = rabbitAddress(amqpUrl)
    return (edge: string) =>
      Effect.map(Layer.build(Layer.fresh(layerRabbit({ address, scope, partitions: PARTITIONS, edge }))), (context) =>
        Context.get(context, CommandBus)
      )
  })
)
