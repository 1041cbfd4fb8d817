import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { UserId } from "../domain/ids.ts"
import { pipelined, type RedisCommand, type RedisConnection, type RedisUnavailable } from "./RedisConnection.ts"
import { type Signal, StreamLost } from "./Router.ts"
import type { RouterKeys } from "./RouterRedisKeys.ts"
import type { Routes } from "./RouterRedisRoutes.ts"

/** Signals that wait to be sent, and that wait to be taken; the oldest are dropped. */
const WAITING = 10_000
/** As many are sent in one round trip. */
const AT_ONCE = 500
/** A canary that was sent and has not come after this many milliseconds: the subscriber's connection brings nothing, and is made anew. */
const CANARY_MS = 3_000
const CANARY = ""

interface Signalled {
  readonly users: ReadonlyArray<UserId>
  readonly signal: Signal
}

/** What may be lost: sent and received over Redis' channels. */
export class Signals {
  readonly #keys: RouterKeys
  readonly #node: string
  #outgoing: Array<Signalled> = []
  readonly #toSend = Latch.makeUnsafe(false)
  #incoming: Array<Signalled> = []
  readonly #toTake = Latch.makeUnsafe(false)
  #subscribed = false
  /** Some may have been lost, which the node does not know yet. */
  #lost = false
  /** When the oldest canary was sent that has not come. */
  #awaited: number | undefined

  constructor(keys: RouterKeys, node: string) {
    this.#keys = keys
    this.#node = node
  }

  /** Queues a signal for the nodes that hold these users; those of presence are for all nodes. */
  send(users: ReadonlyArray<UserId>, signal: Signal): void {
    if (this.#outgoing.length >= WAITING) this.#outgoing.shift()
    this.#outgoing.push({ users, signal })
    this.#toSend.openUnsafe()
  }

  readonly take = Effect.gen({ self: this }, function* () {
    while (this.#incoming.length === 0 && !this.#lost) {
      this.#toTake.closeUnsafe()
      yield* this.#toTake.await
    }
    if (this.#lost) {
      this.#lost = false
      return yield* new StreamLost({ reason: "the connection by which signals come was made anew" })
    }
    const taken = this.#incoming
    this.#incoming = []
    return taken
  })

  /** Sends what is queued; what does not get through is dropped. */
  work(redis: RedisConnection, routes: Routes): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      yield* this.#toSend.await
      const some = this.#outgoing.slice(0, AT_ONCE)
      this.#outgoing = this.#outgoing.slice(some.length)
      if (this.#outgoing.length === 0) this.#toSend.closeUnsafe()
      yield* this.#publish(redis, routes, some).pipe(Effect.catch((error) => Effect.logDebug(error.message)))
    }).pipe(Effect.forever)
  }

  readonly #publish = Effect.fnUntraced(
    { self: this },
    function* (
      this: Signals,
      redis: RedisConnection,
      routes: Routes,
      some: ReadonlyArray<Signalled>
    ): Effect.fn.Return<void, RedisUnavailable> {
      const everyone = some.filter(({ signal }) => signal._tag === "Presence")
      const addressed = some.filter(({ signal }) => signal._tag !== "Presence")
      const channels = new Map<string, Array<Signalled>>()
      if (everyone.length > 0)
        channels.set(
          this.#keys.everyone,
          everyone.map(({ signal }) => ({ users: [], signal }))
        )
      if (addressed.length > 0) {
        const found = yield* routes.routes([...new Set(addressed.flatMap(({ users }) => users))])
        for (const [node, users] of found) {
          const held = new Set(users)
          const here = addressed.flatMap(({ signal, users }) => {
            const mine = users.filter((user) => held.has(user))
            return mine.length === 0 ? [] : [{ users: mine, signal }]
          })
          if (here.length > 0) channels.set(this.#keys.signals(node), here)
        }
      }
      const commands = [...channels].map(([channel, signals]): RedisCommand => [
        "publish",
        channel,
        JSON.stringify(signals)
      ])
      if (commands.length > 0) yield* redis.run("signal", (client) => pipelined(client, commands))
    }
  )

  /** Takes what comes by this connection in, and subscribes whenever it is made anew. */
  listen(redis: RedisConnection) {
    const channels = [this.#keys.everyone, this.#keys.signals(this.#node)]
    redis.client.on("message", (_channel: string, text: string) => {
      if (text === CANARY) this.#awaited = undefined
      else this.#received(text)
    })
    return redis.onReady(() => {
      this.#awaited = undefined
      redis.client
        .subscribe(...channels)
        .then(() => {
          if (!this.#subscribed) return void (this.#subscribed = true)
          this.#lost = true
          this.#toTake.openUnsafe()
        })
        .catch(() => {})
    })
  }

  #received(text: string): void {
    try {
      this.#incoming.push(...(JSON.parse(text) as ReadonlyArray<Signalled>))
    } catch {
      // One that cannot be read is lost, like any other.
      return
    }
    if (this.#incoming.length > WAITING) this.#incoming.splice(0, this.#incoming.length - WAITING)
    this.#toTake.openUnsafe()
  }

  /** Sends a canary to this node's own channel, and gives the subscriber's connection up when an earlier one has not come. */
  canary(redis: RedisConnection, subscriber: RedisConnection): Effect.Effect<void, RedisUnavailable> {
    return Effect.suspend(() => {
      if (!subscriber.isReady()) return Effect.void
      if (this.#awaited !== undefined && performance.now() - this.#awaited >= CANARY_MS) {
        this.#awaited = undefined
        subscriber.client.disconnect(true)
        return Effect.void
      }
      return redis
        .run("canary", (client) => {
          this.#awaited ??= performance.now()
          return client.publish(this.#keys.signals(this.#node), CANARY)
        })
        .pipe(Effect.tapError(() => Effect.sync(() => void (this.#awaited = undefined))))
    }).pipe(Effect.asVoid)
  }
}
