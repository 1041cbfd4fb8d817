/** One connection to RabbitMQ and its channels, from when they are open until they are lost. */
import type { Channel, ChannelModel, ConfirmChannel } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { EventEmitter } from "node:events"
import type { Duplex } from "node:stream"

/** RabbitMQ did not do something, or nobody knows whether it did. */
export class RabbitUnavailable extends Schema.TaggedError<RabbitUnavailable>()("RabbitUnavailable", {
  operation: Schema.String,
  reason: Schema.String,
  /** AMQP's reply code where the server gave one: 404, 406, … */
  code: Schema.optionalKey(Schema.Number)
}) {
  override get message(): string {
    return `RabbitMQ did not ${this.operation}: ${this.reason}.`
  }
}

/** What an amqplib error says. It holds neither the address nor what was published. */
export const rabbitUnavailable = (operation: string, error: unknown): RabbitUnavailable => {
  const { code, message } = (error ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  const reason = typeof message === "string" && message !== "" ? message.replace(/\.+$/, "") : "the connection ended"
  return new RabbitUnavailable({ operation, reason, ...(typeof code === "number" ? { code } : {}) })
}

/** Whether a message was refused by its queue, which is full or just being made: amqplib has no other word for it. */
export const isRefusal = (error: unknown): boolean => error instanceof Error && error.message === "message nacked"

/** What is asked on an open connection. */
const ANSWER_MS = 10_000
/** How long a connection or channel is waited for that was told to end. */
const END_MS = 2_000

/** One connection, from when it is open until it is lost. */
export class RabbitLink {
  readonly model: ChannelModel
  /** Answers why it was lost. */
  readonly lost = Deferred.makeUnsafe<string>()
  isLost = false
  /** The server takes no more of what is published, for want of memory or disk. */
  isBlocked = false
  /** Called when that changes, after it has. */
  readonly onBlocked = new Set<() => void>()
  onLost: () => void = () => {}
  #isGathering = false
  /** Its socket is no part of what amqplib promises: without it, it only costs more. */
  readonly #inner: { readonly stream?: Duplex }

  /** Has to be made in the same step in which the connection comes, or an error of it finds no listener and ends the process. */
  constructor(model: ChannelModel) {
    this.model = model
    this.#inner = model.connection as { readonly stream?: Duplex }
    model.on("error", (error) => this.giveUp(error.message))
    model.on("close", (error) => this.giveUp(error?.message ?? "it was closed"))
    model.on("blocked", () => this.#block(true))
    model.on("unblocked", () => this.#block(false))
  }

  /** Takes the connection for lost. Whoever made it ends it, and makes another. */
  giveUp(reason: string): void {
    if (this.isLost) return
    this.isLost = true
    this.#block(false)
    this.onLost()
    Deferred.doneUnsafe(this.lost, Effect.succeed(reason.replace(/\.+$/, "")))
  }

  /**
   * Lets the frames of this step leave together, called after they are given to amqplib. It writes each for itself, and the calls of the operating system
   * that takes cost more than all else.
   */
  gather(): void {
    if (this.#isGathering || this.isLost) return
    this.#isGathering = true
    const { stream } = this.#inner
    stream?.cork()
    // amqplib hands over what its channels were given in the immediate that is set by then.
    process.nextTick(() =>
      setImmediate(() => {
        this.#isGathering = false
        stream?.uncork()
      })
    )
  }

  #block(isBlocked: boolean): void {
    if (this.isBlocked === isBlocked) return
    this.isBlocked = isBlocked
    for (const listener of this.onBlocked) listener()
  }

  /** Ends it, by force after 2 s: a server that is gone never answers. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.giveUp("it was ended")
    return settled(this.model, () => this.model.close())
  }).pipe(
    Effect.andThen(
      Effect.sync(() => {
        // Of its own amqplib only ends its half, and what it has not written yet stays in memory as long as the other end is silent.
        this.#inner.stream?.destroy()
      })
    )
  )
}

/** Waits until it is closed. What `close` of amqplib promises may never come, when the other end closes first; and it fails for what is closed already. */
const settled = (closing: EventEmitter, close: () => Promise<unknown>): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const done = (): void => resume(Effect.void)
    closing.once("close", done)
    close().then(done, done)
  }).pipe(Effect.timeoutOrElse({ duration: END_MS, orElse: () => Effect.void }))

/** A channel of a connection, and when it ended. */
export class RabbitChannel<C extends Channel = Channel> {
  readonly channel: C
  /** Answers why it ended; undefined where that was intended. */
  readonly ended = Deferred.makeUnsafe<string | undefined>()
  isOpen = true
  #reason = "the channel was closed"

  constructor(channel: C) {
    this.channel = channel
    channel.on("error", (error) => void (this.#reason = error.message))
    channel.on("close", () => this.end(this.#reason))
  }

  /** From now on it counts as ended. Whoever opened it closes it. */
  end(reason?: string): void {
    this.isOpen = false
    Deferred.doneUnsafe(this.ended, Effect.succeed(reason))
  }
}

/**
 * Asks something of the server. One queue that does not answer, as without a leader, holds up its own channel only; whether the connection is alive is for the
 * heartbeats to say.
 */
export const ask = <A>(operation: string, question: () => Promise<A>): Effect.Effect<A, RabbitUnavailable> =>
  Effect.tryPromise({ try: question, catch: (error) => rabbitUnavailable(operation, error) }).pipe(
    Effect.timeoutOrElse({
      duration: ANSWER_MS,
      orElse: () => Effect.fail(new RabbitUnavailable({ operation, reason: `no answer within ${ANSWER_MS / 1000} s` }))
    })
  )

/** Opens a channel that lives as long as the scope. A connection on which that fails is given up: it may have ended before anyone listened. */
const open = <C extends Channel>(link: RabbitLink, make: () => Promise<C>) =>
  Effect.acquireRelease(
    ask("open a channel", () => make().then((channel) => new RabbitChannel(channel))).pipe(
      Effect.tapError((error) => Effect.sync(() => link.giveUp(error.reason)))
    ),
    (channel) =>
      Effect.suspend(() => {
        channel.end()
        return settled(channel.channel, () => channel.channel.close())
      })
  )

export const openChannel = (link: RabbitLink): Effect.Effect<RabbitChannel, RabbitUnavailable, Scope.Scope> =>
  open(link, () => link.model.createChannel())

export const openConfirmChannel = (
  link: RabbitLink
): Effect.Effect<RabbitChannel<ConfirmChannel>, RabbitUnavailable, Scope.Scope> =>
  open(link, () => link.model.createConfirmChannel())
