import { randomBytes } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { CLOSE } from "../domain/protocol/close-codes.ts"
import { CURSOR_EVERY_MS } from "../domain/protocol/limits.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { Tracing } from "../platform/Tracing.ts"
import { Router, type RouterUnavailable } from "../platform/Router.ts"
import { Queries } from "../read-side/Queries.ts"
import { CommandBus } from "../write-side/CommandBus.ts"
import { LogHeads } from "../write-side/EventLog.ts"
import { Auth } from "./auth/Auth.ts"
import { Connection } from "./Connection.ts"
import { drain } from "./drain.ts"
import { CommandRefused, Hub, type Persisted } from "./Hub.ts"
import { HEDGE_TICK_MS } from "./Hedge.ts"
import { type EdgeLimits, Node } from "./Node.ts"
import type { Transport } from "./Transport.ts"

/** How long a request over HTTP waits for its command. */
const REQUEST_WITHIN = "25 seconds"
/** Items taken from the node's stream at once. */
const STREAM_BATCH = 1_000

/** A name that nobody can guess, for sessions, nodes and boots: 128 random bits. */
export const newId = (): string => randomBytes(16).toString("base64url")

/** The edge of this process. */
export class Edge extends Context.Service<
  Edge,
  {
    readonly node: Node
    /** Serves a connection on this transport, until it is told that the socket has ended. */
    readonly connect: (transport: Transport) => Connection
    /** Follows the node's stream, its signals and the clock. Never ends. */
    readonly run: Effect.Effect<never>
    /** Takes nobody any more and sends all clients elsewhere, within most of so many seconds. */
    readonly drain: (seconds: number) => Effect.Effect<void>
    readonly accepting: () => boolean
  }
>()("darda/edge/Edge") {
  static readonly layer = (
    limits: EdgeLimits,
    hedgeMs?: number
  ): Layer.Layer<Edge, never, LogHeads | CommandBus | Router | Queries | Auth> =>
    Layer.effect(
      Edge,
      Effect.gen(function* () {
        const router = yield* Router
        const clock = yield* Clock.Clock
        const fork = yield* FiberSet.makeRuntime<never, void, never>()
        const bus = yield* CommandBus
        const node = new Node({
          limits,
          hedgeMs,
          now: () => clock.currentTimeMillisUnsafe(),
          log: yield* LogHeads,
          bus,
          router,
          queries: yield* Queries,
          auth: yield* Auth,
          metrics: yield* metricsWriter,
          tracing: yield* Tracing,
          fork: (effect) =>
            void fork(Effect.catchDefect(effect, (defect) => Effect.logError("Work of a connection failed", defect)))
        })
        // Whoever is still connected when the node goes is told to come back.
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            for (const connection of node.connections()) connection.close(CLOSE.draining)
          })
        )
        yield* bus.onSent((batch) => node.sent(batch))
        let accepting = true
        return Edge.of({
          node,
          connect: (transport) => new Connection(node, newId(), transport),
          run: Effect.all(
            [
              follow(
                router.take(STREAM_BATCH).pipe(
                  Effect.catchTag("StreamLost", (lost) => {
                    node.lost()
                    return Effect.as(Effect.logWarning(lost.message), NOTHING)
                  })
                ),
                (items) => node.take(items)
              ),
              follow(
                router.takeSignals.pipe(
                  Effect.catchTag("StreamLost", () =>
                    Effect.as(
                      Effect.sync(() => node.signalsLost()),
                      NOTHING
                    )
                  )
                ),
                (signals) => node.takeSignals(signals)
              ),
              hedgeMs === undefined
                ? Effect.void
                : Effect.forever(
                    Effect.andThen(
                      Effect.sleep(HEDGE_TICK_MS),
                      Effect.sync(() => node.hedge())
                    )
                  ),
              Effect.forever(
                Effect.andThen(
                  Effect.sleep(CURSOR_EVERY_MS),
                  Effect.sync(() => node.tick())
                )
              )
            ],
            { concurrency: "unbounded", discard: true }
          ).pipe(Effect.andThen(Effect.never)),
          drain: (seconds) =>
            Effect.suspend(() => {
              accepting = false
              return drain(node, seconds)
            }),
          accepting: () => accepting
        })
      })
    )
}

const NOTHING: ReadonlyArray<never> = []

const follow = <A>(
  take: Effect.Effect<ReadonlyArray<A>, RouterUnavailable>,
  act: (taken: ReadonlyArray<A>) => void
): Effect.Effect<never> =>
  take.pipe(
    Effect.flatMap((items) => {
      act(items)
      // Mostly the next one has to come first. Where it is there already, what was queued is written before it, and others have their turn.
      return items.length < STREAM_BATCH ? Effect.void : Effect.yieldNow
    }),
    Effect.forever({ disableYield: true }),
    Effect.tapError((error) => Effect.logWarning(error.message)),
    Effect.retry(Schedule.spaced("100 millis")),
    Effect.orDie
  )

/** The hub on this process's edge. */
export const layerHub: Layer.Layer<Hub, never, Edge> = Layer.effect(
  Hub,
  Effect.gen(function* () {
    const edge = yield* Edge
    const { node } = edge
    return Hub.of({
      request: Effect.fnUntraced(function* (command): Effect.fn.Return<Persisted, CommandRefused> {
        const session = newId()
        const { conv } = command
        const done = Deferred.makeUnsafe<Persisted, CommandRefused>()
        const unknown = Effect.fail(
          new CommandRefused({
            code: "unavailable",
            message: "No answer from the log yet. The command may still be persisted; sending it again is safe."
          })
        )
        const taken = node.await(session, command, {
          persisted: ({ at, seq }) => void Deferred.doneUnsafe(done, Effect.succeed({ conv, seq, at, dup: false })),
          answer: ({ outcome }) =>
            void Deferred.doneUnsafe(
              done,
              outcome._tag === "Repeat"
                ? Effect.succeed({ conv, seq: outcome.seq, at: outcome.at, dup: true })
                : Effect.fail(new CommandRefused(outcome.rejection))
            ),
          unknown: () => void Deferred.doneUnsafe(done, unknown)
        })
        if (!taken) {
          return yield* new CommandRefused({
            code: "busy",
            message: "The server takes no more commands at the moment; send it again.",
            retryAfterMs: 1000
          })
        }
        return yield* Deferred.await(done).pipe(
          Effect.timeoutOrElse({ duration: REQUEST_WITHIN, orElse: () => unknown }),
          Effect.ensuring(Effect.sync(() => node.forget(session)))
        )
      }),
      listen: (user, onEvent, onLost) => node.listen(user, { event: onEvent, lost: onLost }),
      presence: (user, users) => node.presence.of(user, users),
      seen: () => node.seen(),
      size: () => node.size
    })
  })
)
