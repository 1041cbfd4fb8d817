import * as Effect from "effect/Effect"
import { pipelined, type RedisCommand, type RedisConnection, type RedisUnavailable } from "./RedisConnection.ts"
import { canaryOf, incarnationOf, type RouterKeys } from "./RouterRedisKeys.ts"
import { named } from "./RouterRedisScripts.ts"
import type { NodeStream } from "./RouterRedisStream.ts"

/** How long a node is believed to be alive after it last said so, in milliseconds. */
export const LEASE_MS = 5_000
/**
 * For how long its stream takes items after that. Shorter, so that whoever does not find the node in the routes can tell it nothing either: above all not
 * that it has got everything.
 */
const STREAM_LEASE_MS = 4_000
/** A stream outlives its lease by this, in case nobody sweeps. */
export const STREAM_KEPT_MS = 60_000
const RENEW_MS = 1_000
/** Pauses before another attempt to join. */
const JOIN_FIRST_MS = 50
const JOIN_LAST_MS = 1_000

/** What this node holds in Redis, kept and looked after: its place among the nodes, its lease, and its routes' canaries. */
export class Lease {
  readonly #redis: RedisConnection
  readonly #keys: RouterKeys
  readonly #stream: NodeStream
  /** Whether every connection that a node needs is there. */
  readonly #connected: () => boolean

  constructor(redis: RedisConnection, keys: RouterKeys, stream: NodeStream, connected: () => boolean) {
    this.#redis = redis
    this.#keys = keys
    this.#stream = stream
    this.#connected = connected
  }

  /** Joins whenever this node is not known, with a new epoch at each attempt. */
  get keep(): Effect.Effect<never> {
    const stream = this.#stream
    return Effect.gen({ self: this }, function* () {
      yield* stream.lost.await
      let pause = JOIN_FIRST_MS
      for (let epoch = stream.epoch + 1; ; epoch++) {
        if (this.#connected()) {
          stream.epoch = epoch
          const joined = yield* Effect.result(this.#join(epoch))
          if (joined._tag === "Success" && joined.success && this.#connected()) return stream.begin(epoch)
        }
        yield* Effect.sleep(pause)
        pause = Math.min(pause * 2, JOIN_LAST_MS)
      }
    }).pipe(Effect.forever)
  }

  /**
   * In this order, so that a stream that takes items is one of a node that is found; and then it is looked whether it still is: a Redis that is emptied in between would leave a
   * stream by which the node is told how far everybody is, and not what its users are to be given.
   */
  readonly #join = Effect.fnUntraced({ self: this }, function* (this: Lease, epoch: number): Effect.fn.Return<
    boolean,
    RedisUnavailable
  > {
    const { node } = this.#stream
    const { lease, nodes, shards, stream } = this.#keys
    const id = incarnationOf(node, epoch)
    yield* this.#redis.run("join", (client) => pipelined(client, [[named("renewNode"), 1, nodes, id, LEASE_MS, 1]]))
    const commands: Array<RedisCommand> = shards.map(({ routes }) => [named("canary"), 1, routes, id])
    commands.push(
      [named("join"), 2, lease(node), stream(node), epoch, STREAM_LEASE_MS],
      [named("renewNode"), 1, nodes, id, LEASE_MS, 0]
    )
    const replies = yield* this.#redis.run("join", (client) => pipelined(client, commands))
    return replies.slice(-2).every((reply) => reply === 1)
  })

  /** Once a second: says that this node is alive, and looks whether what it wrote is still there. */
  get renew(): Effect.Effect<never> {
    return this.#renew.pipe(
      Effect.catch((error) => Effect.logDebug(error.message)),
      Effect.andThen(Effect.sleep(RENEW_MS)),
      Effect.forever
    )
  }

  readonly #renew = Effect.gen({ self: this }, function* (this: Lease): Effect.fn.Return<void, RedisUnavailable> {
    const { epoch, isLive, last, node } = this.#stream
    if (!isLive) return
    const { lease, nodes, shards, stream } = this.#keys
    const id = incarnationOf(node, epoch)
    const lose = (reason: string): void => {
      if (this.#stream.epoch === epoch) this.#stream.lose(reason)
    }
    const [known] = yield* this.#redis.run("renew", (client) =>
      pipelined(client, [[named("renewNode"), 1, nodes, id, LEASE_MS, 0]])
    )
    if (known === 0) return lose("the others were bound to take this node for dead")
    const commands: Array<RedisCommand> = shards.map(({ routes }) => ["hexists", routes, canaryOf(id)])
    commands.push([named("renew"), 2, lease(node), stream(node), epoch, STREAM_LEASE_MS, STREAM_KEPT_MS, last])
    const found = yield* this.#redis.run("renew", (client) => pipelined(client, commands))
    const state = found[found.length - 1]
    if (state === 0) lose("its lease is gone")
    else if (state === -1) lose("it is as it was some time ago")
    // What has been taken meanwhile is no longer there either.
    else if (state === -2 && this.#stream.last === last) lose("entries of it are gone")
    else if (found.includes(0)) lose("routes are gone")
  })

  /**
   * Ends what others could append to, so that they wait for nothing. Its users stay held until its place among the nodes runs out: those who were sent away and come back
   * elsewhere within that time were never offline.
   */
  get leave(): Effect.Effect<void, RedisUnavailable> {
    const { node } = this.#stream
    const { lease, stream } = this.#keys
    return Effect.asVoid(this.#redis.run("leave", (client) => client.unlink(lease(node), stream(node))))
  }
}
