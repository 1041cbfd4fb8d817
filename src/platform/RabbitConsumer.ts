/** Consuming from RabbitMQ: what several queues deliver, taken together, in the order of each. */
import type { Channel, ConsumeMessage } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type MetricsWriter, metricsWriter } from "./Metrics.ts"
import type { RabbitConnection } from "./RabbitConnection.ts"
import { ask, openChannel, type RabbitChannel, type RabbitLink, type RabbitUnavailable } from "./RabbitLink.ts"
import { declareQueue, type QueueSpec } from "./rabbitQueues.ts"

/**
 * How long an ack may wait for others, unless half of what may be unacked is finished: an ack costs the server as much as a message, and what is lost with it
 * is only delivered again.
 */
const ACK_MS = 50

/** Something that cannot be read, and why. */
export interface Unreadable {
  readonly unreadable: string
}

export interface RabbitConsumerOptions<A> {
  readonly connection: RabbitConnection
  /** For people: what is consumed. */
  readonly name: string
  /** Each is consumed on a channel of its own. */
  readonly queues: ReadonlyArray<QueueSpec>
  /**
   * Messages of one queue that are delivered and not acked. Every process and version uses the same number: a quorum queue gives what it takes back to the next consumer in
   * order as long as that takes all of it at once.
   */
  readonly prefetch: number
  /** Reads a message. Does not throw. `queue` is the index in `queues`. */
  readonly decode: (message: ConsumeMessage, queue: number) => A | Unreadable
  /** What a message counts for in `take`. */
  readonly weigh: (value: A) => number
  /** Puts aside what cannot be read; it is acked when that is done, and tried again when it fails. */
  readonly putAside: (
    message: ConsumeMessage,
    queue: QueueSpec,
    reason: string
  ) => Effect.Effect<void, RabbitUnavailable>
}

/** What was taken of a queue. */
export interface Taken<A> {
  readonly value: A
  /** Acks it, within 50 ms. Does nothing when its channel has ended, since then it is delivered again. */
  readonly ack: () => void
}

export interface RabbitConsumer<A> {
  /**
   * Waits for a message and answers all that have come, up to this weight (one that is heavier comes alone). Each queue in its order, and none before the others for long.
   * Whoever gives up waiting takes nothing along.
   */
  readonly take: (weight: number) => Effect.Effect<ReadonlyArray<Taken<A>>>
  /** Gives back what a queue delivered and was not acked: it is delivered again, in order, to the consumer that is active next. */
  readonly restart: (queue: number) => Effect.Effect<void>
}

interface Entry<A> {
  /** Without its content when that is read: what is left is for the ack. */
  message: ConsumeMessage
  value: A | undefined
  isDone: boolean
}

/** Consumes from the first `take` on, for as long as the scope lives. What it did not ack is delivered again, to whoever consumes then. */
export const makeRabbitConsumer = Effect.fnUntraced(function* <A>(
  options: RabbitConsumerOptions<A>
): Effect.fn.Return<RabbitConsumer<A>, never, Scope.Scope> {
  const metrics = yield* metricsWriter
  const wanted = Latch.makeUnsafe(false)
  const filled = Latch.makeUnsafe(false)
  const fork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  const aside = (subscription: Subscription<A>, entry: Entry<A>, reason: string): void => {
    const { round } = subscription
    const work = options.putAside(entry.message, subscription.queue, reason).pipe(
      Effect.tapError((error) => Effect.logWarning(error.message)),
      Effect.retry(Schedule.spaced("1 second")),
      Effect.andThen(Effect.sync(() => subscription.done(entry, round))),
      Effect.ensuring(Effect.sync(() => subscription.onDrop.delete(end))),
      Effect.ignore
    )
    const end = (): void => fiber.interruptUnsafe()
    subscription.onDrop.add(end)
    const fiber = fork(work)
  }
  const finishedSome = new Set<Subscription<A>>()
  let timer: NodeJS.Timeout | undefined
  const flush = (): void => {
    timer = undefined
    for (const subscription of finishedSome) subscription.flush()
    finishedSome.clear()
  }
  const finished = (subscription: Subscription<A>, count: number): void => {
    if (count === 1) finishedSome.add(subscription)
    if (count * 2 >= options.prefetch) queueMicrotask(() => subscription.flush())
    else timer ??= setTimeout(flush, ACK_MS)
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => clearTimeout(timer)))
  const subscriptions = options.queues.map(
    (queue, index) =>
      new Subscription(
        {
          decode: (message) => options.decode(message, index),
          filled: () => filled.openUnsafe(),
          unreadable: aside,
          finished,
          metrics
        },
        queue
      )
  )
  const consume = (subscription: Subscription<A>): Effect.Effect<never> =>
    options.connection.keep(`Consuming ${options.name}`, (link) =>
      Effect.gen(function* () {
        const { name } = subscription.queue
        if (subscription.declaredOn !== link) yield* declareQueue(link, subscription.queue)
        subscription.declaredOn = link
        // What is to be acked is acked before the channel is closed, which gives back the rest.
        const opened = yield* Effect.acquireRelease(openChannel(link), () => Effect.sync(() => subscription.drop()))
        const { channel } = opened
        subscription.use(opened, () => link.gather())
        yield* ask("set a prefetch", () => channel.prefetch(options.prefetch))
        yield* ask(`deliver from ${name}`, () =>
          channel.consume(name, (message) => subscription.receive(opened, message))
        )
        return yield* Deferred.await(opened.ended)
      }).pipe(Effect.tapError(() => Effect.sync(() => (subscription.declaredOn = undefined))))
    )
  yield* wanted.await.pipe(
    Effect.andThen(Effect.forEach(subscriptions, consume, { concurrency: "unbounded", discard: true })),
    Effect.forkScoped
  )

  let first = 0
  const collect = (weight: number): ReadonlyArray<Taken<A>> => {
    const taken: Array<Taken<A>> = []
    let room = weight
    // Starts at another queue every time, so that a busy one cannot starve those after it.
    first = (first + 1) % subscriptions.length
    for (let i = 0; i < subscriptions.length && room > 0; i++) {
      const subscription = subscriptions[(first + i) % subscriptions.length]!
      for (let entry = subscription.head(); entry !== undefined; entry = subscription.head()) {
        const value = entry.value!
        const weighs = options.weigh(value)
        if (weighs > room && taken.length > 0) break
        room -= weighs
        subscription.shift()
        const { round } = subscription
        const mine = entry
        taken.push({ value, ack: () => subscription.done(mine, round) })
      }
    }
    return taken
  }
  return {
    take: (weight) =>
      Effect.suspend(function attempt(): Effect.Effect<ReadonlyArray<Taken<A>>> {
        wanted.openUnsafe()
        filled.closeUnsafe()
        const taken = collect(weight)
        return taken.length > 0 ? Effect.succeed(taken) : Effect.andThen(filled.await, Effect.suspend(attempt))
      }),
    restart: (queue) => Effect.sync(() => subscriptions[queue]?.restart())
  }
})

