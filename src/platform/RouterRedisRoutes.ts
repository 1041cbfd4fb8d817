import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { UserId } from "../domain/ids.ts"
import { pipelined, type RedisCommand, type RedisConnection, type RedisUnavailable } from "./RedisConnection.ts"
import { isConversationRoute, type PresenceOf, type RouteId, RouterUnavailable, type Signal } from "./Router.ts"
import { type Incarnation, incarnationOf, nodeOf, type RouterKeys, shardOf } from "./RouterRedisKeys.ts"
import { LEASE_MS } from "./RouterRedisLease.ts"
import { named } from "./RouterRedisScripts.ts"
import type { NodeStream } from "./RouterRedisStream.ts"

/** Users whose last departure is remembered in each part of the routes; those who left longest ago are forgotten. */
const SEEN_USERS = 100_000
/** Registrations and their opposites that wait; more fail. */
const WAITING = 200_000
/** As many are made in one round trip. */
const AT_ONCE = 1_000
/** How long `register` waits for this node to be known, and for its turn, in milliseconds. */
const REGISTER_MS = 5_000
const RETRY = "100 millis"
/** Users of a dead node that are let go in one script, scripts for one part of its routes in a row, and how long after its end it is looked at. */
const SWEEP_USERS = 200
const SWEEP_STEPS = 500
const SWEEP_MS = 10_000

const NOBODY: ReadonlySet<Incarnation> = new Set()

interface Waiting {
  readonly user: RouteId
  /** `+user`, or `-user` and for how many milliseconds they have been gone. */
  readonly what: string
  readonly done: () => void
}

/** Who holds whom, for all nodes; and for an edge: whom it holds. */
export class Routes {
  readonly #redis: RedisConnection
  readonly #keys: RouterKeys
  readonly #stream: NodeStream
  /** Tells all nodes. */
  readonly #tell: (signals: ReadonlyArray<Signal>) => void
  /** In order: a later one of the same user counts. */
  readonly #waiting = new Set<Waiting>()
  readonly #filled = Latch.makeUnsafe(false)

  constructor(
    redis: RedisConnection,
    keys: RouterKeys,
    stream: NodeStream,
    tell: (signals: ReadonlyArray<Signal>) => void
  ) {
    this.#redis = redis
    this.#keys = keys
    this.#stream = stream
    this.#tell = tell
  }

