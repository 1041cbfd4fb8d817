import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type { UserId } from "../domain/ids.ts"
import {
  isConversationRoute,
  type NodeItem,
  type PresenceOf,
  type RouteId,
  Router,
  type Signal,
  StreamLost
} from "./Router.ts"

/** Items in one node's stream before `append` waits for the node to take some. */
const STREAM_ITEMS = 20_000
/** Signals that wait for one node; the oldest are dropped. */
const STREAM_SIGNALS = 10_000
/** Users whose last departure is remembered; the oldest are forgotten. */
const LAST_SEEN_USERS = 100_000
/** Claimed keys (tickets) that are remembered at once; when that many have not expired, further claims are refused. */
const CLAIMS = 100_000

interface Signalled {
  readonly users: ReadonlyArray<UserId>
  readonly signal: Signal
}

interface NodeState {
  /** `gone` after a loss until the node has seen it; `seen` until it has been told. */
  loss: "none" | "gone" | "seen"
  items: Array<NodeItem>
  signals: Array<Signalled>
  readonly filled: Latch.Latch
  readonly emptied: Latch.Latch
  readonly signalled: Latch.Latch
}

/** Routes and streams in memory, shared by the nodes that join it. */
export interface MemoryRouting {
  readonly join: (node: string) => Router["Service"]
  /** Ends a node as its lease does: its routes and its stream are gone, and its users may be offline. */
  readonly leave: (node: string) => void
  /**
   * Loses what a node holds, as a Redis that forgets everything does: its routes and what waits in its stream. Until {@link MemoryRouting.found}
   * nothing comes to it, and what it registers is of no use.
   */
  readonly lose: (node: string) => void
  /** The node sees its loss: it may register, is appended to again, and the first that it takes is that it has lost its stream. */
  readonly found: (node: string) => void
}

