import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { Queries, QueryRefused } from "../read-side/Queries.ts"

/** Conversations and members that are remembered for signals, about 50 MB at most, and for how long. */
const REMEMBERED = 2_000
const REMEMBERED_MEMBERS = 500_000
const FRESH_MS = 4_000

interface Audience {
  readonly members: ReadonlySet<UserId>
  readonly list: ReadonlyArray<UserId>
  readonly until: number
}

/** Who is told of typing. What this believes serves signals only: they may be lost, and reach nobody for longer than {@link FRESH_MS} after a removal. */
export class Audiences {
  readonly #queries: Queries["Service"]
  readonly #now: () => number
  readonly #known = new Map<ConversationId, Audience>()

  readonly #seen: () => Vector
  #members = 0
  /** Questions under way. What is forgotten meanwhile makes the answer one of before, which is not kept. */
  readonly #asking = new Map<ConversationId, { readonly answered: Latch.Latch; forgotten: boolean }>()

  constructor(queries: Queries["Service"], now: () => number, seen: () => Vector) {
    this.#queries = queries
    this.#now = now
    this.#seen = seen
  }

  forget(conv: ConversationId): void {
    this.#members -= this.#known.get(conv)?.list.length ?? 0
    this.#known.delete(conv)
    const asking = this.#asking.get(conv)
    if (asking !== undefined) asking.forgotten = true
  }

  /** The members of a conversation; undefined when this user is not one of them. */
  of(user: UserId, conv: ConversationId): Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused> {
    return Effect.suspend(() => {
      const known = this.#fresh(user, conv)
      if (known !== undefined) return Effect.succeed(known.list)
      const asking = this.#asking.get(conv)
      // A large group that starts to type asks once. Who asked may have been refused or forgotten, which says nothing to others.
      if (asking === undefined) return this.#ask(user, conv)
      return Effect.andThen(
        asking.answered.await,
        Effect.suspend(() => {
          const found = this.#fresh(user, conv)
          return found === undefined
            ? this.#queries.audience(user, conv, this.#seen())
            : Effect.succeed<ReadonlyArray<UserId> | undefined>(found.list)
        })
      )
    })
  }

  #fresh(user: UserId, conv: ConversationId): { readonly list: ReadonlyArray<UserId> | undefined } | undefined {
    const known = this.#known.get(conv)
    if (known === undefined || known.until <= this.#now()) return undefined
    return { list: known.members.has(user) ? known.list : undefined }
  }

  #ask(user: UserId, conv: ConversationId): Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused> {
    const asking = { answered: Latch.makeUnsafe(false), forgotten: false }
    this.#asking.set(conv, asking)
    return this.#queries.audience(user, conv, this.#seen()).pipe(
      Effect.tap((list) =>
        Effect.sync(() => {
          if (list !== undefined && !asking.forgotten) this.#keep(conv, list)
        })
      ),
      Effect.ensuring(
        Effect.sync(() => {
          this.#asking.delete(conv)
          asking.answered.openUnsafe()
        })
      )
    )
  }

  #keep(conv: ConversationId, list: ReadonlyArray<UserId>): void {
    this.forget(conv)
    this.#known.set(conv, { members: new Set(list), list, until: this.#now() + FRESH_MS })
    this.#members += list.length
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= REMEMBERED && this.#members <= REMEMBERED_MEMBERS) break
      this.forget(oldest)
    }
  }
}
