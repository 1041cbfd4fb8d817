import * as Effect from "effect/Effect"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { Queries, QueryRefused } from "../read-side/Queries.ts"

/** Conversations whose members are remembered for signals, and for how long. */
const REMEMBERED = 2_000
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
  /** Counts what was forgotten: what was asked for before may be of before. */
  #forgotten = 0

  constructor(queries: Queries["Service"], now: () => number, seen: () => Vector) {
    this.#queries = queries
    this.#now = now
    this.#seen = seen
  }

  forget(conv: ConversationId): void {
    this.#known.delete(conv)
    this.#forgotten++
  }

  /** The members of a conversation; undefined when this user is not one of them. */
  of(user: UserId, conv: ConversationId): Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused> {
    const known = this.#known.get(conv)
    if (known !== undefined && known.until > this.#now()) {
      return Effect.succeed(known.members.has(user) ? known.list : undefined)
    }
    const forgotten = this.#forgotten
    return this.#queries.audience(user, conv, this.#seen()).pipe(
      Effect.map((list) => {
        if (list === undefined || forgotten !== this.#forgotten) return list
        this.#known.delete(conv)
        this.#known.set(conv, { members: new Set(list), list, until: this.#now() + FRESH_MS })
        if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.keys().next().value!)
        return list
      })
    )
  }
}
