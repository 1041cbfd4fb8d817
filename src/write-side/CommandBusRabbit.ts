import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { EngineAddress } from "../platform/EngineAddress.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { makeRabbitConnection } from "../platform/RabbitConnection.ts"
import { makeRabbitConsumer } from "../platform/RabbitConsumer.ts"
import { putAside } from "../platform/rabbitLetters.ts"
import { makeRabbitPublisher } from "../platform/RabbitPublisher.ts"
import { commandQueue, deadLetterQueue } from "../platform/rabbitQueues.ts"
import { CommandBus, CommandBusUnavailable } from "./CommandBus.ts"
import { decodeBatch, encodeBatch } from "./CommandBusRabbitCodec.ts"
import { makeCommandPublisher } from "./CommandPublisher.ts"

/**
 * Batches of one partition that a committer is given ahead: enough to fill a commit with small ones while the last one is on its way, and at most 8 MiB. Not to be
 * changed lightly, see {@link RabbitConsumerOptions.prefetch}.
 */
const PREFETCH = 32

export interface CommandBusRabbitOptions {
  readonly address: EngineAddress
  /** Names this log's queues: 8 characters of its id. */
  readonly scope: string
  /** As the log was created with. */
  readonly partitions: number
  /** This process's boot id, new at every start. */
  readonly edge: string
}

/**
 * The command bus on RabbitMQ: one quorum queue a partition with a single active consumer, at most one unconfirmed batch of this edge in each. Connects to publish at
 * once, and to consume with the first `take`; while RabbitMQ is away or takes nothing, buffers fill and `offer` answers false.
 */
export const layerRabbit = ({ address, edge, partitions, scope }: CommandBusRabbitOptions): Layer.Layer<CommandBus> =>
  Layer.effect(
    CommandBus,
    Effect.gen(function* () {
      const metrics = yield* metricsWriter
      const queues = Array.from({ length: partitions }, (_, partition) => commandQueue(scope, partition))
      const out = yield* makeRabbitConnection({ address, name: "commands out" })
      const publishers = yield* Effect.forEach(queues, (queue) => makeRabbitPublisher(out, queue))
      const letters = yield* makeRabbitPublisher(out, deadLetterQueue(scope))
      for (const { open } of publishers) open()
      const commands = yield* makeCommandPublisher({
        edge,
        partitions,
        publish: (batch) => {
          const traceparent = batch.commands[0]?.traceparent
          return publishers[batch.partition]!.publish(
            encodeBatch(batch),
            traceparent === undefined ? {} : { headers: { traceparent } }
          ).pipe(
            Effect.mapError((cause) => {
              // What fails is published again, until it is confirmed.
              metrics.update("busRetries", 1)
              return new CommandBusUnavailable({ operation: `${cause.operation}: ${cause.reason}`, cause })
            })
          )
        }
      })
      const consumer = Effect.gen(function* () {
        const connection = yield* makeRabbitConnection({ address, name: "commands in" })
        const consumer = yield* makeRabbitConsumer({
          connection,
          name: "commands",
          queues,
          prefetch: PREFETCH,
          decode: (message, partition) => decodeBatch(message, partition, partitions),
          weigh: (batch) => batch.commands.length,
          putAside: putAside(letters, metrics)
        })
        // There before a queue needs it.
        letters.open()
        return {
          take: (maxCommands: number) =>
            Effect.map(consumer.take(maxCommands), (taken) => taken.map(({ ack, value }) => ({ batch: value, ack }))),
          restart: consumer.restart
        }
      })
      return CommandBus.of({ ...commands, consumer })
    })
  )
