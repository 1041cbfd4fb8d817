import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { EngineAddress } from "../platform/EngineAddress.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { makeRabbitConnection } from "../platform/RabbitConnection.ts"
import { makeRabbitConsumer } from "../platform/RabbitConsumer.ts"
import { putAside } from "../platform/rabbitLetters.ts"
import { makeRabbitPublisher } from "../platform/RabbitPublisher.ts"
import { deadLetterQueue, eventQueue } from "../platform/rabbitQueues.ts"
import { EventBus, EventBusUnavailable } from "./EventBus.ts"
import { decodeEvents, encodeEvents } from "./EventBusRabbitCodec.ts"

/** Batches of one partition that a projector is given ahead, at most 4 MiB. Not to be changed lightly, see {@link RabbitConsumerOptions.prefetch}. */
const PREFETCH = 16

export interface EventBusRabbitOptions {
  readonly address: EngineAddress
  /** Names this log's queues: 8 characters of its id. */
  readonly scope: string
  /** As the log was created with. */
  readonly partitions: number
}

/**
 * The event bus on RabbitMQ: one quorum queue a partition, bounded, with a single active consumer, so that one process projects a partition. Connects with the first `publish`
 * and the first `take`, so that who only publishes takes nothing away from those who project. What is taken is acked at once: the log has it.
 */
export const layerRabbit = ({ address, partitions, scope }: EventBusRabbitOptions): Layer.Layer<EventBus> =>
  Layer.effect(
    EventBus,
    Effect.gen(function* () {
      const metrics = yield* metricsWriter
      const queues = Array.from({ length: partitions }, (_, partition) => eventQueue(scope, partition))
      const out = yield* makeRabbitConnection({ address, name: "events out" })
      const publishers = yield* Effect.forEach(queues, (queue) => makeRabbitPublisher(out, queue))
      const letters = yield* makeRabbitPublisher(out, deadLetterQueue(scope))
      const connection = yield* makeRabbitConnection({ address, name: "events in" })
      const consumer = yield* makeRabbitConsumer({
        connection,
        name: "events",
        queues,
        prefetch: PREFETCH,
        decode: decodeEvents,
        weigh: () => 1,
        putAside: putAside(letters, metrics)
      })
      return EventBus.of({
        publish: ({ events, partition }) =>
          // Published in this order in one step, and confirmed together.
          Effect.forEach(encodeEvents(events), (message) => publishers[partition]!.publish(message), {
            concurrency: "unbounded",
            discard: true
          }).pipe(Effect.mapError((cause) => new EventBusUnavailable({ cause }))),
        take: (max) =>
          Effect.map(consumer.take(max), (taken) => {
            for (const { ack } of taken) ack()
            return taken.map(({ value }) => value)
          })
      })
    })
  )
