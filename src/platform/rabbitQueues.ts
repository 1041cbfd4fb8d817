/** The queues that there are in RabbitMQ, as one place that says how they are made. */
import * as Effect from "effect/Effect"
import { ask, openChannel, type RabbitLink, type RabbitUnavailable } from "./RabbitLink.ts"

/** A queue by its name and how it is declared. All are durable quorum queues: confirmed is on disk, on most nodes where there are several. */
export interface QueueSpec {
  readonly name: string
  readonly arguments: Readonly<Record<string, string | number | boolean>>
}

/** How often a message may be delivered: no number of take-overs may end it. RabbitMQ 4 would drop it after 20; 3.10 knows no word for "never". */
const DELIVERIES = 2_147_483_647

interface Bounds {
  readonly messages: number
  readonly bytes: number
  /** At the bound: the publisher is refused, or the oldest message is dropped. */
  readonly atBound: "reject-publish" | "drop-head"
}

const quorum = (name: string, bounds: Bounds, more: QueueSpec["arguments"] = {}): QueueSpec => ({
  name,
  arguments: {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERIES,
    "x-max-length": bounds.messages,
    "x-max-length-bytes": bounds.bytes,
    "x-overflow": bounds.atBound,
    ...more
  }
})

/** The names of one log's queues begin with this. */
export const queuePrefix = (scope: string): string => `darda.${scope}.`

/** What no code could read, with the reason: kept until a person looks. When it is full, what cannot be read stays where it is. */
export const deadLetterQueue = (scope: string): QueueSpec =>
  quorum(`${queuePrefix(scope)}dead-letters`, { messages: 10_000, bytes: 256 * 1024 * 1024, atBound: "reject-publish" })

/** Batches of commands of one partition. When it is full the edges' buffers fill, and they answer `busy`. */
export const commandQueue = (scope: string, partition: number): QueueSpec =>
  quorum(
    `${queuePrefix(scope)}commands.${partition}`,
    { messages: 10_000, bytes: 64 * 1024 * 1024, atBound: "reject-publish" },
    {
      "x-single-active-consumer": true,
      // The net below the delivery limit.
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": deadLetterQueue(scope).name
    }
  )

/** Batches of events of all partitions. When it is full the oldest are dropped: whoever projects finds them in the log. */
export const eventQueue = (scope: string): QueueSpec =>
  quorum(
    `${queuePrefix(scope)}events`,
    { messages: 1_000, bytes: 64 * 1024 * 1024, atBound: "drop-head" },
    { "x-single-active-consumer": true }
  )

/** A queue of that name exists and is made differently. */
const PRECONDITION_FAILED = 406

/** Declares a queue. One that exists with other arguments, as an older version or an operator made it, is used as it is, with a warning. */
export const declareQueue = (link: RabbitLink, queue: QueueSpec): Effect.Effect<void, RabbitUnavailable> =>
  openChannel(link).pipe(
    Effect.flatMap(({ channel }) =>
      ask(`declare ${queue.name}`, () => channel.assertQueue(queue.name, { arguments: queue.arguments }))
    ),
    Effect.scoped,
    Effect.catchIf(
      ({ code }) => code === PRECONDITION_FAILED,
      ({ reason }) => Effect.logWarning(`${queue.name} exists with other properties and is used as it is: ${reason}`)
    ),
    Effect.asVoid
  )
