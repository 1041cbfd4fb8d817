/** The commands that are not persisted yet: sent in order, again after every reconnect, until each has its answer. */
import type { CommandFrame } from "../domain/protocol/client-frames.ts"
import { dmConversation } from "../domain/ids.ts"
import { DardaError } from "./errors.ts"
import { BACKOFF_CAP_MS, OUTBOX_MAX, RETRY_MS } from "./limits.ts"
import type { Clock } from "./environment.ts"

/** `sending`: not answered yet; `sent`: durable in the broker; `persisted`: in the log; `failed`: refused for good. */
export type CommandState = "sending" | "sent" | "persisted" | "failed"

/** A command and where it stands. `conv` is empty while it is not known (a `to` before the first `welcome`, a `create`). */
export interface Command {
  readonly cid: string
  readonly frame: CommandFrame
  readonly conv: string
  readonly state: CommandState
  readonly seq: number | undefined
  readonly at: number | undefined
  readonly dup: boolean
  readonly error: DardaError | undefined
}

/** Called when a command becomes `sent`, `persisted` or `failed`; the last two happen once and end it. */
export type OnAck = (command: Command) => void

/** A command as the outbox keeps it. */
export interface Entry extends Command {
  conv: string
  state: CommandState
  seq: number | undefined
  at: number | undefined
  dup: boolean
  error: DardaError | undefined
  order: number
  readonly onAck: OnAck | undefined
  writtenAt: number
  refusals: number
}

const NOT_ON_WIRE = -1

interface Blocked {
  until: number
  readonly entries: Entry[]
}

/** The outbox of one client. Everything in it has an order; of one conversation nothing overtakes what came before. */
export class Outbox {
  readonly #clock: Clock
  readonly #write: (frame: CommandFrame) => boolean
  readonly #failed: (entry: Entry) => void
  /** By cid, in the order the commands were given. */
  readonly #entries = new Map<string, Entry>()
  readonly #byRid = new Map<string, Entry>()
  /** On the wire without any answer, in the order written. */
  readonly #unanswered = new Map<string, Entry>()
  readonly #blocked = new Map<string, Blocked>()
  #queue: Entry[] = []
  #queueHead = 0
  #onWire = 0
  #inFlightMax = 0
  #order = 0
  #cancelTimer: (() => void) | undefined

  /** `write` puts a frame on the wire, `false` when it is too large; `failed` is told of entries that this ends. */
  constructor(clock: Clock, write: (frame: CommandFrame) => boolean, failed: (entry: Entry) => void) {
    this.#clock = clock
    this.#write = write
    this.#failed = failed
  }

  get size(): number {
    return this.#entries.size
  }

  /** The commands in order. */
  values(): IterableIterator<Entry> {
    return this.#entries.values()
  }

  get(cid: string): Entry | undefined {
    return this.#entries.get(cid)
  }

  byRid(rid: string): Entry | undefined {
    return this.#byRid.get(rid)
  }

