/** Dead letters: messages that could not be read, with where they came from and why. */
import type { ConsumeMessage } from "amqplib"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { MetricsWriter } from "./Metrics.ts"
import type { RabbitUnavailable } from "./RabbitLink.ts"
import type { PublishOptions, RabbitPublisher } from "./RabbitPublisher.ts"
import type { QueueSpec } from "./rabbitQueues.ts"

/** The longest reason that is kept, in characters: headers are small. */
const REASON_CHARS = 500

/** What a letter's headers are called. */
export const letterHeaders = { reason: "reason", queue: "from-queue", time: "time" } as const

/** The header of a message that an operator sent back to its queue: the id of the letter that it was. */
const RETRY_HEADER = "retry-of"

/** How a message that cannot be read is published to the dead letters. */
export const letterOf = (queue: string, reason: string, now: Date): PublishOptions => ({
  messageId: randomUUID(),
  headers: {
    [letterHeaders.reason]: reason.slice(0, REASON_CHARS),
    [letterHeaders.queue]: queue,
    [letterHeaders.time]: now.toISOString()
  }
})

/** How a letter is published to its queue again. */
export const retryOf = (letter: string): PublishOptions => ({ headers: { [RETRY_HEADER]: letter } })

/** The letter that a message was, if it was one. */
export const retriedLetter = ({ properties }: ConsumeMessage): string | undefined => {
  const id: unknown = properties.headers?.[RETRY_HEADER]
  return typeof id === "string" ? id : undefined
}

/** Puts a message aside: published to the dead letters, and confirmed. */
export const putAside =
  (letters: RabbitPublisher, metrics: MetricsWriter) =>
  ({ content }: ConsumeMessage, queue: QueueSpec, reason: string): Effect.Effect<void, RabbitUnavailable> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      letters.publish(content, letterOf(queue.name, reason, new Date(now)))
    ).pipe(
      Effect.tap(() => {
        metrics.update("deadLetters", 1)
        return Effect.logWarning(`A message in ${queue.name} was put to the dead letters: ${reason}`)
      })
    )
