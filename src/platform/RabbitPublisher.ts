/** Publishing to RabbitMQ with confirms: what is confirmed is durable, and of everything else the publisher is told. */
import type { ConfirmChannel } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import { metricsWriter } from "./Metrics.ts"
import type { RabbitConnection } from "./RabbitConnection.ts"
import { isRefusal, openConfirmChannel, RabbitUnavailable, rabbitUnavailable } from "./RabbitLink.ts"
import { declareQueue, type QueueSpec } from "./rabbitQueues.ts"

/** How long a confirm may take while the server takes messages at all. Then the channel is closed, so that nothing of it can come later. */
const CONFIRM_MS = 10_000
const LOOK_MS = 1_000
/**
 * For so long after its channel was opened a refused message is written again: a queue that another process is just making refuses, and is not full.
 */
const MAKING_MS = 5_000
const AGAIN_MS = 50
/** Messages of one queue that are not confirmed, or wait for the connection; more fail at once. Those who publish keep far below. */
const UNCONFIRMED = 1_024

export interface PublishOptions {
  readonly messageId?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Publishes to one queue. */
export interface RabbitPublisher {
  readonly queue: QueueSpec
  /**
   * Answers when the message is in the queue, on disk and on most nodes: the confirm. Messages that are published in one step keep their order, as long as none fails.
   * Waits while there is no connection, and while the server is short of memory or disk.
   *
   * Fails when the server refuses, when there is no confirm within 10 s, and when the channel is lost before it came: then nobody knows whether the message is in
   * the queue. An interrupted message may still be published.
   */
  readonly publish: (content: Buffer, options?: PublishOptions) => Effect.Effect<void, RabbitUnavailable>
  /** Gets ready, and makes the queue where there is none, before there is something to publish. */
  readonly open: () => void
}

interface Message {
  readonly content: Buffer
  readonly options: PublishOptions
  readonly resume: (exit: Effect.Effect<void, RabbitUnavailable>) => void
  /** By which a returned message is known. */
  id: string
  /** When it was written. */
  at: number
  isReturned: boolean
}

/**
 * A publisher with a channel of its own, so that a queue which does not answer holds up no other. It lives as long as the scope, and connects when there is something to
 * publish.
 */
export const makeRabbitPublisher = Effect.fnUntraced(function* (
  connection: RabbitConnection,
  queue: QueueSpec
): Effect.fn.Return<RabbitPublisher, never, Scope.Scope> {
  const metrics = yield* metricsWriter
  /** Not written yet, in order. */
  const waiting = new Set<Message>()
  const unconfirmed = new Map<string, Message>()
  const wanted = Latch.makeUnsafe(false)
  /** While messages can be written. */
  let channel: ConfirmChannel | undefined
  let gather = (): void => {}
  /** Until when a refusal may mean that the queue is being made. */
  let made = 0
  let lastId = 0

  const settle = (message: Message, exit: Effect.Effect<void, RabbitUnavailable>): void => {
    const isKnown = waiting.delete(message) || unconfirmed.delete(message.id)
    if (!isKnown) return
    metrics.add("busUnconfirmed", -1)
    message.resume(exit)
  }
  const refuse = (message: Message, error: unknown): void =>
    settle(message, Effect.fail(rabbitUnavailable(`confirm a message for ${queue.name}`, error)))

  const write = (to: ConfirmChannel, message: Message): void => {
    waiting.delete(message)
    message.id = String(++lastId)
    message.at = performance.now()
    unconfirmed.set(message.id, message)
    const options = { ...message.options, persistent: true, mandatory: true, correlationId: message.id }
    try {
      to.sendToQueue(queue.name, message.content, options, (error: unknown) => {
        if (message.isReturned) refuse(message, new Error("the queue is gone; it is made again"))
        else if (error === null) settle(message, Effect.void)
        else if (!isRefusal(error)) refuse(message, error)
        else if (performance.now() < made) setTimeout(() => again(to, message), AGAIN_MS)
        else refuse(message, new Error("it was refused, as when the queue is full"))
      })
      gather()
    } catch (error) {
      refuse(message, error)
    }
  }

  const again = (to: ConfirmChannel, message: Message): void => {
    // Otherwise it was refused with its channel, or waits until the server takes messages.
    if (to === channel && unconfirmed.delete(message.id)) write(to, message)
    else refuse(message, undefined)
  }

  /** One channel, from its opening to its end. */
  const once = connection.keep("Publishing", (link) =>
    Effect.gen(function* () {
      yield* declareQueue(link, queue)
      const opened = yield* openConfirmChannel(link)
      gather = () => link.gather()
      made = performance.now() + MAKING_MS
      /** Since when the server takes messages. */
      let since = performance.now()
      const begin = (): void => {
        since = performance.now()
        channel = link.isBlocked ? undefined : opened.channel
        if (channel !== undefined) for (const message of [...waiting]) write(channel, message)
      }
      opened.channel.on("return", ({ properties }) => {
        const message = unconfirmed.get(String(properties.correlationId))
        if (message !== undefined) message.isReturned = true
        // The next channel begins with making the queue.
        channel = undefined
        opened.end(`${queue.name} is gone`)
      })
      const look = Effect.sync(() => {
        const [oldest] = unconfirmed.values()
        const now = performance.now()
        if (oldest === undefined || link.isBlocked || now - Math.max(oldest.at, since) < CONFIRM_MS) return
        opened.end(`no confirm within ${CONFIRM_MS / 1000} s`)
      }).pipe(Effect.delay(LOOK_MS), Effect.forever)
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          link.onBlocked.add(begin)
          begin()
        }),
        () =>
          Effect.sync(() => {
            channel = undefined
            link.onBlocked.delete(begin)
            for (const message of [...unconfirmed.values()]) refuse(message, undefined)
          })
      )
      return yield* Effect.raceFirst(Deferred.await(opened.ended), look)
    })
  )
  yield* wanted.await.pipe(Effect.andThen(once), Effect.forkScoped)

  return {
    queue,
    open: () => void wanted.openUnsafe(),
    publish: (content, given = {}) =>
      Effect.withFiber((fiber) => {
        const { span } = fiber.cache
        const options = span === undefined ? given : { ...given, headers: { ...traceHeaders(span), ...given.headers } }
        return Effect.callback<void, RabbitUnavailable>((resume) => {
          if (waiting.size + unconfirmed.size >= UNCONFIRMED) {
            const reason = `${UNCONFIRMED} messages wait for their confirm already`
            return resume(Effect.fail(new RabbitUnavailable({ operation: "take a message", reason })))
          }
          const message: Message = { content, options, resume, id: "", at: 0, isReturned: false }
          metrics.add("busUnconfirmed", 1)
          waiting.add(message)
          wanted.openUnsafe()
          // What came before it is written already: that happens in the step in which it can be.
          if (channel !== undefined) write(channel, message)
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
