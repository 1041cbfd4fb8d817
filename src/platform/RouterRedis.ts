import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { EngineAddress } from "./EngineAddress.ts"
import { Readiness } from "./Readiness.ts"
import {
  connectRedis,
  pipelined,
  type RedisCommand,
  type RedisConnection,
  type RedisUnavailable
} from "./RedisConnection.ts"
import { type NodeItem, Router, RouterUnavailable } from "./Router.ts"
import { Encoder } from "./RouterRedisItems.ts"
import { makeKeys, nodeOf, type RouterKeys } from "./RouterRedisKeys.ts"
import { Lease, STREAM_KEPT_MS } from "./RouterRedisLease.ts"
import { Routes } from "./RouterRedisRoutes.ts"
import { defineScripts, named } from "./RouterRedisScripts.ts"
import { Signals } from "./RouterRedisSignals.ts"
import { NodeStream } from "./RouterRedisStream.ts"

/**
 * Bytes that wait in one node's stream. Beyond that its lease ends, as if it had died: the sender waits for nobody, and the node finds out within a second and
 * reads from the log what it has missed.
 */
const STREAM_BYTES = 16 * 1024 * 1024
/** How long the start waits for this node to be known to others; then it goes on, and tries further. */
const FIRST_MS = 2_000
/** A reading that blocks for half a second has failed after this. */
const READ_MS = 1_500
/** How long a subscriber's connection may be without an answer. */
const SUBSCRIBER_MS = 1_000

export interface RouterRedisOptions {
  readonly address: EngineAddress
  /** What separates this log's keys from those of others: letters and digits. */
  readonly scope: string
  /** The name of this process, new at every start. */
  readonly node: string
  /** Whether this process is an edge: only then does it have a stream and a lease, hold users, and take signals. */
  readonly edge: boolean
}

/**
 * Routes, streams and signals in Redis (7 or newer), shared by all processes of a log. An edge has three connections, others have one. Nothing here has to outlive Redis: an edge that
 * sees that something of its is missing begins anew with `StreamLost`.
 */
export const makeRouterRedis = Effect.fn("RouterRedis.make")(function* (
  options: RouterRedisOptions
): Effect.fn.Return<Router["Service"], RedisUnavailable, Scope.Scope> {
  const { address, edge, node, scope } = options
  const keys = makeKeys(scope)
  const redis = yield* connectRedis({ address, name: "router" })
  const readiness = yield* Effect.serviceOption(Readiness)
  if (Option.isSome(readiness)) yield* readiness.value.register("routes", Effect.sync(redis.trouble))
  defineScripts(redis)
  const stream = new NodeStream(node, keys)
  const signals = new Signals(keys, node)
  const routes = new Routes(redis, keys, stream, (told) => {
    for (const signal of told) signals.send([], signal)
  })
  yield* Effect.forkScoped(signals.work(redis, routes))
  if (edge) yield* startEdge(options, keys, redis, stream, routes, signals)

  const appendAll = (streams: ReadonlyMap<string, ReadonlyArray<NodeItem>>): Effect.Effect<void, RouterUnavailable> =>
    Effect.suspend(() => {
      const commands: Array<RedisCommand> = []
      const encoder = new Encoder()
      for (const [target, items] of streams) {
        // A process that is no edge has no stream.
        if (!edge && target === node) continue
        const lease = keys.lease(target)
        const key = keys.stream(target)
        for (const { frames, meta } of encoder.encode(target, items))
          commands.push([named("append"), 2, lease, key, meta, frames, STREAM_BYTES, STREAM_KEPT_MS])
      }
      if (commands.length === 0) return Effect.void
      return told(redis.run("append", (client) => pipelined(client, commands))).pipe(
        Effect.flatMap((appended) =>
          appended.includes(-1)
            ? Effect.logWarning("A node does not take what is appended to its stream, and has to read it from the log.")
            : Effect.void
        )
      )
    })
  const noEdge = (operation: string) => () =>
    Effect.fail(new RouterUnavailable({ operation, cause: new Error("this process holds no connections") }))

  return Router.of({
    node,
    register: edge ? (user) => routes.register(user) : noEdge("register"),
    unregister: edge ? (user, goneMs) => routes.unregister(user, goneMs) : noEdge("unregister"),
    routes: (users) => told(routes.routes(users)),
    nodes: told(Effect.map(routes.living, (living) => [...new Set(living.map(nodeOf))])),
    append: (target, items) => appendAll(new Map([[target, items]])),
    appendAll,
    take: edge ? (max) => stream.take(max) : () => Effect.never,
    signal: (users, signal) => Effect.sync(() => signals.send(users, signal)),
    takeSignals: edge ? signals.take : Effect.never,
    presence: (users) => told(routes.presence(users)),
    claimOnce: (key, ttlMs) =>
      told(redis.run("claimOnce", (client) => pipelined(client, [[named("claim"), 1, keys.claim(key), ttlMs]]))).pipe(
        Effect.map(([first]) => first === 1)
      )
  })
})

/** What an edge does besides: it reads its stream, keeps its lease, listens to signals, and sweeps up after others. */
const startEdge = Effect.fnUntraced(function* (
  { address }: RouterRedisOptions,
  keys: RouterKeys,
  redis: RedisConnection,
  stream: NodeStream,
  routes: Routes,
  signals: Signals
): Effect.fn.Return<void, RedisUnavailable, Scope.Scope> {
  const reader = yield* connectRedis({ address, name: "router-stream", timeoutMs: READ_MS })
  const subscriber = yield* connectRedis({ address, name: "router-signals", timeoutMs: SUBSCRIBER_MS })
  defineScripts(reader)
  // What was on its way is unknown, and the other end may be another Redis, which knows less.
  for (const { client } of [redis, reader]) client.on("close", () => stream.lose("the connection to Redis was lost"))
  yield* signals.listen(subscriber)
  const lease = new Lease(redis, keys, stream, () => redis.isReady() && reader.isReady())
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      Effect.sync(() => stream.end()),
      Effect.ignore(lease.leave)
    )
  )
  const everySecond = <E extends RedisUnavailable>(what: Effect.Effect<void, E>) =>
    what.pipe(
      Effect.catch((error) => Effect.logDebug(error.message)),
      Effect.andThen(Effect.sleep("1 second")),
      Effect.forever
    )
  for (const work of [
    stream.read(reader),
    lease.keep,
    lease.renew,
    routes.work,
    everySecond(routes.sweep),
    everySecond(signals.canary(redis, subscriber))
  ]) {
    yield* Effect.forkScoped(work)
  }
  yield* Effect.timeoutOrElse(stream.live.await, { duration: FIRST_MS, orElse: () => Effect.void })
})

const told = <A>(self: Effect.Effect<A, RedisUnavailable>): Effect.Effect<A, RouterUnavailable> =>
  Effect.mapError(self, (error) => new RouterUnavailable({ operation: error.operation, cause: error }))

export const layerRedis = (options: RouterRedisOptions): Layer.Layer<Router, RedisUnavailable> =>
  Layer.effect(Router, makeRouterRedis(options))
