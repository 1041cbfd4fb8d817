import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { atLeast, zeroVector } from "../domain/partition.ts"
import { CLOSE } from "../domain/protocol/close-codes.ts"
import type { Hello } from "../domain/protocol/client-frames.ts"
import type { Connection } from "./Connection.ts"
import { decodeCursor, encodeCursor } from "./cursor.ts"
import { Frame } from "./Frame.ts"
import { ATTACHING, reattach } from "./reattach.ts"

/** Tries to reach the log and the read models before the client is sent to try again. */
const ATTEMPTS = 5

/**
 * The one way by which a connection gets from nothing, or from where it was, to live:
 * (a) register the route, from when on what is committed finds this node; (b) a barrier: all partition heads, read after (a);
 * (c) what was missed up to the barrier; (d) replay that, while live events of those conversations only raise the mark to replay to;
 * (e) live. What was committed before (a) is in (c), and what is committed after (a) finds the route.
 */
export const attach = Effect.fnUntraced(function* (connection: Connection, hello: Hello): Effect.fn.Return<void> {
  const { node } = connection
  const began = node.now()
  const identity = yield* Effect.result(node.identify(hello))
  if (connection.isClosing) return
  if (identity._tag === "Failure") return connection.close(CLOSE.refused)
  const { expiresAt, user } = identity.success
  if (expiresAt <= node.now()) return connection.close(CLOSE.tokenExpired)

  const feed = connection.greet(user, expiresAt)
  const attached = Effect.gen(function* () {
    for (;;) {
      // Tried again after it ended, it would be known by its user for ever.
      if (connection.isClosing) return undefined
      feed.begin()
      yield* node.join(connection)
      const barrier = yield* node.barrier
      node.sees(barrier)
      const resume = hello.resume
      const given = resume === undefined ? undefined : decodeCursor(node.log.id, node.log.partitions, resume.cursor)
      // One that is ahead of the log was given before the log was put back from a backup: unknown, too.
      const since = given !== undefined && atLeast(barrier, given) ? given : undefined
      const missed =
        resume === undefined ? [] : yield* node.queries.missed({ user, since, seqs: resume.seqs ?? {}, barrier })
      // The route was lost again meanwhile.
      if (feed.isSuspended) continue
      return { barrier, missed, since, resumed: resume !== undefined }
    }
  })
  const result = yield* attached.pipe(
    Effect.tapError((error) => node.quiet.warn(ATTACHING, error.message)),
    Effect.retry({ times: ATTEMPTS - 1, schedule: Schedule.exponential("100 millis") }),
    Effect.result
  )
  if (connection.isClosing) return
  if (result._tag === "Failure" || result.success === undefined) return connection.close(CLOSE.draining)

  yield* node.quiet.over(ATTACHING)
  const { barrier, missed, resumed, since } = result.success
  const recovered = resumed && since !== undefined
  node.metrics.update("attachMillis", node.now() - began)
  if (resumed) node.metrics.update("resumed", missed.length)
  // Nothing of what was missed has been given yet, so a resumed connection is told its own cursor, and an unknown one becomes "nothing".
  const cursor = !resumed ? barrier : (since ?? zeroVector(node.log.partitions))
  connection.push(
    new Frame({
      t: "welcome",
      sid: connection.id,
      user,
      cursor: encodeCursor(node.log.id, cursor),
      recovered,
      now: node.now(),
      limits: node.told
    })
  )
  yield* feed.announce(missed)
  feed.start(barrier, missed)
  if (!feed.isSuspended) return
  // The route was lost while what was missed was announced.
  const { losses } = node
  const registered = yield* Effect.result(node.register(user))
  if (registered._tag === "Failure") return connection.close(CLOSE.draining)
  // Lost again: then it is one of those that all attach again.
  if (node.losses === losses) yield* reattach(connection)
})
