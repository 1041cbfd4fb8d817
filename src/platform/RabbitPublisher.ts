/** Publishing to RabbitMQ with confirms: what is confirmed is durable, and of everything else the publisher is told. */
import type { ConfirmChannel } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import { metricsWriter } from "./Metrics.ts"
import type { RabbitConnection } from "./RabbitConnection.ts"
import { openConfirmChannel, RabbitUnavailable, rabbitUnavailable } from "./RabbitLink.ts"
import { declareQueues, type QueueSpec } from "./rabbitQueues.ts"

/** How long a confirm may take while the server takes messages at all. Then the channel is closed, so that nothing of it can come later. */
const CONFIRM_MS = 10_000
const LOOK_MS = 1_000
/** How amqplib says that the server refused a message, which ours do when they are full. */
const NACKED = "message nacked"
/** Messages that are published and not confirmed, or wait for the connection; more fail at once. Those who publish keep far below, with one a partition. */
const UNCONFIRMED = 4_096

export interface PublishOptions {
  readonly messageId?: string
  readonly headers?: Readonly<Record<string, string>>
}

export interface RabbitPublisher {
  /**
   * Answers when the message is in its queue, on disk and on most nodes: the confirm. Messages that are published in one step keep their order, as long as none fails.
   * Waits while there is no connection, and while the server is short of memory or disk.
   *
   * Fails when the server refuses, when there is no confirm within 10 s, and when the connection is lost before it came: then nobody knows whether the message is in
   * the queue. An interrupted message may still be published.
   */
  readonly publish: (
    queue: QueueSpec,
    content: Buffer,
    options?: PublishOptions
  ) => Effect.Effect<void, RabbitUnavailable>
}

interface Message {
  readonly queue: QueueSpec
  readonly content: Buffer
  readonly options: PublishOptions
  readonly resume: (exit: Effect.Effect<void, RabbitUnavailable>) => void
  id: string
  /** When it was written. */
  at: number
  isReturned: boolean
}

/** A publisher on a connection, which it asks for when there is something to publish. */
export const makeRabbitPublisher = Effect.fnUntraced(function* (
  connection: RabbitConnection
): Effect.fn.Return<RabbitPublisher, never, Scope.Scope> {
  const metrics = yield* metricsWriter
  /** Not written yet, in order. */
  const waiting = new Set<Message>()
  /** Written, by the id that a returned message tells. */
  const unconfirmed = new Map<string, Message>()
  /** Queues that were gone when something was published to them. */
  const missing = new Map<string, QueueSpec>()
  const wanted = Latch.makeUnsafe(false)
  const repair = Latch.makeUnsafe(false)
  let channel: ConfirmChannel | undefined
  let isBlocked = false
  /** Since when the server takes messages. */
  let since = 0
  let lastId = 0

  const settle = (message: Message, exit: Effect.Effect<void, RabbitUnavailable>): void => {
    const known = waiting.delete(message) || unconfirmed.delete(message.id)
    if (!known) return
    metrics.add("busUnconfirmed", -1)
    message.resume(exit)
  }
  const refuse = (message: Message, error: unknown): void =>
    settle(message, Effect.fail(rabbitUnavailable(`confirm a message for ${message.queue.name}`, error)))

  const write = (message: Message): void => {
    waiting.delete(message)
    message.id = String(++lastId)
    message.at = performance.now()
    unconfirmed.set(message.id, message)
    const options = { ...message.options, persistent: true, mandatory: true, correlationId: message.id }
    try {
      channel!.sendToQueue(message.queue.name, message.content, options, (error: unknown) => {
        if (message.isReturned) {
          missing.set(message.queue.name, message.queue)
          repair.openUnsafe()
          refuse(message, new Error("the queue is gone; it is made again"))
        } else if (error === null) settle(message, Effect.void)
        else refuse(message, (error as Error).message === NACKED ? new Error("the queue is full") : error)
      })
    } catch (error) {
      refuse(message, error)
    }
  }
  const canWrite = (queue: QueueSpec): boolean => channel !== undefined && !isBlocked && !missing.has(queue.name)
  const flush = (): void => {
    for (const message of [...waiting]) if (canWrite(message.queue)) write(message)
  }

  /** One channel, from its opening to its end. */
  const once = connection.keep("Publishing", (link) =>
    Effect.gen(function* () {
      const opened = yield* openConfirmChannel(link)
      opened.channel.on("return", ({ properties }) => {
        const message = unconfirmed.get(String(properties.correlationId))
        if (message !== undefined) message.isReturned = true
      })
      const changed = (): void => {
        isBlocked = link.isBlocked
        since = performance.now()
        flush()
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          channel = opened.channel
          link.model.on("blocked", changed)
          link.model.on("unblocked", changed)
          changed()
        }),
        () =>
          Effect.sync(() => {
            channel = undefined
            link.model.off("blocked", changed)
            link.model.off("unblocked", changed)
            for (const message of [...unconfirmed.values()]) refuse(message, undefined)
          })
      )
      const declare = repair.await.pipe(
        Effect.andThen(
          Effect.suspend(() => {
            repair.closeUnsafe()
            const queues = [...missing.values()]
            return Effect.andThen(
              declareQueues(link, queues),
              Effect.sync(() => {
                for (const { name } of queues) missing.delete(name)
                flush()
              })
            )
          })
        ),
        Effect.forever
      )
      const look = Effect.sync(() => {
        const [oldest] = unconfirmed.values()
        const now = performance.now()
        if (oldest === undefined || isBlocked || now - Math.max(oldest.at, since) < CONFIRM_MS) return
        opened.end(`no confirm within ${CONFIRM_MS / 1000} s`)
      }).pipe(Effect.delay(LOOK_MS), Effect.forever)
      if (missing.size > 0) repair.openUnsafe()
      return yield* Effect.raceFirst(Deferred.await(opened.ended), Effect.raceFirst(declare, look))
    })
  )
  yield* wanted.await.pipe(Effect.andThen(once), Effect.forkScoped)

  return {
    publish: (queue, content, given = {}) =>
      Effect.withFiber((fiber) => {
        const { span } = fiber.cache
        const options = span === undefined ? given : { ...given, headers: { ...traceHeaders(span), ...given.headers } }
        return Effect.callback<void, RabbitUnavailable>((resume) => {
          if (waiting.size + unconfirmed.size >= UNCONFIRMED) {
            const reason = `${UNCONFIRMED} messages wait for their confirm already`
            return resume(Effect.fail(new RabbitUnavailable({ operation: "take a message", reason })))
          }
          const message: Message = { queue, content, options, resume, id: "", at: 0, isReturned: false }
          metrics.add("busUnconfirmed", 1)
          // What waits for the same queue has been written by then: that happens in the step in which it can be.
          if (canWrite(queue)) write(message)
          else {
            waiting.add(message)
            wanted.openUnsafe()
          }
          return Effect.sync(() => {
            if (waiting.delete(message)) metrics.add("busUnconfirmed", -1)
          })
        })
      })
  }
})

/** W3C trace context of the work that publishes, where there is tracing. */
const traceHeaders = ({ sampled, spanId, traceId }: AnySpan) => ({
  traceparent: `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
})
