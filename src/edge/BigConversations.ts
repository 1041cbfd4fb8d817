import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { removedBy, type TimelineEvent } from "../domain/events.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { partitionOf, type Vector } from "../domain/partition.ts"
import type { Router, RouterUnavailable } from "../platform/Router.ts"
import { type Queries, type QueryRefused, STANDING_USERS } from "../read-side/Queries.ts"
import type { LogUnavailable } from "../write-side/EventLog.ts"
import type { Persisted } from "./Run.ts"

/** After an engine did not answer; and until it is looked again whether the removal has come of somebody whom the log knows to be removed. */
const RETRY = "200 millis"
/** Conversations of one user of which it is remembered by itself where they last came or went. */
const REMEMBERED = 256

/** A user of whom this node knows in which big conversations they are. Most are in none, and cost little. */
interface Known {
  convs: Set<ConversationId> | undefined
  /** Where they last came to a conversation or went from it, as far as that was told here. What is not after that is a repeat. */
  last: Map<ConversationId, number> | undefined
  /** The same for all other conversations: what was asked for includes everything up to here. */
  since: Vector
  /** While it is asked for: open when that is over. */
  asking: Latch.Latch | undefined
}

/** A big conversation with members here. */
interface Interest {
  readonly users: Set<UserId>
  /** The same as a list, until it changes. */
  list: ReadonlyArray<UserId> | undefined
  /** Open while what is committed finds this node. */
  readonly registered: Latch.Latch
  isRegistered: boolean
  /** What was committed after this position has found this node, in the conversation's partition. */
  since: number | undefined
  /** Users who were brought in by an event, when what followed it may not have found this node. */
  readonly due: Set<UserId>
  /** The first such event. */
  dueFrom: number
  isAtWork: boolean
}

export interface BigConversationsOptions {
  readonly router: Pick<Router["Service"], "node" | "register" | "unregister">
  readonly queries: Pick<Queries["Service"], "bigConversations" | "standing" | "pull">
  /** The heads of all partitions, read after the call. */
  readonly barrier: Effect.Effect<Vector, LogUnavailable>
  readonly partitions: number
  /** Whether anything of this user is here. */
  readonly isHere: (user: UserId) => boolean
  /** Gives an event to a user's connections, as if it came now. */
  readonly give: (user: UserId, event: TimelineEvent) => void
  readonly fork: (effect: Effect.Effect<void>) => void
  /** Everything up to here came by the node's stream, and was given: moved here. */
  readonly progress: Array<number>
}

/**
 * The big conversations that this node is interested in, and who of its users is a member of each: what happens in them comes once, and without the names of those whom it is for.
 *
 * Who attaches asks in which they are, and the node registers its interest before the barrier is read: what was committed before it is among what was missed, and what
 * is committed after it finds the node. Who comes and goes later is told to those whom it concerns, in the order of the log, by which this stays true. Where such an event is what
 * makes the node interested, what was committed between it and the registration may not have come: so what is newest then is looked up and given, and until that is done no
 * cursor covers what came after the event.
 *
 * Bounded by the users who are here and the conversations that they are in.
 */
export class BigConversations {
  readonly #options: BigConversationsOptions
  #known = new Map<UserId, Known>()
  #interests = new Map<ConversationId, Interest>()
  /** Those with somebody who is due. */
  #due = new Map<ConversationId, Interest>()
  /** Registrations that are being taken away. */
  readonly #leaving = new Map<ConversationId, Latch.Latch>()
  /** Everything up to here came by the node's stream. */
  readonly #came: Array<number>

  constructor(options: BigConversationsOptions) {
    this.#options = options
    this.#came = new Array<number>(options.partitions).fill(0)
  }

  /** Those of a big conversation's members who are here. */
  usersOf(conv: ConversationId): ReadonlyArray<UserId> {
    const interest = this.#interests.get(conv)
    if (interest === undefined) return NOBODY
    return (interest.list ??= [...interest.users])
  }

