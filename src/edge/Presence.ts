import * as Effect from "effect/Effect"
import type { TimelineEvent } from "../domain/events.ts"
import { dmMembers, type UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { Presence as PresenceRequest } from "../domain/protocol/client-frames.ts"
import { PRESENCE_USERS } from "../domain/protocol/limits.ts"
import type { PresenceOf, Router, RouterUnavailable, Signal } from "../platform/Router.ts"
import type { Queries, QueryRefused } from "../read-side/Queries.ts"
import { errFrame } from "./errors.ts"
import { Frame } from "./Frame.ts"
import type { Outgoing } from "./Outgoing.ts"
import type { Run } from "./Run.ts"
import { add, remove } from "./sets.ts"

/** Users whose presence one connection may watch. */
export const WATCHED = 1_000
/** Connections for which it is found out again at once whom they share a conversation with, or how those are. */
const AT_ONCE = 32
/** One that reads nothing holds the others up for so long, and no longer. */
const ROOM_WITHIN = "5 seconds"

/** What somebody is told of whom they share no conversation with: the same as of one who was never there. */
const STRANGER: PresenceOf = { online: false }

const NONE: ReadonlyMap<UserId, never> = new Map<UserId, never>()

/** One user whom a connection watches. */
interface Watch {
  /** They share a conversation, as far as is known: otherwise nothing is told. */
  known: boolean
  /** That may have changed since it was found out; nothing is told meanwhile. */
  due: boolean
  /** The connection was told how they are. */
  told: boolean
}

/** The connection of somebody who watches. */
export interface Watcher {
  readonly user: UserId
  readonly out: Outgoing
  readonly isClosing: boolean
  watching: Map<UserId, Watch> | undefined
  push(frame: Frame): void
}

export interface PresenceOptions {
  readonly router: Router["Service"]
  readonly queries: Queries["Service"]
  /** What this node has seen of the log. */
  readonly seen: () => Vector
  readonly fork: (effect: Effect.Effect<void>) => void
}

/**
 * Who of a node's connections watches whom, and what they are told: only of people with whom they share a conversation, changes at most once a second, and
 * after changes that were lost everything again.
 */
export class Presence {
  readonly #options: PresenceOptions
  readonly #watchers = new Map<UserId, Set<Watcher>>()
  /** What changed since the last tick, of users who are watched here. */
  readonly #changed = new Map<UserId, PresenceOf>()
  /** Connections with something that is due. */
  readonly #due = new Set<Watcher>()
  #settling = false
  #tellings = 0

  constructor(options: PresenceOptions) {
    this.#options = options
  }

  /** How these users are, as far as this user may know. */
  readonly of = Effect.fnUntraced(
    { self: this },
    function* (
      this: Presence,
      user: UserId,
      users: ReadonlyArray<UserId>
    ): Effect.fn.Return<ReadonlyMap<UserId, PresenceOf>, QueryRefused | RouterUnavailable> {
      const { queries, router, seen } = this.#options
      const known = yield* queries.acquainted(user, users, seen())
      const found = known.length === 0 ? NONE : yield* router.presence(known)
      return new Map(users.map((other) => [other, found.get(other) ?? STRANGER]))
    }
  )

  /** Answers a request, and watches or no longer watches those whom it names. */
  readonly request = Effect.fnUntraced(
    { self: this },
    function* (this: Presence, watcher: Watcher, { rid, users, watch }: PresenceRequest): Effect.fn.Return<Frame> {
      if (watch === false) this.#unwatch(watcher, users)
      // One that has ended is not taken from the watchers again.
      if (watch === true && !watcher.isClosing) {
        const more = new Set(users).difference(watcher.watching ?? NONE)
        const watched = watcher.watching?.size ?? 0
        if (watched + more.size > WATCHED) {
          const message = `A connection watches at most ${WATCHED} users; it watches ${watched}, and ${more.size} more were asked for. Stop watching others first.`
          return errFrame("bad_request", message, { rid })
        }
        watcher.watching ??= new Map()
        for (const user of more) {
          watcher.watching.set(user, { known: false, due: false, told: false })
          add(this.#watchers, user, watcher)
        }
      }
      const { queries, router, seen } = this.#options
      const found = yield* Effect.gen({ self: this }, function* () {
        const known = new Set(yield* queries.acquainted(watcher.user, users, seen()))
        // Before they are looked up, so that what changes afterwards is told.
        for (const user of users) {
          const one = watcher.watching?.get(user)
          if (one !== undefined && !one.due) one.told = one.known = known.has(user)
        }
        return known.size === 0 ? NONE : yield* router.presence([...known])
      }).pipe(Effect.result)
      if (found._tag === "Failure") {
        // What is watched is watched all the same.
        for (const user of users) this.#isDue(watcher, user)
        return errFrame(
          found.failure._tag === "QueryRefused" ? found.failure.code : "unavailable",
          found.failure.message,
          { rid }
        )
      }
      const answer = Object.fromEntries(users.map((user) => [user, found.success.get(user) ?? STRANGER]))
      return new Frame({ t: "reply", rid, users: answer })
    }
  )

  #unwatch(watcher: Watcher, users: ReadonlyArray<UserId>): void {
    for (const user of users) {
      if (watcher.watching?.delete(user) === true && remove(this.#watchers, user, watcher)) this.#changed.delete(user)
    }
  }

  /** The connection is closed. */
  closed(watcher: Watcher): void {
    this.#due.delete(watcher)
    if (watcher.watching !== undefined) this.#unwatch(watcher, [...watcher.watching.keys()])
    watcher.watching = undefined
  }

  /** Somebody came or left. */
  take({ _tag, user, ...presence }: Extract<Signal, { readonly _tag: "Presence" }>): void {
    if (!this.#watchers.has(user)) return
    this.#changed.set(user, presence)
  }

  /** Who is in a conversation changed, or may be found out only now. */
  membership({ items, users }: Run, byUser: ReadonlyMap<UserId, ReadonlyArray<Watcher>>): void {
    for (const user of users) {
      for (const watcher of byUser.get(user) ?? []) {
        if (watcher.watching !== undefined) for (const { event } of items) this.#membership(event, watcher)
      }
    }
  }

  #membership(event: TimelineEvent, watcher: Watcher): void {
    const { watching } = watcher
    if (watching === undefined || watching.size === 0) return
    if (event.type === "members") {
      const { added = [], removed = [] } = event.data
      // Of all who are in it, where this one came or left: few groups are so large that asking again costs more than listing them.
      const users = [added, removed].some((users) => users.includes(watcher.user))
        ? watching.keys()
        : [...added, ...removed]
      for (const user of users) this.#isDue(watcher, user, removed.length === 0)
    } else if (event.type === "created") {
      for (const user of event.data.members) this.#isDue(watcher, user, true)
    } else if (event.seq === 1) {
      for (const user of dmMembers(event.conv) ?? []) this.#isDue(watcher, user, true)
    }
  }

  /** `more`: a conversation more, which changes nothing for those who share one already. */
  #isDue(watcher: Watcher, user: UserId, more = false): void {
    const one = watcher.watching?.get(user)
    if (one === undefined || user === watcher.user || (more && one.known)) return
    one.due = true
    this.#due.add(watcher)
  }

  /** Once a second: tells what changed, and finds out what is due. */
  tick(): void {
    for (const [user, presence] of this.#changed) {
      let frame: Frame | undefined
      for (const watcher of this.#watchers.get(user) ?? []) {
        const one = watcher.watching?.get(user)
        if (one?.known !== true || one.due) continue
        watcher.push((frame ??= new Frame({ t: "presence", user, ...presence })))
      }
    }
    this.#changed.clear()
    if (this.#due.size === 0 || this.#settling) return
    this.#settling = true
    const due = [...this.#due]
    this.#due.clear()
    this.#options.fork(
      Effect.forEach(due, (watcher) => this.#settle(watcher), { concurrency: AT_ONCE, discard: true }).pipe(
        Effect.ensuring(Effect.sync(() => void (this.#settling = false)))
      )
    )
  }

  /** Finds out whom a connection may be told of, and tells it how those are of whom that was not certain. */
  readonly #settle = Effect.fnUntraced(
    { self: this },
    function* (this: Presence, watcher: Watcher): Effect.fn.Return<void> {
      for (;;) {
        const some: Array<UserId> = []
        for (const [user, one] of watcher.watching ?? NONE) {
          if (!one.due) continue
          // What changes from here on makes it due again.
          one.due = one.known = false
          some.push(user)
          if (some.length === PRESENCE_USERS) break
        }
        if (some.length === 0) return
        const { queries, router, seen } = this.#options
        const found = yield* Effect.gen({ self: this }, function* () {
          const known = new Set(yield* queries.acquainted(watcher.user, some, seen()))
          for (const user of some) {
            const one = watcher.watching?.get(user)
            if (one !== undefined && !one.due) one.known = known.has(user)
          }
          return known.size === 0 ? NONE : yield* router.presence([...known])
        }).pipe(Effect.result)
        if (found._tag === "Failure") {
          // Tried again at the next tick.
          for (const user of some) this.#isDue(watcher, user)
          return
        }
        yield* Effect.timeoutOption(watcher.out.room, ROOM_WITHIN)
        for (const user of some) {
          const one = watcher.watching?.get(user)
          // It may have changed again; and a stranger before and after is no change.
          if (one === undefined || one.due || (!one.known && !one.told)) continue
          one.told = one.known
          watcher.push(new Frame({ t: "presence", user, ...(found.success.get(user) ?? STRANGER) }))
        }
      }
    }
  )

  /** Some changes may have been lost: tells everyone who watches others how those are now. Ends when another one has begun. */
  again(): void {
    const telling = ++this.#tellings
    const watchers = new Set([...this.#watchers.values()].flatMap((watchers) => [...watchers]))
    this.#options.fork(
      Effect.forEach(
        watchers,
        Effect.fnUntraced({ self: this }, function* (watcher) {
          const users: Array<UserId> = []
          for (const [user, { due, known }] of watcher.watching ?? NONE) if (known && !due) users.push(user)
          for (let from = 0; from < users.length; from += PRESENCE_USERS) {
            if (watcher.isClosing || telling !== this.#tellings) return
            const found = yield* Effect.result(this.#options.router.presence(users.slice(from, from + PRESENCE_USERS)))
            if (found._tag === "Failure") continue
            yield* Effect.timeoutOption(watcher.out.room, ROOM_WITHIN)
            for (const [user, presence] of found.success) {
              const one = watcher.watching?.get(user)
              if (one?.known === true && !one.due) watcher.push(new Frame({ t: "presence", user, ...presence }))
            }
          }
        }),
        { concurrency: AT_ONCE, discard: true }
      )
    )
  }
}