const NOTHING = Buffer.alloc(0)

interface Hooks<A> {
  readonly decode: (message: ConsumeMessage) => A | Unreadable
  readonly filled: () => void
  readonly unreadable: (self: Subscription<A>, entry: Entry<A>, reason: string) => void
  /** Called with how many are finished and not acked. */
  readonly finished: (self: Subscription<A>, count: number) => void
  readonly metrics: MetricsWriter
}

/** One queue: what it delivered on the channel of now. Everything of a former channel is forgotten, since it is delivered again. */
class Subscription<A> {
  readonly queue: QueueSpec
  /** Counts the channels, so that what belongs to a former one is known. */
  round = 0
  /** The connection on which the queue was last known to exist. */
  declaredOn: RabbitLink | undefined
  /** What goes on for messages of this channel. */
  readonly onDrop = new Set<() => void>()
  readonly #hooks: Hooks<A>
  #opened: RabbitChannel | undefined
  #gather = (): void => {}
  #waiting: Array<Entry<A>> = []
  /** Delivered on this channel and not acked, in order. At most the prefetch. */
  #unacked: Array<Entry<A>> = []
  /** Finished since the last ack. */
  #finished = 0

  constructor(hooks: Hooks<A>, queue: QueueSpec) {
    this.#hooks = hooks
    this.queue = queue
  }

  use(opened: RabbitChannel, gather: () => void): void {
    this.#opened = opened
    this.#gather = gather
  }

  receive(opened: RabbitChannel, message: ConsumeMessage | null): void {
    // A channel that is about to be closed still delivers.
    if (this.#opened !== opened) return
    if (message === null) {
      this.declaredOn = undefined
      opened.end(`the server ended the consumer of ${this.queue.name}`)
      return
    }
    const entry = { message, value: undefined, isDone: false }
    this.#unacked.push(entry)
    this.#waiting.push(entry)
    this.#hooks.metrics.add("busReceived", 1)
    this.#hooks.filled()
  }

  /** The next one that can be read. */
  head(): Entry<A> | undefined {
    while (true) {
      const entry = this.#waiting[0]
      if (entry === undefined || entry.value !== undefined) return entry
      const read = this.#hooks.decode(entry.message)
      if (!isUnreadable(read)) {
        entry.value = read
        entry.message = { ...entry.message, content: NOTHING }
        return entry
      }
      this.shift()
      this.#hooks.unreadable(this, entry, read.unreadable)
    }
  }

  shift(): void {
    this.#waiting.shift()
    this.#hooks.metrics.add("busReceived", -1)
  }

  done(entry: Entry<A>, round: number): void {
    if (round !== this.round || entry.isDone) return
    entry.isDone = true
    this.#hooks.finished(this, ++this.#finished)
  }

  /** Acks what is finished. */
  flush(): void {
    this.#finished = 0
    const channel = this.#opened?.channel
    if (channel === undefined) return
    try {
      this.#ack(channel)
      this.#gather()
    } catch {
      // The channel has ended, and everything is delivered again.
    }
  }

  #ack(channel: Channel): void {
    const unacked = this.#unacked
    let finished = 0
    while (finished < unacked.length && unacked[finished]!.isDone) finished++
    if (finished > 0) channel.ack(unacked[finished - 1]!.message, true)
    const rest = unacked.slice(finished)
    for (const entry of rest) if (entry.isDone) channel.ack(entry.message)
    this.#unacked = rest.filter((entry) => !entry.isDone)
  }

  restart(): void {
    const opened = this.#opened
    this.drop()
    opened?.end()
  }

  drop(): void {
    this.flush()
    this.round++
    this.#opened = undefined
    for (const end of this.onDrop) end()
    this.onDrop.clear()
    this.#hooks.metrics.add("busReceived", -this.#waiting.length)
    this.#waiting = []
    this.#unacked = []
  }
}

const isUnreadable = (read: unknown): read is Unreadable =>
  typeof read === "object" && read !== null && "unreadable" in read
