/** Transactions in MongoDB by the rules of its labels, in the one session of a process. */
import { type ClientSession, MongoNetworkError, MongoServerSelectionError } from "mongodb"
import { setTimeout as sleep } from "node:timers/promises"
import { isLabelled, mongoCode } from "../platform/MongoConnection.ts"

/** How long one transaction is tried again, all tries together. */
const TRY_MS = 15_000
/** How often a commit without an answer is asked for again before the log itself is. */
const COMMIT_TRIES = 3
const FIRST_PAUSE_MS = 5
const LAST_PAUSE_MS = 500
/** An operation was ended by `killSessions`: whoever did that has taken a partition over, as the next try will find. */
const INTERRUPTED = 11601

/** A try that may do better from the start, though MongoDB did not say so. */
export class TryAgain extends Error {}

/** Nobody knows whether the transaction was committed, and what the log holds does not tell either. */
export class OutcomeUnknown extends Error {
  constructor(cause: unknown) {
    super("the commit was not answered, and may have taken place", { cause })
  }
}

/** An end of a transaction that is certain, also when a commit before it is in doubt. */
export abstract class Certain extends Error {}

export interface Attempt<A> {
  /**
   * The writes, and what to answer when they are committed. Called again for every try; `inDoubt` when one before may have been committed
   * after all, and then only a {@link Certain} failure may be final.
   */
  readonly work: (inDoubt: boolean) => Promise<A>
  /** Asked when a commit is in doubt: the answer, if the log holds what `work` writes. */
  readonly landed: () => Promise<A | undefined>
  readonly retried: () => void
  /** Aborted when nobody waits for the answer any more: then nothing new is begun. */
  readonly signal: AbortSignal
}

/**
 * Runs a transaction until it is committed or cannot be. The driver's `withTransaction` does most of this, but for up to two minutes, and does
 * not tell who calls it that a commit is in doubt.
 */
export const transact = async <A>(session: ClientSession, attempt: Attempt<A>): Promise<A> => {
  const deadline = performance.now() + TRY_MS
  const mayGoOn = () => performance.now() < deadline && !attempt.signal.aborted
  let doubt: unknown
  for (let tries = 0; ; tries++) {
    try {
      await abandon(session)
      session.startTransaction({ readConcern: { level: "snapshot" }, readPreference: "primary" })
      const answer = await attempt.work(doubt !== undefined)
      attempt.signal.throwIfAborted()
      await commit(session, mayGoOn, (cause) => (doubt = cause))
      return answer
    } catch (cause) {
      const answer = doubt === undefined ? undefined : await attempt.landed().catch(() => undefined)
      if (answer !== undefined) return answer
      if (!mayDoBetter(cause) || !mayGoOn()) {
        // Nobody works on it any more, so it must not hold a partition's head.
        await abandon(session).catch(() => {})
        throw doubt === undefined || cause instanceof Certain ? cause : new OutcomeUnknown(cause)
      }
      attempt.retried()
      await pause(tries)
    }
  }
}

const commit = async (
  session: ClientSession,
  mayGoOn: () => boolean,
  doubted: (cause: unknown) => void
): Promise<void> => {
  for (let tries = 1; ; tries++) {
    try {
      return await session.commitTransaction()
    } catch (cause) {
      if (!isLabelled(cause, "UnknownTransactionCommitResult") && !isNetwork(cause)) throw cause
      doubted(cause)
      if (tries === COMMIT_TRIES || !mayGoOn()) throw cause
      await pause(tries)
    }
  }
}

/** The server ends what this session left; what it cannot be told of ends with the next transaction of the session. */
const abandon = async (session: ClientSession): Promise<void> => {
  if (session.inTransaction()) await session.abortTransaction()
}

/** The driver leaves out its labels where a connection was closed because its server is not heard of. */
const isNetwork = (cause: unknown): boolean =>
  cause instanceof MongoNetworkError || cause instanceof MongoServerSelectionError

const mayDoBetter = (cause: unknown): boolean =>
  cause instanceof TryAgain ||
  isLabelled(cause, "TransientTransactionError") ||
  // Once more from the start: the ids of events see to it that it is not written twice.
  isLabelled(cause, "UnknownTransactionCommitResult") ||
  isNetwork(cause) ||
  mongoCode(cause) === INTERRUPTED

const pause = (tries: number): Promise<void> =>
  sleep(Math.random() * Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 1.5 ** tries))
