import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { CLOSE } from "../domain/protocol/close-codes.ts"
import type { RouterUnavailable } from "../platform/Router.ts"
import type { Connection } from "./Connection.ts"
import type { Node, Waiting } from "./Node.ts"

/** When connections attach again: so many milliseconds apart, all of them within so many, and so many at once. */
const SPREAD_EACH_MS = 5
const SPREAD_MS = 2_000
const AT_ONCE = 32
/** Users that are registered at once. */
const REGISTER_AT_ONCE = 1_000
/** Tries of one connection to reach the log and the read models before its client is sent to try again. */
const ATTEMPTS = 5
/** What is said to be in trouble when they cannot. */
export const ATTACHING = "Attaching connections"
/**
 * Commands that are without an answer this many milliseconds after a connection has attached again are answered `unavailable`: their refusal, or that they were
 * persisted before, may have been lost.
 */
export const ANSWER_AFTER_LOSS_MS = 3_000

/**
 * Brings a connection that has missed a part of the node's stream to where it would be: like `attach`, from what it was given. Its user is registered, and
 * nothing was awaited since.
 */
export const reattach = Effect.fnUntraced(function* (connection: Connection): Effect.fn.Return<void> {
  const { feed, node, user } = connection
  const since = feed?.since
  if (connection.isClosing || feed === undefined || since === undefined || !feed.isSuspended) return
  const loss = feed.hold()
  const found = yield* Effect.gen(function* () {
    yield* node.big.ensure(user)
    const barrier = yield* node.barrier
    node.sees(barrier)
    return { barrier, missed: yield* node.queries.missed({ user, since, seqs: {}, barrier }) }
  }).pipe(
    Effect.tapError((error) => node.quiet.warn(ATTACHING, error.message)),
    Effect.retry({ times: ATTEMPTS - 1, schedule: Schedule.exponential("100 millis") }),
    Effect.result
  )
  if (connection.isClosing || !feed.isSuspended) return
  if (found._tag === "Failure") return connection.close(CLOSE.draining)
  yield* node.quiet.over(ATTACHING)
  // One that takes nothing holds up only itself.
  const resumed = feed.resume(loss, found.success.barrier, found.success.missed)
  node.fork(
    Effect.andThen(
      resumed,
      Effect.sync(() => connection.reattached())
    )
  )
})

/** Registers all users again and attaches all connections that were suspended, as long as no further loss makes that another one's work. */
export const reattachAll = Effect.fnUntraced(function* (node: Node, isCurrent: () => boolean): Effect.fn.Return<void> {
  yield* registerAll(node).pipe(
    Effect.tapError((error) => Effect.logWarning(error.message)),
    Effect.retry({ schedule: Schedule.spaced("200 millis"), while: isCurrent }),
    Effect.ignore
  )
  if (!isCurrent()) return
  // One that has not started attaches by itself.
  const connections = [...node.connections()].filter(({ feed }) => feed?.since !== undefined)
  const began = node.now()
  const spread = Math.min(SPREAD_MS, connections.length * SPREAD_EACH_MS)
  const again = Effect.forEach(
    connections.entries(),
    Effect.fnUntraced(function* ([index, connection]) {
      const wait = began + (spread * index) / connections.length - node.now()
      if (wait > 0) yield* Effect.sleep(wait)
      if (isCurrent()) yield* reattach(connection)
    }),
    { concurrency: AT_ONCE, discard: true }
  )
  yield* Effect.all([again, giveUp(node.requests())], { concurrency: "unbounded", discard: true })
  const receipts = node.receipts.again(node.barrier, node.queries.receipts)
  if (isCurrent()) yield* Effect.catch(receipts, (error) => Effect.logWarning(error.message))
  // Others may have lost the same, and only now have all of their users registered again.
  if (isCurrent()) node.signalsLost()
})

const registerAll = (node: Node): Effect.Effect<void, RouterUnavailable> =>
  Effect.suspend(() =>
    Effect.forEach(node.users(), (user) => node.register(user), { concurrency: REGISTER_AT_ONCE, discard: true })
  )

/** Requests over HTTP have nothing that is replayed to them. */
const giveUp = (waiting: ReadonlyArray<Waiting>): Effect.Effect<void> =>
  Effect.delay(
    Effect.sync(() => {
      for (const one of waiting) one.unknown()
    }),
    ANSWER_AFTER_LOSS_MS
  )
