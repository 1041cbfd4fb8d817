/** The state of a user interface: conversations with their newest messages, kept up to date by a client. */
import type { PresenceState, Receipt, ReplyBody, TimelineEvent } from "../domain/protocol/server-frames.ts"
import type { DardaClient } from "./client.ts"
import {
  applyEvent,
  applySeen,
  blank,
  type Conversation,
  type State,
  takeItem,
  trim,
  WINDOW,
  WINDOW_MAX
} from "./conversation.ts"
import { Emitter } from "./emitter.ts"
import { type Clock, realEnvironment } from "./environment.ts"
import { LIVE_TTL_MS } from "./limits.ts"
import type { Command } from "./outbox.ts"
import { newest, older } from "./pages.ts"

const CONVERSATIONS_MAX = 2_000
const PRESENCE_MAX = 2_000
const RECEIPTS_MAX = 64
const FAILED_MAX = 100
const TYPING_MS = 8_000
const SWEEP_MS = 1_000

/** What a store gives out: once a turn, the conversations that changed (`""`: presence, or the list as such). */
export interface StoreEvents {
  readonly change: [changed: ReadonlySet<string>]
}

/** How a store is made. */
export interface StoreOptions {
  /** Whether to mark others' messages as delivered when they come; true when absent. */
  readonly autoDelivered?: boolean
  /** For tests. */
  readonly clock?: Clock
}

/** Holds the conversations of one client. Make it before the client connects. */
export class Store {
  readonly #client: DardaClient
  readonly #clock: Clock
  readonly #autoDelivered: boolean
  readonly #events = new Emitter<StoreEvents>()
  readonly #states = new Map<string, State>()
  readonly #presence = new Map<string, PresenceState>()
  /** Conversations that somebody looks at: after a `reset` these are read again at once. */
  readonly #opened = new Set<string>()
  readonly #offs: readonly (() => void)[]
  #changed = new Set<string>()
  #touches = 0
  #listed = false
  #nextPage: string | undefined
  #refreshing = false
  #wanted = false
  #cancelSweep: (() => void) | undefined

