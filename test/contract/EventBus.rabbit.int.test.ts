import { Context, Effect, Layer } from "effect"
import { EventBus } from "../../src/write-side/EventBus.ts"
import { layerRabbit } from "../../src/write-side/EventBusRabbit.ts"
import { engines } from "../support/engines.ts"
import { freshScope, rabbitAddress } from "../support/rabbit.ts"
import { eventBusContract } from "./EventBus.contract.ts"

const PARTITIONS = 4

eventBusContract(
  "rabbit",
  Effect.suspend(() => {
    const { amqpUrl } = engines()
    return Effect.map(freshScope(amqpUrl, PARTITIONS), (scope) => {
      const layer = layerRabbit({ address: rabbitAddress(amqpUrl), scope, partitions: PARTITIONS })
      return Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, EventBus))
    })
  })
)