  /** Those who are given this event. Where nobody is, the conversation is registered no longer. */
  usersFor({ conv, origin }: TimelineEvent): ReadonlyArray<UserId> {
    const users = this.usersOf(conv)
    // What was asked for here comes here in any case.
    if (users.length === 0 && origin?.node !== this.#options.router.node) this.stray(conv)
    return users
  }

  /**
   * From when this answers, what is committed afterwards in any big conversation of this user finds this node, and is given to this user. Their route is registered.
   */
  ensure(user: UserId): Effect.Effect<void, RouterUnavailable | QueryRefused | LogUnavailable> {
    return Effect.gen({ self: this }, function* () {
      for (;;) {
        if (!this.#options.isHere(user)) return
        const known = this.#known.get(user)
        if (known === undefined) yield* this.#ask(user)
        else if (known.asking !== undefined) yield* known.asking.await
        else {
          const waiting = this.#unregistered(known)
          if (waiting === undefined) return
          yield* waiting
        }
      }
    })
  }

  /** Until one of a user's conversations is registered that is not yet; it may be given up meanwhile. */
  #unregistered(known: Known): Effect.Effect<void> | undefined {
    for (const conv of known.convs ?? NOBODY) {
      const interest = this.#interests.get(conv)
      if (interest?.isRegistered === false) return interest.registered.await
    }
    return undefined
  }

  #ask(user: UserId): Effect.Effect<void, QueryRefused | LogUnavailable> {
    const { barrier, queries } = this.#options
    const asking = Latch.makeUnsafe(false)
    const known: Known = { convs: undefined, last: undefined, since: [], asking }
    this.#known.set(user, known)
    return barrier.pipe(
      Effect.flatMap((vector) =>
        Effect.map(queries.bigConversations(user, vector), (found) => {
          // They left meanwhile, or all was lost.
          if (this.#known.get(user) !== known) return
          // What was told meanwhile is followed by whatever came after it.
          for (const conv of found) if (known.last?.has(conv) !== true) this.#enter(conv, user, known)
          known.since = vector
          known.asking = undefined
        })
      ),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (exit._tag === "Failure" && this.#known.get(user) === known) this.forget(user)
          asking.openUnsafe()
        })
      )
    )
  }

  /** Nothing of this user is here any more. */
  forget(user: UserId): void {
    const known = this.#known.get(user)
    if (known === undefined) return
    this.#known.delete(user)
    for (const conv of known.convs ?? NOBODY) this.#leave(conv, user)
    known.asking?.openUnsafe()
  }

  /** Members came or went by this event, which was addressed to those of them who are here. */
  changed({ big, event, users }: Persisted): void {
    const { conv, partition, position } = event
    const removed = new Set(removedBy(event))
    for (const user of users) {
      const known = this.#known.get(user)
      if (known === undefined || position <= (known.last?.get(conv) ?? known.since[partition] ?? 0)) continue
      this.#remember(known, conv, position)
      if (big === true && !removed.has(user)) this.#enter(conv, user, known, position)
      else if (known.convs?.delete(conv) === true) this.#leave(conv, user)
    }
  }

  #remember(known: Known, conv: ConversationId, position: number): void {
    known.last ??= new Map()
    known.last.set(conv, position)
    if (known.last.size <= REMEMBERED || known.asking !== undefined) return
    const since = [...known.since]
    for (const [other, at] of known.last) {
      const partition = partitionOf(other, this.#options.partitions)
      since[partition] = Math.max(since[partition]!, at)
    }
    known.since = since
    known.last = undefined
  }

  /** `position`: of the event that brings them in, where it is not known from what was asked. */
  #enter(conv: ConversationId, user: UserId, known: Known, position?: number): void {
    let interest = this.#interests.get(conv)
    if (interest === undefined) this.#interests.set(conv, (interest = newInterest()))
    if (interest.users.has(user)) return
    known.convs ??= new Set()
    known.convs.add(conv)
    interest.users.add(user)
    interest.list = undefined
    if (position !== undefined && position <= (interest.since ?? Infinity)) {
      interest.due.add(user)
      interest.dueFrom = Math.min(interest.dueFrom, position)
      this.#due.set(conv, interest)
    }
    this.#work(conv, interest)
  }

  #leave(conv: ConversationId, user: UserId): void {
    const interest = this.#interests.get(conv)
    if (interest?.users.delete(user) !== true) return
    interest.list = undefined
    this.#settled(conv, interest, [user])
    if (interest.users.size === 0) this.#work(conv, interest)
  }

  /** Nothing is missing any more for these users. */
  #settled(conv: ConversationId, interest: Interest, users: Iterable<UserId>): void {
    for (const user of users) interest.due.delete(user)
    if (interest.due.size > 0 || interest.dueFrom === Infinity) return
    interest.dueFrom = Infinity
    this.#due.delete(conv)
    this.#move(partitionOf(conv, this.#options.partitions))
  }

  /** Something came in a conversation of which nobody is here: it is registered no longer. */
  stray(conv: ConversationId): void {
    if (this.#interests.has(conv)) return
    const interest = newInterest()
    interest.isRegistered = true
    this.#interests.set(conv, interest)
    this.#work(conv, interest)
  }

  /** Everything that was registered is lost, and who came and went meanwhile is not known: all is asked for again. */
  lost(): void {
    const latches = Array.from(this.#interests.values(), ({ registered }) => registered)
    for (const { asking } of this.#known.values()) if (asking !== undefined) latches.push(asking)
    this.#known = new Map()
    this.#interests = new Map()
    this.#due = new Map()
    for (const latch of latches) latch.openUnsafe()
    for (let partition = 0; partition < this.#came.length; partition++) this.#move(partition)
  }

  /** The node's stream brought everything up to this position of the partition. */
  came(partition: number, position: number): void {
    if (position <= this.#came[partition]!) return
    this.#came[partition] = position
    this.#move(partition)
  }

  /** Not past an event after which something may be missing. */
  #move(partition: number): void {
    const { partitions, progress } = this.#options
    let position = this.#came[partition]!
    for (const [conv, { dueFrom }] of this.#due) {
      if (dueFrom <= position && partitionOf(conv, partitions) === partition) position = dueFrom - 1
    }
    progress[partition] = Math.max(progress[partition]!, position)
  }

  /** Brings what is registered to what is wanted, one step after another. */
  #work(conv: ConversationId, interest: Interest): void {
    if (interest.isAtWork) return
    interest.isAtWork = true
    this.#options.fork(
      Effect.gen({ self: this }, function* () {
        while (this.#interests.get(conv) === interest) {
          const next = this.#step(conv, interest)
          if (next === undefined) break
          yield* Effect.catch(next, (error) => Effect.andThen(Effect.logWarning(error.message), Effect.sleep(RETRY)))
        }
        interest.isAtWork = false
      })
    )
  }

  /** What is to be done next for a conversation; undefined when all is as it should be. */
  #step(
    conv: ConversationId,
    interest: Interest
  ): Effect.Effect<void, RouterUnavailable | LogUnavailable | QueryRefused> | undefined {
    const { barrier, partitions, router } = this.#options
    if (interest.users.size === 0) {
      if (interest.isRegistered) return this.#unregister(conv, interest)
      this.#interests.delete(conv)
      interest.registered.openUnsafe()
      return undefined
    }
    if (!interest.isRegistered) {
      // One that is on its way might take away what this brings.
      const leaving = this.#leaving.get(conv)
      if (leaving !== undefined) return leaving.await
      return Effect.map(router.register(conv), () => {
        interest.isRegistered = true
        interest.registered.openUnsafe()
      })
    }
    if (interest.since === undefined)
      return Effect.map(barrier, (vector) => void (interest.since = vector[partitionOf(conv, partitions)]!))
    return interest.due.size === 0 ? undefined : this.#catchUp(conv, interest)
  }

  #unregister(conv: ConversationId, interest: Interest): Effect.Effect<void> {
    const left = Latch.makeUnsafe(false)
    this.#leaving.set(conv, left)
    interest.isRegistered = false
    interest.since = undefined
    interest.registered.closeUnsafe()
    return this.#options.router.unregister(conv).pipe(
      // It stays registered then, until something comes that is for nobody.
      Effect.catch((error) => Effect.logWarning(error.message)),
      Effect.andThen(
        Effect.sync(() => {
          this.#leaving.delete(conv)
          left.openUnsafe()
        })
      )
    )
  }

  /** Gives what is newest to those who are due. What lies before it is found to be missing then. */
  readonly #catchUp = Effect.fnUntraced(
    { self: this },
    function* (
      this: BigConversations,
      conv: ConversationId,
      interest: Interest
    ): Effect.fn.Return<void, LogUnavailable | QueryRefused> {
      const { barrier, give, queries } = this.#options
      const users = [...interest.due].slice(0, STANDING_USERS)
      const { head, members } = yield* queries.standing(conv, users, yield* barrier)
      const [newest] = members.length === 0 ? [] : yield* queries.pull(conv, head - 1, 1)
      if (this.#interests.get(conv) !== interest) return
      if (newest === undefined) return yield* Effect.sleep(RETRY)
      const here = members.filter((user) => interest.due.has(user))
      for (const user of here) give(user, newest)
      // One whom the log knows to be removed is given what came before that when the removal comes, and is due until then.
      this.#settled(conv, interest, here)
      if (here.length === 0) yield* Effect.sleep(RETRY)
    }
  )
}

const NOBODY: ReadonlyArray<never> = []

const newInterest = (): Interest => ({
  users: new Set(),
  list: undefined,
  registered: Latch.makeUnsafe(false),
  isRegistered: false,
  since: undefined,
  due: new Set(),
  dueFrom: Infinity,
  isAtWork: false
})