  constructor(client: DardaClient, options: StoreOptions = {}) {
    this.#client = client
    this.#clock = options.clock ?? realEnvironment.clock
    this.#autoDelivered = options.autoDelivered ?? true
    this.#offs = [
      client.on("event", (event) => this.#event(event)),
      client.on("command", (command) => this.#command(command)),
      client.on("reset", (conv, head) => this.#reset(conv, head)),
      client.on("gone", (conv) => this.#gone(conv)),
      client.on("receipt", (receipt) => this.#receipt(receipt)),
      client.on("presence", ({ user, online, lastSeen }) => {
        this.#setPresence(user, { online, ...(lastSeen === undefined ? {} : { lastSeen }) })
      }),
      client.on("typing", ({ conv, user, on }) => {
        const state = this.#states.get(conv)
        if (state === undefined || user === client.user) return
        if (on) state.typing.set(user, this.#clock.now() + TYPING_MS)
        else state.typing.delete(user)
        this.#touch(state)
        this.#armSweep()
      }),
      client.on("live", (live) => {
        if (live.by === client.user || client.serverNow() - live.at >= LIVE_TTL_MS) return
        const state = this.#state(live.conv)
        if (state.live.some(({ cid, by }) => cid === live.cid && by === live.by)) return
        state.live = [...state.live, live].slice(-WINDOW)
        this.#touch(state)
        this.#armSweep()
      }),
      client.on("unlive", ({ conv, cid, by }) => this.#dropLive(conv, (live) => live.cid === cid && live.by === by)),
      client.on("welcome", () => {
        for (const conv of this.#states.keys()) this.#dropLive(conv, () => true)
        // Marks are not replayed: what was read meanwhile, by oneself elsewhere or by others, has to be asked for.
        this.#refresh()
        for (const conv of this.#opened) this.#readReceipts(conv)
      })
    ]
    for (const command of client.pending) this.#command(command)
  }

  /** Listens until the returned function is called. */
  on(name: "change", listener: (changed: ReadonlySet<string>) => void): () => void {
    return this.#events.on(name, listener)
  }

  /** Lets go of the client. */
  stop(): void {
    for (const off of this.#offs) off()
    this.#cancelSweep?.()
  }

  /** What is known of the conversations, by id. */
  get conversations(): ReadonlyMap<string, Conversation> {
    return this.#states
  }

  /** The conversations, the one with the newest message first. */
  sorted(): readonly Conversation[] {
    const at = (state: State): number => (state.outgoing.length > 0 ? Infinity : (state.last?.at ?? 0))
    return [...this.#states.values()].sort((a, b) => {
      const [atA, atB] = [at(a), at(b)]
      return atA === atB ? b.touched - a.touched : atB - atA
    })
  }

  /** What is known of users' presence; watch with `client.presence(users, true)` or `watch`. */
  get presence(): ReadonlyMap<string, PresenceState> {
    return this.#presence
  }

  /** Watches users' presence and takes what it is now. */
  async watch(users: readonly string[]): Promise<void> {
    const reply = await this.#client.presence(users, true)
    for (const [user, state] of Object.entries(reply.users)) this.#setPresence(user, state)
  }

  /** The conversation, also one that nobody has written in yet. */
  conversation(conv: string): Conversation {
    return this.#state(conv)
  }

  /** Reads the next page of the conversation list; `false` when there is no further one. */
  async loadConversations(): Promise<boolean> {
    if (this.#listed && this.#nextPage === undefined) return false
    this.#nextPage = await this.#page(this.#nextPage)
    return this.#nextPage !== undefined
  }

  /** Reads the newest messages unless they are here, and keeps them so until `close`. */
  async open(conv: string): Promise<void> {
    this.#opened.add(conv)
    const state = this.#state(conv)
    if (state.busy !== undefined) await state.busy
    if (!state.loaded) await this.#load(state, () => newest(this.#client, state))
    else this.#readReceipts(conv)
  }

  /** Reads a page of older messages; `false` when there is none, or no room for it. */
  async loadOlder(conv: string): Promise<boolean> {
    const state = this.#state(conv)
    if (!state.loaded) await this.open(conv)
    if (state.busy !== undefined) await state.busy
    if (!state.more || state.messages.length >= WINDOW_MAX) return false
    await this.#load(state, () => older(this.#client, state))
    return state.more
  }

  /** Nobody looks at the conversation any more: only its newest messages are kept. */
  close(conv: string): void {
    this.#opened.delete(conv)
    const state = this.#states.get(conv)
    if (state === undefined) return
    state.windowMax = WINDOW
    trim(state)
    this.#touch(state)
  }

  /** Marks everything there is as seen. */
  markSeen(conv: string): void {
    const state = this.#states.get(conv)
    if (state === undefined || state.head <= state.seen) return
    applySeen(state, state.head, this.#client.user ?? "")
    this.#client.mark(conv, { seen: state.head })
    this.#touch(state)
  }

  /** Forgets a command that failed. */
  discard(conv: string, cid: string): void {
    const state = this.#states.get(conv)
    const index = state?.outgoing.findIndex((command) => command.cid === cid && command.state === "failed") ?? -1
    if (state === undefined || index < 0) return
    state.outgoing.splice(index, 1)
    this.#touch(state)
  }

  /** Sends a command that failed again. */
  again(conv: string, cid: string): void {
    const command = this.#states.get(conv)?.outgoing.find((other) => other.cid === cid && other.state === "failed")
    if (command === undefined) return
    this.discard(conv, cid)
    this.#client.again(command.frame)
  }

  /** Reads a page of the list and says what the next one follows. */
  async #page(after: string | undefined): Promise<string | undefined> {
    const reply = await this.#client.convs(after === undefined ? {} : { after })
    this.#listed = true
    this.#changedNow("")
    for (const item of reply.items) {
      const state = this.#state(item.conv)
      takeItem(state, item)
      if (this.#autoDelivered && item.unread > 0) this.#client.mark(item.conv, { delivered: item.head })
      this.#touch(state)
    }
    return reply.next
  }

  /** Reads the first page of the list again, once for all who want it; the pages after it stay as they are. */
  #refresh(): void {
    if (!this.#listed) return
    this.#wanted = true
    if (this.#refreshing) return
    this.#refreshing = true
    this.#wanted = false
    const done = (): void => {
      this.#refreshing = false
      // Who asked while a page was on its way may know of more than is in it.
      if (this.#wanted) this.#refresh()
    }
    this.#page(undefined).then(done, done)
  }

  async #load(state: State, page: () => Promise<ReplyBody["history"] | undefined>): Promise<void> {
    const busy = (async () => {
      try {
        // A page is read again when too much happened meanwhile to know what it lacks.
        for (let tries = 0; tries < 3; tries++) {
          state.loading = []
          const reply = await page()
          if (reply === undefined) continue
          this.#takeReceipts(state, reply.receipts)
          if (this.#autoDelivered && state.unread > 0) this.#client.mark(state.conv, { delivered: reply.head })
          return
        }
      } finally {
        state.loading = undefined
        state.busy = undefined
        this.#touch(state)
      }
    })()
    state.busy = busy
    return busy
  }

  #event(event: TimelineEvent): void {
    const me = this.#client.user ?? ""
    if (event.type === "members" && event.data.removed?.includes(me) === true) return this.#gone(event.conv)
    // Of a conversation that is new here, such as one this user was added to, an event tells neither title nor members.
    const isKnown = this.#states.has(event.conv)
    const state = this.#state(event.conv)
    applyEvent(state, event, me)
    if (!isKnown && event.seq > 1) this.#refresh()
    if (event.by === me) this.#settled(state, event.cid)
    else if (event.type === "message" && this.#autoDelivered) this.#client.mark(event.conv, { delivered: event.seq })
    this.#touch(state)
  }

  #command(command: Command): void {
    const { t } = command.frame
    if (command.conv === "" || (t !== "send" && t !== "edit" && t !== "delete" && t !== "react")) return
    const state = this.#state(command.conv)
    if (command.state === "persisted") {
      // With a hole before it, its event comes later and takes it away then.
      if (this.#client.lastSeq(command.conv) >= (command.seq ?? 0)) this.#settled(state, command.cid)
    } else if (!state.outgoing.includes(command)) {
      this.#settled(state, command.cid)
      state.outgoing.push(command)
      const failed = state.outgoing.filter((other) => other.state === "failed")
      if (failed.length > FAILED_MAX) state.outgoing.splice(state.outgoing.indexOf(failed[0] as Command), 1)
    }
    this.#touch(state)
  }

  #settled(state: State, cid: string): void {
    const index = state.outgoing.findIndex((command) => command.cid === cid)
    if (index >= 0) state.outgoing.splice(index, 1)
  }

  #reset(conv: string, head: number): void {
    const state = this.#state(conv)
    state.generation++
    state.messages.length = 0
    state.loaded = false
    state.more = true
    state.head = head
    state.counts = undefined
    // Commands whose events are among what was dropped.
    for (const command of state.outgoing.filter((other) => other.state === "persisted"))
      this.#settled(state, command.cid)
    if (this.#opened.has(conv)) void this.open(conv).catch(() => {})
    this.#refresh()
    this.#touch(state)
  }

  #gone(conv: string): void {
    const state = this.#states.get(conv)
    if (state !== undefined) state.generation++
    this.#states.delete(conv)
    this.#opened.delete(conv)
    this.#changedNow(conv)
  }

  #receipt(receipt: Receipt): void {
    const state = this.#states.get(receipt.conv)
    if (state === undefined) return
    if ("user" in receipt) this.#takeReceipt(state, receipt.user, receipt.delivered ?? 0, receipt.seen ?? 0)
    else if (receipt.seq >= (state.counts?.seq ?? 0)) {
      state.counts = { seq: receipt.seq, delivered: receipt.deliveredCount, seen: receipt.seenCount }
    }
    this.#touch(state)
  }

  #readReceipts(conv: string): void {
    this.#client.history({ conv, limit: 1 }).then(
      ({ receipts }) => {
        const state = this.#states.get(conv)
        if (state === undefined) return
        this.#takeReceipts(state, receipts)
        this.#touch(state)
      },
      // The next connection asks again.
      () => {}
    )
  }

  #takeReceipts(state: State, receipts: ReplyBody["history"]["receipts"] = {}): void {
    for (const [user, { delivered, seen }] of Object.entries(receipts)) this.#takeReceipt(state, user, delivered, seen)
  }

  #takeReceipt(state: State, user: string, delivered: number, seen: number): void {
    if (user === this.#client.user) return applySeen(state, seen, user)
    const before = state.receipts.get(user)
    if (before === undefined && state.receipts.size >= RECEIPTS_MAX) return
    state.receipts.set(user, {
      delivered: Math.max(before?.delivered ?? 0, delivered, seen),
      seen: Math.max(before?.seen ?? 0, seen)
    })
  }

  #setPresence(user: string, presence: PresenceState): void {
    if (!this.#presence.has(user) && this.#presence.size >= PRESENCE_MAX) {
      for (const oldest of this.#presence.keys()) {
        this.#presence.delete(oldest)
        break
      }
    }
    this.#presence.set(user, presence)
    this.#changedNow("")
  }

  #dropLive(conv: string, drops: (live: Conversation["live"][number]) => boolean): void {
    const state = this.#states.get(conv)
    if (state === undefined || !state.live.some(drops)) return
    state.live = state.live.filter((live) => !drops(live))
    this.#touch(state)
  }

  /** Ends what nobody took back: `typing` and `live` may be lost on their way. */
  #armSweep(): void {
    this.#cancelSweep ??= this.#clock.after(SWEEP_MS, () => {
      this.#cancelSweep = undefined
      const now = this.#clock.now()
      let left = false
      for (const state of this.#states.values()) {
        if (state.typing.size === 0 && state.live.length === 0) continue
        const version = state.typing.size
        for (const [user, until] of state.typing) if (until <= now) state.typing.delete(user)
        if (state.typing.size !== version) this.#touch(state)
        this.#dropLive(state.conv, (live) => this.#client.serverNow() - live.at >= LIVE_TTL_MS)
        left ||= state.typing.size > 0 || state.live.length > 0
      }
      if (left) this.#armSweep()
    })
  }

  #state(conv: string): State {
    const known = this.#states.get(conv)
    if (known !== undefined) return known
    if (this.#states.size >= CONVERSATIONS_MAX) this.#evict()
    const state = blank(conv)
    this.#states.set(conv, state)
    return state
  }

  /** The conversation that rested longest goes, unless something is under way in it; the list has it. */
  #evict(): void {
    let oldest: State | undefined
    for (const state of this.#states.values()) {
      if (state.outgoing.length > 0 || state.busy !== undefined || this.#opened.has(state.conv)) continue
      if (oldest === undefined || state.touched < oldest.touched) oldest = state
    }
    if (oldest !== undefined) this.#states.delete(oldest.conv)
  }

  #touch(state: State): void {
    state.version++
    state.touched = ++this.#touches
    this.#changedNow(state.conv)
  }

  #changedNow(conv: string): void {
    if (this.#changed.size === 0) {
      queueMicrotask(() => {
        const changed = this.#changed
        this.#changed = new Set()
        this.#events.emit("change", changed)
      })
    }
    this.#changed.add(conv)
  }
}