/** Routing without nodes. `now` is the clock in milliseconds. */
export const makeMemoryRouting = (now: () => number): MemoryRouting => {
  const nodes = new Map<string, NodeState>()
  /** The nodes that hold each route. Lists are never changed: those who are held by one node share its own. */
  const holders = new Map<RouteId, ReadonlyArray<string>>()
  const lastSeen = new Map<UserId, number>()
  const claims = new Map<string, number>()

  const isOnline = (user: UserId): boolean => holders.has(user)
  const isHeldBy = (node: string, user: RouteId): boolean => holders.get(user)?.includes(node) === true
  const heldBy = (node: string): ReadonlyArray<RouteId> => [...holders.keys()].filter((user) => isHeldBy(node, user))
  const signalTo = (state: NodeState, signalled: Signalled): void => {
    if (state.signals.length >= STREAM_SIGNALS) state.signals.shift()
    state.signals.push(signalled)
    state.signalled.openUnsafe()
  }
  const presenceChanged = (user: UserId): void => {
    const at = lastSeen.get(user)
    const signal: Signal = isOnline(user)
      ? { _tag: "Presence", user, online: true }
      : { _tag: "Presence", user, online: false, ...(at === undefined ? {} : { lastSeen: at }) }
    for (const state of nodes.values()) signalTo(state, { users: [], signal })
  }
  const unregister = (node: string, user: RouteId, goneMs = 0): void => {
    const held = holders.get(user)
    if (held?.includes(node) !== true) return
    const others = held.filter((other) => other !== node)
    if (others.length > 0) return void holders.set(user, others)
    holders.delete(user)
    if (isConversationRoute(user)) return
    lastSeen.delete(user)
    lastSeen.set(user, now() - goneMs)
    if (lastSeen.size > LAST_SEEN_USERS) lastSeen.delete(lastSeen.keys().next().value!)
    presenceChanged(user)
  }

  const leave = (node: string): void => {
    const state = nodes.get(node)
    if (state === undefined) return
    for (const user of heldBy(node)) unregister(node, user)
    nodes.delete(node)
    state.emptied.openUnsafe()
  }

  const lose = (node: string): void => {
    const state = nodes.get(node)
    if (state === undefined) return
    for (const user of heldBy(node)) unregister(node, user)
    state.items = []
    state.loss = "gone"
    state.emptied.openUnsafe()
  }
  const found = (node: string): void => {
    const state = nodes.get(node)
    if (state?.loss !== "gone") return
    state.loss = "seen"
    state.filled.openUnsafe()
  }

  const append = Effect.fnUntraced(function* (target: string, items: ReadonlyArray<NodeItem>) {
    const state = nodes.get(target)
    if (state === undefined) return
    while (
      state.items.length > 0 &&
      state.items.length + items.length > STREAM_ITEMS &&
      state.loss !== "gone" &&
      nodes.get(target) === state
    ) {
      state.emptied.closeUnsafe()
      yield* state.emptied.await
    }
    if (state.loss === "gone") return
    for (const item of items) state.items.push(item)
    state.filled.openUnsafe()
  })

  const join = (node: string): Router["Service"] => {
    const mine: NodeState = {
      loss: "none",
      items: [],
      signals: [],
      filled: Latch.makeUnsafe(false),
      emptied: Latch.makeUnsafe(true),
      signalled: Latch.makeUnsafe(false)
    }
    nodes.set(node, mine)
    const alone = [node]
    return Router.of({
      node,
      register: (user) =>
        Effect.sync(() => {
          if (mine.loss === "gone") return
          const held = holders.get(user)
          if (held !== undefined) {
            if (!held.includes(node)) holders.set(user, [...held, node])
            return
          }
          holders.set(user, alone)
          if (!isConversationRoute(user)) presenceChanged(user)
        }),
      unregister: (user, goneMs) => Effect.sync(() => unregister(node, user, goneMs)),
      routes: (users) =>
        Effect.sync(() => {
          const routes = new Map<string, Array<RouteId>>()
          for (const user of users) {
            for (const holder of holders.get(user) ?? []) {
              const list = routes.get(holder)
              if (list === undefined) routes.set(holder, [user])
              else list.push(user)
            }
          }
          return routes
        }),
      nodes: Effect.sync(() => [...nodes].filter(([, { loss }]) => loss !== "gone").map(([name]) => name)),
      append,
      appendAll: (streams) => Effect.forEach(streams, ([target, items]) => append(target, items), { discard: true }),
      take: Effect.fnUntraced(function* (max) {
        while (mine.items.length === 0 && mine.loss !== "seen") {
          mine.filled.closeUnsafe()
          yield* mine.filled.await
        }
        if (mine.loss === "seen") {
          mine.loss = "none"
          return yield* new StreamLost({ reason: "it was taken away" })
        }
        const taken = mine.items.length <= max ? mine.items : mine.items.slice(0, max)
        mine.items = mine.items.length <= max ? [] : mine.items.slice(max)
        mine.emptied.openUnsafe()
        return taken
      }),
      signal: (users, signal) =>
        Effect.sync(() => {
          if (signal._tag === "Presence") {
            for (const state of nodes.values()) signalTo(state, { users: [], signal })
            return
          }
          for (const [name, state] of nodes) {
            const here = users.filter((user) => isHeldBy(name, user))
            if (here.length > 0) signalTo(state, { users: here, signal })
          }
        }),
      takeSignals: Effect.gen(function* () {
        while (mine.signals.length === 0) {
          mine.signalled.closeUnsafe()
          yield* mine.signalled.await
        }
        const taken = mine.signals
        mine.signals = []
        return taken
      }),
      presence: (users) =>
        Effect.sync(() => {
          const answer = new Map<UserId, PresenceOf>()
          for (const user of users) {
            const at = lastSeen.get(user)
            answer.set(
              user,
              isOnline(user) ? { online: true } : { online: false, ...(at === undefined ? {} : { lastSeen: at }) }
            )
          }
          return answer
        }),
      claimOnce: (key, ttlMs) =>
        Effect.sync(() => {
          const at = now()
          const until = claims.get(key)
          if (until !== undefined && until > at) return false
          for (const [old, expiry] of claims) {
            if (expiry > at) break
            claims.delete(old)
          }
          if (claims.size >= CLAIMS) return false
          claims.delete(key)
          claims.set(key, at + ttlMs)
          return true
        })
    })
  }
  return { join, leave, lose, found }
}

/** The router of a process that is alone. */
export const layerMemory = (node: string): Layer.Layer<Router> =>
  Layer.sync(Router, () => makeMemoryRouting(Date.now).join(node))
