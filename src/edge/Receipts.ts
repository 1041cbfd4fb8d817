import * as Effect from "effect/Effect"
import type { ReceiptChange } from "../domain/conversation.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { NodeItem } from "../platform/Router.ts"
import type { Queries, QueryRefused } from "../read-side/Queries.ts"
import type { LogUnavailable } from "../write-side/EventLog.ts"

/** What is told of one user's watermarks in one conversation, or of its counts, comes so often at most, in milliseconds. */
const EVERY_MS = 1_000
/** Watermarks and counts that were told within that time; more are told at once, so that none is lost. */
const REMEMBERED = 50_000

type Receipt = Omit<Extract<NodeItem, { readonly _tag: "Receipt" }>, "_tag">

interface Told {
  at: number
  /** What came since. */
  next: Receipt | undefined
}

/** Watermarks only grow, and counts are of what was newest; told to whom the later one is for. */
const merged = (before: Receipt | undefined, next: Receipt): Receipt => {
  if (before === undefined) return next
  const receipt = newest(before.receipt, next.receipt)
  return before.session === next.session ? { ...next, receipt } : { receipt, users: next.users }
}

const newest = (before: ReceiptChange, next: ReceiptChange): ReceiptChange => {
  if (!("user" in next)) return next
  if (!("user" in before)) return next
  const delivered = Math.max(before.delivered ?? 0, next.delivered ?? 0)
  const seen = Math.max(before.seen ?? 0, next.seen ?? 0)
  return { conv: next.conv, user: next.user, ...(delivered > 0 ? { delivered } : {}), ...(seen > 0 ? { seen } : {}) }
}

/**
 * Receipts on their way to a node's connections: the first is given at once, and of those that follow within {@link EVERY_MS} the newest state, later. Whoever reads a
 * whole conversation on three devices is one receipt a second to everybody else.
 */
export class Receipts {
  readonly #now: () => number
  readonly #give: (receipt: Receipt) => void
  /** By conversation, and by the user whose they are; none for counts. */
  readonly #told = new Map<ConversationId, Map<UserId | undefined, Told>>()
  #size = 0
  /** The node's progress at the last ticks. */
  readonly #before: Array<Vector> = []
  /** Those of marks after this may have been lost. */
  #lost: Vector | undefined

  constructor(now: () => number, give: (receipt: Receipt) => void) {
    this.#now = now
    this.#give = give
  }

  take(receipt: Receipt): void {
    const { conv } = receipt.receipt
    const user = "user" in receipt.receipt ? receipt.receipt.user : undefined
    const now = this.#now()
    const known = this.#told.get(conv)?.get(user)
    if (known !== undefined && now - known.at < EVERY_MS) {
      known.next = merged(known.next, receipt)
      return
    }
    this.#give(merged(known?.next, receipt))
    if (known !== undefined) {
      known.at = now
      known.next = undefined
    } else if (this.#size < REMEMBERED) {
      let users = this.#told.get(conv)
      if (users === undefined) this.#told.set(conv, (users = new Map<UserId | undefined, Told>()))
      users.set(user, { at: now, next: undefined })
      this.#size++
    }
  }

  /** Gives what waits of a conversation now: who is in it is about to change. */
  flush(conv: ConversationId): void {
    for (const told of this.#told.get(conv)?.values() ?? []) {
      if (told.next === undefined) continue
      this.#give(told.next)
      told.next = undefined
    }
  }

  /** A part of the node's stream is missing, which had brought everything up to `progress`. */
  lost(progress: Vector): void {
    // Counts of large groups come up to a second after the progress that is past their marks.
    this.#lost ??= this.#before[0] ?? [...progress]
  }

  /** Tells again what may have been lost. `until`: a barrier that was read after all users were registered again. */
  readonly again = Effect.fnUntraced(
    { self: this },
    function* (
      this: Receipts,
      until: Effect.Effect<Vector, LogUnavailable>,
      missed: Queries["Service"]["receipts"]
    ): Effect.fn.Return<void, LogUnavailable | QueryRefused> {
      const since = this.#lost
      if (since === undefined) return
      const receipts = yield* missed(since, yield* until)
      for (const receipt of receipts) this.take(receipt)
      if (this.#lost === since) this.#lost = undefined
    }
  )

  /** Once a second: gives what waited long enough. `progress`: everything up to here came by the node's stream. */
  tick(progress: Vector): void {
    if (this.#before.push([...progress]) > 3) this.#before.shift()
    const now = this.#now()
    for (const [conv, users] of this.#told) {
      for (const [user, told] of users) {
        if (now - told.at < EVERY_MS) continue
        if (told.next === undefined) {
          users.delete(user)
          this.#size--
          continue
        }
        this.#give(told.next)
        told.at = now
        told.next = undefined
      }
      if (users.size === 0) this.#told.delete(conv)
    }
  }
}
