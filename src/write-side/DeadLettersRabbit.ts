/** What operators do with the dead letters of RabbitMQ: look, send back, throw away. */
import type { Channel, ConfirmChannel, GetMessage } from "amqplib"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { EngineAddress } from "../platform/EngineAddress.ts"
import { connectOnce } from "../platform/RabbitConnection.ts"
import { type LetterFacts, letterFacts, retryOf } from "../platform/rabbitLetters.ts"
import {
  ask,
  isRefusal,
  openChannel,
  openConfirmChannel,
  type RabbitLink,
  type RabbitUnavailable
} from "../platform/RabbitLink.ts"
import { deadLetterQueue, eventQueue, queuePrefix } from "../platform/rabbitQueues.ts"

/** Letters that are looked at once. Those behind them come into view when these are sent back or thrown away. */
const LOOK_LETTERS = 1_000
/** Bytes of a letter that a list shows. */
const START_BYTES = 80
const NOT_FOUND = 404

export interface DeadLettersOptions {
  readonly address: EngineAddress
  /** Names the log's queues. */
  readonly scope: string
}

export interface Letter extends LetterFacts {
  /** Bytes. */
  readonly size: number
  /** The first 80 bytes as UTF-8; what is not UTF-8 in them is replaced. */
  readonly start: string
}

export interface WholeLetter extends Letter {
  readonly content: Buffer
}

/** Letters in the order in which they are waiting, at most 1,000, and how many more there are. */
export interface Letters {
  readonly letters: ReadonlyArray<Letter>
  readonly more: number
}

/** What became of the letters that were named. */
export interface Handled {
  readonly done: ReadonlyArray<string>
  /** Letters that were found and are still there, with the reason. */
  readonly kept: ReadonlyArray<{ readonly id: string; readonly reason: string }>
  /** Ids that are not among the first 1,000 letters, or that somebody else is just looking at. */
  readonly missing: ReadonlyArray<string>
}

const letterOf = (message: GetMessage): Letter => ({
  ...letterFacts(message),
  size: message.content.length,
  start: message.content.subarray(0, START_BYTES).toString()
})

/**
 * Takes the letters one after another without acking them and shows each to `see`, which answers whether it has seen enough. All that is not acked is back in
 * the queue when the channel closes, and also when this process dies. Looks at those that are there when it begins, and answers how many more there are.
 */
const look = Effect.fnUntraced(function* (
  link: RabbitLink,
  scope: string,
  see: (message: GetMessage, channel: Channel) => Effect.Effect<boolean, RabbitUnavailable>
) {
  const { channel } = yield* openChannel(link)
  const { name } = deadLetterQueue(scope)
  let more = 0
  let limit = LOOK_LETTERS
  for (let i = 0; i < limit; i++) {
    const message = yield* ask("give a dead letter", () => channel.get(name)).pipe(
      // Nothing was ever put aside.
      Effect.catchIf(
        ({ code }) => code === NOT_FOUND,
        () => Effect.succeed(false as const)
      )
    )
    if (message === false) return 0
    more = message.fields.messageCount
    // What is put aside from now on is not looked at: it may be what was just sent back.
    if (i === 0) limit = Math.min(limit, more + 1)
    if (yield* see(message, channel)) return more
  }
  return more
}, Effect.scoped)

const connected = <A>(
  { address }: DeadLettersOptions,
  work: (link: RabbitLink) => Effect.Effect<A, RabbitUnavailable, Scope.Scope>
): Effect.Effect<A, RabbitUnavailable> =>
  Effect.scoped(Effect.flatMap(connectOnce({ address, name: "dead letters" }), work))

/** The first 1,000 letters. */
export const listLetters = (options: DeadLettersOptions): Effect.Effect<Letters, RabbitUnavailable> =>
  connected(options, (link) =>
    Effect.gen(function* () {
      const letters: Array<Letter> = []
      const more = yield* look(link, options.scope, (message) =>
        Effect.sync(() => {
          letters.push(letterOf(message))
          return false
        })
      )
      return { letters, more }
    })
  )

