import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { EngineAddress } from "../platform/EngineAddress.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { makeRabbitConnection } from "../platform/RabbitConnection.ts"
import { makeRabbitConsumer } from "../platform/RabbitConsumer.ts"
import { putAside } from "../platform/rabbitLetters.ts"
import { makeRabbitPublisher, type RabbitPublisher } from "../platform/RabbitPublisher.ts"
import { deadLetterQueue, eventQueue } from "../platform/rabbitQueues.ts"
import { EventBus, EventBusUnavailable, type Published } from "./EventBus.ts"
import { decodeBatches, encodeBatches } from "./EventBusRabbitCodec.ts"

/** Messages that a projector is given ahead, at most 16 MiB. Not to be changed lightly, see {@link RabbitConsumerOptions.prefetch}. */
const PREFETCH = 64

export interface EventBusRabbitOptions {
  readonly address: EngineAddress
  /** Names this log's queues: 8 characters of its id. */
  readonly scope: string
  /** As the log was created with. */
  readonly partitions: number
}

/**
 * The event bus on RabbitMQ: one quorum queue, bounded, with a single active consumer, so that one process projects. A message costs by its number and hardly by its size, so what is
 * published in one step, as the runs of a commit are, is one. Connects with the first `publish` and the first `take`, so that who only publishes takes nothing away from those who
 * project. What is taken is acked at once: the log has it.
 */
export const layerRabbit = ({ address, partitions, scope }: EventBusRabbitOptions): Layer.Layer<EventBus> =>
  Layer.effect(
    EventBus,
    Effect.gen(function* () {
      const metrics = yield* metricsWriter
      const queue = eventQueue(scope)
      const out = yield* makeRabbitConnection({ address, name: "events out" })
      const publisher = yield* makeRabbitPublisher(out, queue)
      const letters = yield* makeRabbitPublisher(out, deadLetterQueue(scope))
      const connection = yield* makeRabbitConnection({ address, name: "events in" })
      const consumer = yield* makeRabbitConsumer({
        connection,
        name: "events",
        queues: [queue],
        prefetch: PREFETCH,
        decode: (message) => decodeBatches(message, partitions),
        weigh: (batches) => batches.length,
        putAside: putAside(letters, metrics)
      })
      const together = yield* makeTogether(publisher)
      /** Taken from the bus and not yet from here. */
      let rest: ReadonlyArray<Published> = []
      return EventBus.of({
        publish: (batch) => (batch.events.length === 0 ? Effect.void : together(batch)),
        take: (max) =>
          Effect.suspend(() => {
            const waiting =
              rest.length > 0
                ? Effect.void
                : Effect.map(consumer.take(max), (taken) => {
                    for (const { ack } of taken) ack()
                    rest = taken.flatMap(({ value }) => value)
                  })
            return Effect.map(waiting, () => {
              const first = rest.slice(0, max)
              rest = rest.slice(max)
              return first
            })
          })
      })
    })
  )

interface Waiting {
  readonly batch: Published
  readonly resume: (exit: Effect.Effect<void, EventBusUnavailable>) => void
}

/** Publishes what is published in one step in as few messages as hold it, in order. Each batch is confirmed with the message that holds the last of it. */
const makeTogether = Effect.fnUntraced(function* (publisher: RabbitPublisher) {
  const run = Effect.runForkWith(yield* Effect.context<never>())
  let waiting: Array<Waiting> = []
  const flush = (): void => {
    const all = waiting
    waiting = []
    const { last, messages } = encodeBatches(all.map(({ batch }) => batch))
    const published = Effect.forEach(messages, (message) => Effect.exit(publisher.publish(message)), {
      concurrency: "unbounded"
    })
    run(
      Effect.map(published, (exits) =>
        all.forEach(({ resume }, i) => {
          // It may be in several messages, of which this is the last.
          const failed = exits.slice(0, last[i]! + 1).find(Exit.isFailure)
          resume(
            failed === undefined ? Effect.void : Effect.mapError(failed, (cause) => new EventBusUnavailable({ cause }))
          )
        })
      )
    )
  }
  return (batch: Published): Effect.Effect<void, EventBusUnavailable> =>
    Effect.callback((resume) => {
      waiting.push({ batch, resume })
      if (waiting.length === 1) queueMicrotask(flush)
    })
})