  /** Users and big conversations by the nodes that are alive and registered them: one round trip, however many they are. */
  routes(users: ReadonlyArray<RouteId>): Effect.Effect<ReadonlyMap<string, Array<RouteId>>, RedisUnavailable> {
    if (users.length === 0) return Effect.succeed(new Map())
    return Effect.map(this.#lookUp("routes", users, "hmget"), ({ groups, living, replies }) => {
      const found = new Map<string, Array<RouteId>>()
      // Few routes differ: most users are held by one node, and there are few nodes.
      const lists = new Map<string, ReadonlyArray<Array<RouteId>>>()
      const listsOf = (route: string): ReadonlyArray<Array<RouteId>> => {
        const known = lists.get(route)
        if (known !== undefined) return known
        const nodes = new Set(
          route
            .split(" ")
            .filter((one) => living.has(one))
            .map(nodeOf)
        )
        const made = [...nodes].map((node) => {
          let list = found.get(node)
          if (list === undefined) found.set(node, (list = []))
          return list
        })
        lists.set(route, made)
        return made
      }
      groups.forEach((group, index) => {
        const routes = replies[index] as ReadonlyArray<string | null>
        for (let i = 0; i < group.length; i++) {
          const route = routes[i]
          if (route !== null && route !== undefined) for (const list of listsOf(route)) list.push(group[i]!)
        }
      })
      return found
    })
  }

  presence(users: ReadonlyArray<UserId>): Effect.Effect<ReadonlyMap<UserId, PresenceOf>, RedisUnavailable> {
    if (users.length === 0) return Effect.succeed(new Map())
    return Effect.map(this.#lookUp("presence", users, "hmget", "zmscore"), ({ groups, living, replies }) => {
      const found = new Map<UserId, PresenceOf>()
      groups.forEach((group, index) => {
        const routes = replies[2 * index] as ReadonlyArray<string | null>
        const seen = replies[2 * index + 1] as ReadonlyArray<string | null>
        group.forEach((user, i) => {
          const last = seen[i] ?? undefined
          if (isHeld(routes[i] ?? "", living)) found.set(user, { online: true })
          else found.set(user, { online: false, ...(last === undefined ? {} : { lastSeen: Number(last) }) })
        })
      })
      return found
    })
  }

  get living(): Effect.Effect<ReadonlyArray<Incarnation>, RedisUnavailable> {
    return Effect.map(
      this.#redis.run("nodes", (client) => pipelined(client, [[named("living"), 1, this.#keys.nodes]])),
      (replies) => replies[0] as ReadonlyArray<Incarnation>
    )
  }

  readonly #lookUp = Effect.fnUntraced(
    { self: this },
    function* (
      this: Routes,
      operation: string,
      users: ReadonlyArray<RouteId>,
      ...what: ReadonlyArray<"hmget" | "zmscore">
    ): Effect.fn.Return<
      {
        readonly groups: ReadonlyArray<ReadonlyArray<RouteId>>
        readonly replies: ReadonlyArray<unknown>
        readonly living: ReadonlySet<Incarnation>
      },
      RedisUnavailable
    > {
      const byShard = new Map<number, Array<RouteId>>()
      for (const user of users) group(byShard, shardOf(user)).push(user)
      const commands: Array<RedisCommand> = []
      for (const [shard, members] of byShard) {
        const { routes, seen } = this.#keys.shards[shard]!
        for (const command of what) commands.push([command, command === "hmget" ? routes : seen, ...members])
      }
      // After the routes: a node that was found and has joined by then is among the living.
      commands.push([named("living"), 1, this.#keys.nodes])
      const replies = yield* this.#redis.run(operation, (client) => pipelined(client, commands))
      const living = replies[replies.length - 1] as ReadonlyArray<Incarnation>
      return { groups: [...byShard.values()], replies, living: living.length === 0 ? NOBODY : new Set(living) }
    }
  )

  register(user: RouteId): Effect.Effect<void, RouterUnavailable> {
    return this.#ask("register", user, `+${user}`)
  }

  unregister(user: RouteId, goneMs = 0): Effect.Effect<void, RouterUnavailable> {
    return this.#ask("unregister", user, `-${user} ${Math.max(0, Math.round(goneMs))}`)
  }

  /** Whoever gives up waiting to be registered asks again; that a user is gone is carried out all the same. */
  #ask(operation: "register" | "unregister", user: RouteId, what: string): Effect.Effect<void, RouterUnavailable> {
    const refused = (reason: string) => Effect.fail(new RouterUnavailable({ operation, cause: new Error(reason) }))
    return Effect.callback<void, RouterUnavailable>((resume) => {
      if (this.#waiting.size >= WAITING) return resume(refused(`${WAITING} of these wait already`))
      const waiting = { user, what, done: () => resume(Effect.void) }
      this.#waiting.add(waiting)
      this.#filled.openUnsafe()
      return Effect.sync(() => {
        if (operation === "register") this.#waiting.delete(waiting)
      })
    }).pipe(
      Effect.timeoutOrElse({
        duration: REGISTER_MS,
        orElse: () => refused("Redis does not know this node at the moment")
      })
    )
  }

  /** Makes what was asked for, in order, with whatever piled up meanwhile in one round trip. */
  get work(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      yield* this.#filled.await
      yield* this.#stream.live.await
      const some = [...this.#waiting.values().take(AT_ONCE)]
      const made = yield* Effect.result(this.#make(incarnationOf(this.#stream.node, this.#stream.epoch), some))
      if (made._tag === "Failure") return yield* Effect.sleep(RETRY)
      for (const one of some) this.#waiting.delete(one)
      if (this.#waiting.size === 0) this.#filled.closeUnsafe()
      for (const { done } of some) done()
    }).pipe(Effect.forever)
  }

  readonly #make = Effect.fnUntraced(
    { self: this },
    function* (this: Routes, id: Incarnation, some: ReadonlyArray<Waiting>): Effect.fn.Return<void, RedisUnavailable> {
      const byShard = new Map<number, Array<Waiting>>()
      for (const one of some) group(byShard, shardOf(one.user)).push(one)
      const commands: Array<RedisCommand> = []
      for (const [shard, asked] of byShard) {
        const { held, routes, seen } = this.#keys.shards[shard]!
        commands.push([named("hold"), 3, routes, held(id), seen, id, SEEN_USERS, ...asked.map(({ what }) => what)])
      }
      commands.push([named("living"), 1, this.#keys.nodes])
      const replies = yield* this.#redis.run("register", (client) => pipelined(client, commands))
      const living = new Set(replies[replies.length - 1] as ReadonlyArray<Incarnation>)
      const signals: Array<Signal> = []
      ;[...byShard.values()].forEach((asked, index) => {
        const answers = replies[index] as ReadonlyArray<readonly [route: string, lastSeen?: number] | null>
        asked.forEach(({ user }, i) => {
          const [route, lastSeen] = answers[i] ?? []
          if (route === undefined || isConversationRoute(user) || isHeld(route, living)) return
          signals.push(
            lastSeen === undefined
              ? { _tag: "Presence", user, online: true }
              : { _tag: "Presence", user, online: false, lastSeen }
          )
        })
      })
      if (signals.length > 0) this.#tell(signals)
    }
  )

  /** Lets the users of nodes that died go, in bounded steps; any node does that, and several may at once. */
  readonly sweep = Effect.gen({ self: this }, function* (this: Routes): Effect.fn.Return<void, RedisUnavailable> {
    const { nodes } = this.#keys
    const [dead] = yield* this.#redis.run("sweep", (client) => pipelined(client, [[named("dead"), 1, nodes]]))
    const [now, found] = dead as readonly [number, ReadonlyArray<string>]
    for (let i = 0; i + 1 < found.length; i += 2) {
      const id = found[i]!
      const until = Number(found[i + 1])
      const isClean = yield* this.#letGo(id, Math.round(until - LEASE_MS))
      // Not at once: something that it sent before its end may still be on its way.
      if (isClean && now - until > SWEEP_MS) yield* this.#redis.run("sweep", (client) => client.zrem(nodes, id))
    }
  })

  /** Lets the users of an incarnation go, which was last alive at that time. True when there were none. */
  readonly #letGo = Effect.fnUntraced(
    { self: this },
    function* (this: Routes, id: Incarnation, at: number): Effect.fn.Return<boolean, RedisUnavailable> {
      let users = 0
      for (const { held, routes, seen } of this.#keys.shards) {
        const command: RedisCommand = [named("sweep"), 3, routes, held(id), seen, id, SEEN_USERS, SWEEP_USERS, at]
        for (let step = 0; step < SWEEP_STEPS; step++) {
          const [answer] = yield* this.#redis.run("sweep", (client) => pipelined(client, [command]))
          const [count, ...gone] = answer as readonly [number, ...ReadonlyArray<string>]
          users += count
          if (gone.length > 0) this.#tell(gone.map((user) => ({ _tag: "Presence", user, online: false, lastSeen: at })))
          if (count < SWEEP_USERS) break
        }
      }
      return users === 0
    }
  )
}

const group = <A>(groups: Map<number, Array<A>>, key: number): Array<A> => {
  let found = groups.get(key)
  if (found === undefined) groups.set(key, (found = []))
  return found
}

const isHeld = (route: string, living: ReadonlySet<Incarnation>): boolean =>
  route !== "" && route.split(" ").some((one) => living.has(one))
