/** Dead letters: messages that could not be read, with where they came from and why. */
import type { Message } from "amqplib"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { hash, randomBytes } from "node:crypto"
import { makeQuietLog } from "./quietLog.ts"
import type { MetricsWriter } from "./Metrics.ts"
import type { RabbitUnavailable } from "./RabbitLink.ts"
import type { PublishOptions, RabbitPublisher } from "./RabbitPublisher.ts"
import type { QueueSpec } from "./rabbitQueues.ts"

/** The longest reason that is kept, in characters: headers are small. */
const REASON_CHARS = 500

/** A letter's headers. */
const REASON = "reason"
const FROM_QUEUE = "from-queue"
const TIME = "time"
/** The header of a message that an operator sent back to its queue: the id of the letter that it was. */
const RETRY_OF = "retry-of"

/** What is known of a letter. What RabbitMQ itself put aside says less. */
export interface LetterFacts {
  readonly id: string
  /** When it was put aside, ISO 8601; empty when that is not known. */
  readonly time: string
  readonly reason: string
  /** The queue that it was in; empty when that is not known. */
  readonly queue: string
}

/** How a message that cannot be read is published to the dead letters. */
const letterOf = (queue: string, reason: string, now: number): PublishOptions => ({
  messageId: randomBytes(6).toString("hex"),
  headers: { [REASON]: reason.slice(0, REASON_CHARS), [FROM_QUEUE]: queue, [TIME]: new Date(now).toISOString() }
})

/** How a letter is published to its queue again. */
export const retryOf = (letter: string): PublishOptions => ({ headers: { [RETRY_OF]: letter } })

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined)

/** The letter that a message was, if it was one. */
export const retriedLetter = ({ properties }: Message): string | undefined => text(properties.headers?.[RETRY_OF])

/** Reads a letter's headers, ours or RabbitMQ's own. */
export const letterFacts = ({ content, properties }: Message): LetterFacts => {
  const headers: Readonly<Record<string, unknown>> = properties.headers ?? {}
  const given = text(properties.messageId)
  const death = text(headers["x-first-death-reason"])
  return {
    // A word that can be typed; the same letter has the same one.
    id: given !== undefined && /^[\w.-]{1,64}$/.test(given) ? given : hash("sha256", content).slice(0, 12),
    time: text(headers[TIME]) ?? "",
    reason: text(headers[REASON]) ?? (death === undefined ? "not known" : `RabbitMQ put it aside: ${death}`),
    queue: text(headers[FROM_QUEUE]) ?? text(headers["x-first-death-queue"]) ?? ""
  }
}

/** Puts messages aside: published to the dead letters, and confirmed. The log says that it happens, and nothing of what they hold. */
export const putAside = (letters: RabbitPublisher, metrics: MetricsWriter) => {
  const quiet = makeQuietLog()
  return ({ content }: Message, queue: QueueSpec, reason: string): Effect.Effect<void, RabbitUnavailable> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => letters.publish(content, letterOf(queue.name, reason, now))).pipe(
      Effect.tap(() => {
        metrics.update("deadLetters", 1)
        return quiet.warn(
          "Dead letters",
          `a message in ${queue.name} could not be read and was put aside; darda dead-letters list says why.`
        )
      })
    )
}