  /** Takes a command; throws `full` over the bound and `conflict` when its cid is already waiting. */
  add(frame: CommandFrame, user: string | undefined, onAck: OnAck | undefined): Entry {
    if (this.#entries.size >= OUTBOX_MAX) {
      throw new DardaError("full", `${OUTBOX_MAX} commands wait for the server already; try again later`, true)
    }
    if (this.#entries.has(frame.cid))
      throw new DardaError("conflict", `a command with cid ${frame.cid} is waiting already`)
    const entry = this.#entry(frame, user, onAck)
    this.#entries.set(entry.cid, entry)
    if ("rid" in frame) this.#byRid.set(frame.rid, entry)
    this.#queue.push(entry)
    this.#pump()
    return entry
  }

  /** Puts the commands of an earlier client before all others, while no connection is open. Gives back the new entries. */
  restore(frames: readonly CommandFrame[], user: string): readonly Entry[] {
    const restored = frames
      .filter(({ cid }) => !this.#entries.has(cid))
      .map((frame) => this.#entry(frame, user, undefined))
    const later = [...this.#entries.values()]
    this.#entries.clear()
    this.#order = 0
    for (const entry of [...restored, ...later]) {
      entry.order = this.#order++
      this.#entries.set(entry.cid, entry)
      if ("rid" in entry.frame) this.#byRid.set(entry.frame.rid, entry)
    }
    this.#rewind()
    return restored
  }

  #entry(frame: CommandFrame, user: string | undefined, onAck: OnAck | undefined): Entry {
    return {
      cid: frame.cid,
      frame,
      conv: conversationOf(frame, user),
      state: "sending",
      seq: undefined,
      at: undefined,
      dup: false,
      error: undefined,
      order: this.#order++,
      onAck,
      writtenAt: NOT_ON_WIRE,
      refusals: 0
    }
  }

  /** A connection is open: everything goes again from the first on, at most `inFlightMax` at a time. */
  connected(user: string, inFlightMax: number): void {
    for (const entry of this.#entries.values())
      entry.conv = entry.conv === "" ? conversationOf(entry.frame, user) : entry.conv
    this.#rewind()
    this.#inFlightMax = inFlightMax
    this.#pump()
  }

  /** The connection is gone: nothing is on the wire. */
  disconnected(): void {
    this.#inFlightMax = 0
    this.#rewind()
  }

  /** The local time when the oldest command that has no answer at all was written; `undefined` without one. */
  get unansweredSince(): number | undefined {
    for (const entry of this.#unanswered.values()) return entry.writtenAt
    return undefined
  }

  /** The broker has it. */
  sent(entry: Entry): void {
    entry.state = "sent"
    this.#unanswered.delete(entry.cid)
  }

  /** It has its final answer and leaves. */
  settle(entry: Entry): void {
    if (!this.#entries.delete(entry.cid)) return
    if ("rid" in entry.frame) this.#byRid.delete(entry.frame.rid)
    this.#offWire(entry)
    this.#pump()
  }

  /** Refused for now: it goes again after `retryAfterMs`, and what follows in its conversation waits behind it. */
  retry(entry: Entry, retryAfterMs: number | undefined): void {
    this.#offWire(entry)
    entry.state = "sending"
    const pause = retryAfterMs ?? Math.min(BACKOFF_CAP_MS, RETRY_MS * 2 ** Math.min(entry.refusals, 10))
    entry.refusals++
    const until = this.#clock.now() + pause
    const blocked = this.#blocked.get(entry.conv)
    if (blocked === undefined) this.#blocked.set(entry.conv, { until, entries: [entry] })
    else {
      blocked.until = Math.max(blocked.until, until)
      blocked.entries.push(entry)
    }
    this.#armTimer()
    this.#pump()
  }

  #offWire(entry: Entry): void {
    this.#unanswered.delete(entry.cid)
    if (entry.writtenAt === NOT_ON_WIRE) return
    entry.writtenAt = NOT_ON_WIRE
    this.#onWire--
  }

  #rewind(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#blocked.clear()
    this.#unanswered.clear()
    this.#onWire = 0
    for (const entry of this.#entries.values()) entry.writtenAt = NOT_ON_WIRE
    this.#queue = [...this.#entries.values()]
    this.#queueHead = 0
  }

  #pump(): void {
    while (this.#onWire < this.#inFlightMax && this.#queueHead < this.#queue.length) {
      const entry = this.#queue[this.#queueHead++] as Entry
      // Answered meanwhile by an event of its own, or by an answer that came after all.
      if (this.#entries.get(entry.cid) !== entry) continue
      const blocked = this.#blocked.size === 0 ? undefined : this.#blocked.get(entry.conv)
      if (blocked !== undefined) {
        blocked.entries.push(entry)
        continue
      }
      entry.writtenAt = this.#clock.now()
      this.#onWire++
      this.#unanswered.set(entry.cid, entry)
      if (!this.#write(entry.frame)) {
        entry.error = new DardaError("too_large", "the command is larger than the server takes in one frame")
        this.#failed(entry)
      }
    }
    if (this.#queueHead === this.#queue.length) {
      this.#queue = []
      this.#queueHead = 0
    } else if (this.#queueHead > 1024) {
      this.#queue = this.#queue.slice(this.#queueHead)
      this.#queueHead = 0
    }
  }

  #armTimer(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    if (this.#blocked.size === 0) return
    let until = Infinity
    for (const blocked of this.#blocked.values()) until = Math.min(until, blocked.until)
    this.#cancelTimer = this.#clock.after(Math.max(0, until - this.#clock.now()), () => this.#unblock())
  }

  #unblock(): void {
    const now = this.#clock.now()
    const free: Entry[] = []
    for (const [conv, blocked] of this.#blocked) {
      if (blocked.until > now) continue
      this.#blocked.delete(conv)
      free.push(...blocked.entries)
    }
    this.#queue = [...free, ...this.#queue.slice(this.#queueHead)].sort((a, b) => a.order - b.order)
    this.#queueHead = 0
    this.#armTimer()
    this.#pump()
  }
}

const conversationOf = (frame: CommandFrame, user: string | undefined): string => {
  if (frame.t === "create") return ""
  if (frame.conv !== undefined) return frame.conv
  return frame.t === "send" && frame.to !== undefined && user !== undefined ? dmConversation(user, frame.to) : ""
}
