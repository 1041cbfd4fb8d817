import * as Effect from "effect/Effect"
import type { EventData } from "../domain/events.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { Router, Signal } from "../platform/Router.ts"
import type { QueryRefused } from "../read-side/Queries.ts"
import { errFrame } from "./errors.ts"
import { Frame } from "./Frame.ts"

/** Whoever was told that somebody types is told that they do no more after this, in milliseconds, unless it is said again. */
const EXPIRES_MS = 6_000
/** That somebody still types is passed on so often at most: twice before it expires, so that one may be lost. */
const REPEAT_MS = 2_500
/** And that they type again, after they had stopped. */
const AGAIN_MS = 1_000
/** Beyond so many members nobody is told: what one keystroke costs has an end. */
const MEMBERS = 200
/** People who type at once, as their own node and as the others remember them; beyond it those who said so first are forgotten. */
const TYPISTS = 10_000

/** The connection of somebody who types. */
export interface Typist {
  readonly id: string
  readonly user: UserId
}

export interface TypingOptions {
  readonly now: () => number
  readonly router: Pick<Router["Service"], "signal">
  /** The members of the conversation; undefined when this user is none of them, as far as is known now. */
  readonly audience: (
    user: UserId,
    conv: ConversationId
  ) => Effect.Effect<ReadonlyArray<UserId> | undefined, QueryRefused>
  /** Gives a frame to the connections of these users that follow the conversation, without the one of this session. */
  readonly give: (users: ReadonlyArray<UserId>, session: string, conv: ConversationId, frame: Frame) => void
}

type TypingSignal = Extract<Signal, { readonly _tag: "Typing" }>

/** What was passed on of somebody: whether they type, and when it was last said that they do. */
interface Said {
  readonly on: boolean
  readonly at: number
}

/** Somebody of whom connections here were told that they type. */
interface Told {
  readonly users: ReadonlyArray<UserId>
  readonly signal: TypingSignal
  readonly until: number
}

const keyOf = (conv: ConversationId, user: UserId): string => `${conv}\n${user}`

/**
 * That people type: said by members to members, seldom enough, over by itself. What is passed on may be lost, and is the first that a full queue does without, so
 * nobody is told for ever.
 */
export class Typing {
  readonly #options: TypingOptions
  readonly #said = new Map<string, Said>()
  /** In the order in which it ends. */
  readonly #told = new Map<string, Told>()

  constructor(options: TypingOptions) {
    this.#options = options
  }

  /** Passes on that somebody types, or does no more. Answers only a refusal. */
  readonly say = Effect.fnUntraced(
    { self: this },
    function* (
      this: Typing,
      { id, user }: Typist,
      conv: ConversationId,
      on: boolean
    ): Effect.fn.Return<Frame | undefined> {
      const { audience, now, router } = this.#options
      const members = yield* Effect.result(audience(user, conv))
      if (members._tag === "Failure") return errFrame(members.failure.code, members.failure.message)
      if (members.success === undefined)
        return errFrame("not_found", `There is no conversation ${conv} that you are a member of.`)
      if (members.success.length > MEMBERS) return undefined
      if (!this.#isNews(keyOf(conv, user), on, now())) return undefined
      yield* router.signal(members.success, { _tag: "Typing", conv, user, on, session: id })
      return undefined
    }
  )

  #isNews(key: string, on: boolean, now: number): boolean {
    const { at, on: was } = this.#said.get(key) ?? { at: -Infinity, on: false }
    // After it has expired nobody waits for its end.
    if (on ? now - at < (was ? REPEAT_MS : AGAIN_MS) : !was || now - at >= EXPIRES_MS) return false
    // In the order in which they are forgotten.
    this.#said.delete(key)
    this.#said.set(key, { on, at: on ? now : at })
    if (this.#said.size > TYPISTS) this.#said.delete(this.#said.keys().next().value!)
    return true
  }

  /** Who is in a conversation changed: one who came back may type at once, and who is gone is not told the end of what others began. */
  changed(conv: ConversationId, { added = [], removed = [] }: EventData["members"]): void {
    for (const user of added) this.#said.delete(keyOf(conv, user))
    if (removed.length === 0) return
    for (const [key, told] of this.#told) {
      if (told.signal.conv !== conv) continue
      const users = told.users.filter((user) => !removed.includes(user))
      this.#told.set(key, { ...told, users })
    }
  }

  /** Gives what other nodes, or this one, passed on. `users`: those of its members who are here. */
  take(signal: TypingSignal, users: ReadonlyArray<UserId>): void {
    const { give, now } = this.#options
    const key = keyOf(signal.conv, signal.user)
    const isKnown = this.#told.delete(key)
    // Nobody here was told that they type: there were too many, or it is over.
    if (!signal.on && !isKnown) return
    if (signal.on) {
      if (this.#told.size >= TYPISTS) return
      this.#told.set(key, { users, signal, until: now() + EXPIRES_MS })
    }
    give(users, signal.session, signal.conv, typingFrame(signal))
  }

  /** Once a second: ends what was not said again. */
  tick(): void {
    const now = this.#options.now()
    for (const [key, { signal, until, users }] of this.#told) {
      if (until > now) break
      this.#told.delete(key)
      this.#options.give(users, signal.session, signal.conv, typingFrame({ ...signal, on: false }))
    }
    for (const [key, { at }] of this.#said) {
      if (now - at < EXPIRES_MS) break
      this.#said.delete(key)
    }
  }
}

const typingFrame = ({ conv, on, user }: TypingSignal): Frame => new Frame({ t: "typing", conv, user, on }, true)
