/** `darda dead-letters`: what could not be read in RabbitMQ. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { layerLogging } from "../platform/Logging.ts"
import { engineAddresses, Settings } from "../platform/Settings.ts"
import {
  type DeadLettersOptions,
  dropLetters,
  type Handled,
  type Letter,
  listLetters,
  retryLetters,
  showLetter
} from "../write-side/DeadLettersRabbit.ts"
import { EventLog } from "../write-side/EventLog.ts"
import { layerLog, scopeOf } from "./cluster.ts"
import { Failures } from "./run.ts"

/** Runs with the queues of the log that the settings name. */
const command = <A, E>(work: (options: DeadLettersOptions) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const settings = yield* Settings
    const engines = engineAddresses(settings)
    if (engines === undefined)
      return yield* Effect.fail(new Error("Dead letters are in RabbitMQ: set MONGO_URL, AMQP_URL and REDIS_URL"))
    const { id } = yield* Effect.provide(EventLog, layerLog(settings, engines, { mustExist: true }))
    return yield* work({ address: engines.amqp, scope: scopeOf(id) })
  }).pipe(Effect.provide(layerLogging))

/** Text of a stranger for a terminal: on one line, and without what would steer it. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd")

/** Lines of a text, each for itself harmless. */
const printableLines = (text: string): string => text.split("\n").map(printable).join("\n")

const facts = ({ id, queue, reason, size, time }: Letter): ReadonlyArray<string> => [
  `id      ${printable(id)}`,
  `time    ${printable(time === "" ? "not known" : time)}`,
  `queue   ${printable(queue === "" ? "not known" : queue)}`,
  `size    ${size} bytes`,
  `reason  ${printable(reason)}`
]

/** The first 1,000 letters. */
export const list = command(
  Effect.fnUntraced(function* (options: DeadLettersOptions) {
    const { letters, more } = yield* listLetters(options)
    if (letters.length === 0) return yield* Console.log("There are no dead letters")
    for (const letter of letters) {
      for (const line of facts(letter)) yield* Console.log(line)
      yield* Console.log(`begins  ${printable(letter.start)}\n`)
    }
    const count = letters.length === 1 ? "1 dead letter" : `${letters.length} dead letters`
    yield* Console.log(more === 0 ? count : `${count}, and ${more} more behind them`)
  })
)

/** One letter as a whole. */
export const show = (id: string) =>
  command(
    Effect.fnUntraced(function* (options: DeadLettersOptions) {
      const letter = yield* showLetter(options, id)
      if (letter === undefined) return yield* Effect.fail(new Failures([missing(id)]))
      for (const line of facts(letter)) yield* Console.log(line)
      yield* Console.log(`\n${printableLines(letter.content.toString())}`)
    })
  )

const missing = (id: string): string =>
  `there is no letter ${id} among the first 1,000; darda dead-letters list shows them`

const handle =
  (
    did: string,
    work: (options: DeadLettersOptions, ids: ReadonlyArray<string> | "all") => ReturnType<typeof dropLetters>
  ) =>
  (ids: ReadonlyArray<string>, all: boolean) =>
    command(
      Effect.fnUntraced(function* (options: DeadLettersOptions) {
        if (all === ids.length > 0)
          return yield* Effect.fail(new Failures(["name the letters by their ids, or all of them by --all"]))
        const handled: Handled = yield* work(options, all ? "all" : ids)
        yield* Console.log(`${did} ${handled.done.length === 1 ? "1 letter" : `${handled.done.length} letters`}`)
        const problems = [
          ...handled.kept.map(({ id, reason }) => `${printable(id)} is kept: ${printable(reason)}`),
          ...handled.missing.map((id) => missing(printable(id)))
        ]
        if (problems.length > 0) return yield* Effect.fail(new Failures(problems))
      })
    )

/** Sends letters back to the queues that they came from. */
export const retry = handle("Sent back", retryLetters)

/** Throws letters away. */
export const drop = handle("Threw away", dropLetters)