/** One of the first 1,000 letters with its content. */
export const showLetter = (
  options: DeadLettersOptions,
  id: string
): Effect.Effect<WholeLetter | undefined, RabbitUnavailable> =>
  connected(options, (link) =>
    Effect.gen(function* () {
      let found: WholeLetter | undefined
      yield* look(link, options.scope, (message) =>
        Effect.sync(() => {
          const letter = letterOf(message)
          if (letter.id !== id) return false
          found = { ...letter, content: message.content }
          return true
        })
      )
      return found
    })
  )

/** Does something with a letter; answers a reason where it has to stay. */
type Handle = (message: GetMessage, letter: Letter) => Effect.Effect<string | undefined, RabbitUnavailable>

/** Handles the letters of these ids, or all of the first 1,000. */
const each = (
  options: DeadLettersOptions,
  ids: ReadonlyArray<string> | "all",
  make: (link: RabbitLink) => Effect.Effect<Handle, RabbitUnavailable, Scope.Scope>
): Effect.Effect<Handled, RabbitUnavailable> =>
  connected(
    options,
    Effect.fnUntraced(function* (link) {
      const handle = yield* make(link)
      const wanted = ids === "all" ? undefined : new Set(ids)
      const done: Array<string> = []
      const kept: Array<{ readonly id: string; readonly reason: string }> = []
      yield* look(
        link,
        options.scope,
        Effect.fnUntraced(function* (message, channel) {
          const letter = letterOf(message)
          if (wanted !== undefined && !wanted.has(letter.id)) return false
          const reason = yield* handle(message, letter)
          if (reason === undefined) {
            channel.ack(message)
            done.push(letter.id)
          } else kept.push({ id: letter.id, reason })
          return false
        })
      )
      const found = new Set([...done, ...kept.map(({ id }) => id)])
      return { done, kept, missing: [...(wanted ?? [])].filter((id) => !found.has(id)) }
    })
  )

/** Throws letters away. */
export const dropLetters = (
  options: DeadLettersOptions,
  ids: ReadonlyArray<string> | "all"
): Effect.Effect<Handled, RabbitUnavailable> =>
  each(options, ids, () => Effect.succeed(() => Effect.succeed<string | undefined>(undefined)))

/**
 * Sends letters back to the queues that they came from. Each is confirmed there before it leaves the dead letters, so that whoever kills this in between finds it in
 * both, and never in neither. Commands in it are decided then, and those that were decided before are answered as repeats.
 */
export const retryLetters = (
  options: DeadLettersOptions,
  ids: ReadonlyArray<string> | "all"
): Effect.Effect<Handled, RabbitUnavailable> => {
  const prefix = queuePrefix(options.scope)
  const isOurs = (queue: string) => queue.startsWith(`${prefix}commands.`) || queue === eventQueue(options.scope).name
  return each(options, ids, (link) =>
    Effect.map(
      openConfirmChannel(link),
      ({ channel }): Handle =>
        ({ content }, { id, queue }) =>
          isOurs(queue)
            ? ask(`take ${id} for ${queue}`, () => sendBack(channel, queue, content, id))
            : Effect.succeed(
                `it came from ${queue === "" ? "nobody knows where" : queue}, which is no queue of this log`
              )
    )
  )
}

/** Answers when it is confirmed; with a reason when the queue does not take it. */
const sendBack = (channel: ConfirmChannel, queue: string, content: Buffer, id: string): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    let isReturned = false
    const returned = (): void => void (isReturned = true)
    channel.once("return", returned)
    channel.sendToQueue(queue, content, { ...retryOf(id), persistent: true, mandatory: true }, (error: unknown) => {
      channel.off("return", returned)
      if (isReturned) resolve(`${queue} does not exist`)
      else if (error === null) resolve(undefined)
      else if (isRefusal(error)) resolve(`${queue} refused it, as when it is full`)
      else reject(error)
    })
  })
