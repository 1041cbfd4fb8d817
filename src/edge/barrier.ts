import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

/**
 * Shares one reading among all who wait: every answer was read after its caller asked, and at most one reading is under way. Whoever asks
 * while one is under way waits for the next.
 */
export const makeBarrier = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> => {
  let waiting: Array<Deferred.Deferred<A, E>> = []
  let reading = false
  const work: Effect.Effect<void> = Effect.gen(function* () {
    while (waiting.length > 0) {
      const served = waiting
      waiting = []
      const exit = yield* Effect.exit(read)
      for (const deferred of served) Deferred.doneUnsafe(deferred, exit)
    }
    reading = false
  })
  return Effect.suspend(() => {
    const mine = Deferred.makeUnsafe<A, E>()
    waiting.push(mine)
    if (reading) return Deferred.await(mine)
    reading = true
    // Detached: the reading serves others too, and outlives whoever happened to start it.
    return Effect.andThen(Effect.forkDetach(work, { startImmediately: true }), Deferred.await(mine))
  })
}
