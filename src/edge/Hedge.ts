import * as Effect from "effect/Effect"
import type { Command } from "../domain/commands.ts"
import type { EventData } from "../domain/events.ts"
import type { ClientId, ConversationId, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { Rejection } from "../domain/rejections.ts"
import type { Router } from "../platform/Router.ts"
import type { QueryRefused } from "../read-side/Queries.ts"
import type { LogUnavailable } from "../write-side/EventLog.ts"

/** How often what is overdue is looked at, in milliseconds: a fifth of the shortest time that the setting allows. */
export const HEDGE_TICK_MS = 50
/** Characters of bodies that are kept for `live`; what comes beyond them is `sent` and does not go out before it is persisted. */
const LIVE_CHARS = 16 * 1024 * 1024

/** A command of a connection that the log has not answered yet. */
export interface Pending {
  readonly session: string
  readonly conv: ConversationId
  readonly by: UserId
  readonly cid: ClientId
  /** What goes out as `live`; undefined for what is no message, and for what would be too much to keep. */
  readonly message: EventData["message"] | undefined
  readonly partition: number
  /** How many commands were offered for this partition before it and with it. */
  readonly ordinal: number
  /** The head of the partition as it was known when nothing of this command could be in it. */
  baseline: number
  /** When it is looked at next. */
  due: number
  isSent: boolean
  isDone: boolean
  /** Who was told of it before the log had it. */
  live: ReadonlyArray<UserId> | undefined
}

export interface HedgeOptions {
  readonly partitions: number
  /** Milliseconds without an answer after which a command that the broker has is said to be sent. */
  readonly afterMs: number
  readonly now: () => number
  readonly router: Router["Service"]
  /** The head of a partition as this node has seen it. */
  readonly seen: (partition: number) => number
  /** The heads of the log, from the log: a failure says that it is away. */
  readonly heads: Effect.Effect<Vector, LogUnavailable>
  /** The members of the conversation; undefined when this user is none of them, as far as is known now. */
  readonly audience: (user: UserId, conv: string) => Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused>
  /** Tells the command's connection that it is sent; false when nobody waits for it any more. */
  readonly sent: (pending: Pending) => boolean
  readonly count: (what: "hedgedLive" | "hedgedUnlive") => void
}

/** A command as it was offered. */
type Offered = Omit<Command, "origin">

/**
 * What happens while the log takes long: a command that is durable in the broker is `sent`, and a message whose partition of the log stands still goes
 * out as `live`, so that people go on talking while the log fails over. `event` or `unlive` settles it afterwards.
 *
 * In the order in which commands were offered, so that looking costs what is overdue and no more.
 */
export class Hedge {
  readonly #options: HedgeOptions
  /** Commands that were offered, and those of them that the broker has confirmed, by partition: both in the same order. */
  readonly #offered: Array<number>
  readonly #confirmed: Array<number>
  #young: Array<Pending> = []
  #overdue: Array<Pending> = []
  #chars = 0
  #asking = false

  constructor(options: HedgeOptions) {
    this.#options = options
    this.#offered = new Array<number>(options.partitions).fill(0)
    this.#confirmed = new Array<number>(options.partitions).fill(0)
  }

  /** A command was offered to the bus, and taken. Every one must be counted, those that nobody hedges too. */
  offered(partition: number): void {
    this.#offered[partition]!++
  }

  /** The broker has so many more of the commands that were offered for a partition. */
  confirmed(partition: number, commands: number): void {
    this.#confirmed[partition]! += commands
  }

  /** Follows the command that was offered last for its partition, of a connection, until it is {@link Pending.isDone}. `head`: of the partition, as known. */
  follow(session: string, { by, cid, conv, intent }: Offered, partition: number, head: number): Pending {
    const pending: Pending = {
      session,
      conv,
      by,
      cid,
      message: intent.type === "send" ? this.#keep(intent) : undefined,
      partition,
      ordinal: this.#offered[partition]!,
      baseline: head,
      due: this.#options.now() + this.#options.afterMs,
      isSent: false,
      isDone: false,
      live: undefined
    }
    this.#young.push(pending)
    return pending
  }

  #keep({ body, kind, replyTo }: Extract<Offered["intent"], { readonly type: "send" }>): Pending["message"] {
    if (this.#chars + body.length > LIVE_CHARS) return undefined
    this.#chars += body.length
    return { kind, body, ...(replyTo === undefined ? {} : { replyTo }) }
  }

  /** Without those that are done. */
  #open(pendings: ReadonlyArray<Pending>): Array<Pending> {
    const open: Array<Pending> = []
    for (const pending of pendings) {
      if (pending.isDone) this.#chars -= pending.message?.body.length ?? 0
      else open.push(pending)
    }
    return open
  }

  /** The command side refused it: who saw it as `live` is told that it is none. */
  refused({ by, cid, conv, live, session }: Pending, { code }: Rejection): Effect.Effect<void> | undefined {
    if (live === undefined) return undefined
    this.#options.count("hedgedUnlive")
    return this.#options.router.signal(live, { _tag: "Unlive", conv, cid, by, code, session })
  }

  /** Looks at what is overdue. Answers what there is to do that takes time; undefined for nothing. */
  tick(): Effect.Effect<void> | undefined {
    const now = this.#options.now()
    let grown = 0
    while (grown < this.#young.length && (this.#young[grown]!.isDone || this.#young[grown]!.due <= now)) grown++
    if (grown > 0) {
      this.#overdue.push(...this.#open(this.#young.slice(0, grown)))
      this.#young = this.#young.slice(grown)
    }
    if (this.#overdue.length === 0) return undefined
    this.#overdue = this.#open(this.#overdue)
    for (const pending of this.#overdue) {
      if (pending.isSent || pending.ordinal > this.#confirmed[pending.partition]!) continue
      pending.isSent = true
      // Nobody waits for its answer: it is another connection's, or nobody's.
      if (!this.#options.sent(pending)) pending.isDone = true
    }
    if (this.#asking) return undefined
    const messages: Array<Pending> = []
    for (const pending of this.#overdue) {
      if (!pending.isSent || pending.isDone || pending.live !== undefined || pending.message === undefined) continue
      if (pending.due > now) continue
      // Where commits come in there is nothing to ask: it is busy, and does not stand still.
      if (!this.#moved(pending, this.#options.seen(pending.partition), now)) messages.push(pending)
    }
    if (messages.length === 0) return undefined
    this.#asking = true
    return this.#goOut(messages).pipe(Effect.ensuring(Effect.sync(() => void (this.#asking = false))))
  }

  /** Whether its partition has committed something since it was looked at; then it is looked at again later. */
  #moved(pending: Pending, head: number, now: number): boolean {
    if (head <= pending.baseline) return false
    pending.baseline = head
    pending.due = now + this.#options.afterMs
    return true
  }

  /** Sends those messages out of which the partition has committed nothing since they were offered. */
  #goOut(messages: ReadonlyArray<Pending>): Effect.Effect<void> {
    const { afterMs, audience, count, heads, now, router } = this.#options
    return Effect.gen({ self: this }, function* () {
      const answered = yield* Effect.result(Effect.timeout(heads, afterMs))
      for (const pending of messages) {
        if (answered._tag === "Success" && this.#moved(pending, answered.success[pending.partition]!, now())) continue
        const { by, cid, conv, message: data, session } = pending
        const members = yield* Effect.result(audience(by, conv))
        // Not a member as far as is known, or answered while that was being found out.
        if (members._tag === "Failure" || members.success === undefined || data === undefined || pending.isDone) {
          pending.due = now() + afterMs
          continue
        }
        pending.live = members.success
        count("hedgedLive")
        yield* router.signal(members.success, { _tag: "Live", conv, cid, by, at: now(), data, session })
      }
    })
  }
}
