/** Runs an effect as this process: signals stop it, expected failures are one line each, the exit code tells. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"

/** Signals that come this soon after the first are the same wish: npm sends on what the terminal has sent to both already. */
const SAME_SIGNAL_MS = 500

/** Seconds in which connections to engines and files are closed where less is allowed. */
const CLOSING_SECONDS = 5

const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const

/**
 * Ends this process `seconds` after the signal that stops it (5 at least) with exit code 0, whatever is still being closed then: an engine that is away
 * may hold up what waits for it, and nothing that was acknowledged needs a close.
 */
export const stopWithin = (seconds: number): Effect.Effect<void, never, Scope.Scope> => {
  const within = Math.max(seconds, CLOSING_SECONDS)
  const onSignal = (): void => {
    setTimeout(() => {
      console.error(
        `darda: not all was closed within ${within} seconds; it ends as it is, and what was acknowledged is safe`
      )
      process.exit(0)
    }, within * 1_000)
  }
  return Effect.acquireRelease(
    Effect.sync(() => {
      for (const signal of STOP_SIGNALS) process.once(signal, onSignal)
    }),
    () =>
      Effect.sync(() => {
        for (const signal of STOP_SIGNALS) process.off(signal, onSignal)
      })
  )
}

/** Several lines that one failure has to say, such as every wrong setting. */
export class Failures extends Error {
  readonly _tag = "Failures"
  readonly lines: ReadonlyArray<string>
  constructor(lines: ReadonlyArray<string>) {
    super(lines.join("\n"))
    this.lines = lines
  }
}

/** What a failure says to a person. Only a bug has a stack to show. */
export const failureLines = (cause: Cause.Cause<unknown>): ReadonlyArray<string> => {
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure === undefined) return [`a bug ended this process; please report it: ${Cause.pretty(cause)}`]
  const error = failure.error
  if (error instanceof Failures) return error.lines
  const message = error instanceof Error ? error.message : JSON.stringify(error)
  return [oneLine(message)]
}

/** A message of several lines as one. */
export const oneLine = (message: string): string => message.trim().replace(/\s*\n\s*/g, " ")

/**
 * Runs the effect and ends the process: 0 when it succeeded or was stopped by a signal, 1 when it failed. The first SIGINT or SIGTERM
 * interrupts it and lets it close in peace, the next ends the process at once.
 */
export const runProcess = <E>(effect: Effect.Effect<unknown, E>, isSilent: (error: unknown) => boolean): void => {
  let stoppedAt = 0
  const fiber = Effect.runFork(effect)
  // Only the fiber decides when it is over: node would leave as soon as no socket, timer or thread is left.
  setInterval(() => {}, 2 ** 31 - 1)
  const onSignal = () => {
    const now = performance.now()
    if (stoppedAt === 0) {
      stoppedAt = now
      fiber.interruptUnsafe()
    } else if (now - stoppedAt > SAME_SIGNAL_MS) {
      console.error("darda: stopped at once by a second signal; what was acknowledged is safe")
      process.exit(1)
    }
  }
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal)
  // Whoever reads our output may leave before us (darda serve --help | head), which must not end a server.
  process.stdout.on("error", () => {})
  fiber.addObserver((exit) => {
    if (Exit.isSuccess(exit) || (stoppedAt > 0 && Cause.hasInterruptsOnly(exit.cause))) return process.exit(0)
    const silent = exit.cause.reasons.some((reason) => Cause.isFailReason(reason) && isSilent(reason.error))
    if (!silent) for (const line of failureLines(exit.cause)) process.stderr.write(`darda: ${line}\n`)
    process.exit(1)
  })
}
