import { WebSocket } from "ws"
import { dmConversation } from "../../src/domain/ids.ts"
import { groupConversation } from "../../src/domain/groupId.ts"
import type { ClientHistory, Entry, Fields } from "./checker.ts"

interface Pending {
  readonly frame: Fields
  readonly conv: string
}

interface Link {
  readonly socket: WebSocket
  readonly entries: Array<Entry>
  /** When the oldest command that waits was sent here. */
  waitingSince: number
  /** Queries without an answer. */
  readonly asked: Set<string>
  welcomed: boolean
}

const RETRYABLE = new Set(["busy", "unavailable", "rate_limited"])
/** How long a device waits before it tries to reach a server that it could not reach. */
const AGAIN_MS = 50
/** How long it leaves a server alone that could not take a command. */
const PAUSE_MS = 500
/** What is not persisted for so long, whatever was said of it, is sent again on another connection: longer than a server takes for an answer. */
const PATIENCE_MS = 35_000
/** A server that does not welcome within this is given up for another one. */
const WELCOME_MS = 10_000
/** Texts that are remembered as parsed, and how long they may be: what many devices of one process are given is kept once. */
const PARSED = 5_000
const PARSED_CHARS = 4_000
/** Messages of a conversation that a device remembers, to refer to them. */
const REMEMBERED = 20

const parsed = new Map<string, unknown>()

/** Parses a text; the same text is the same object, which nobody changes. */
const parse = (text: string): unknown => {
  if (text.length > PARSED_CHARS) return JSON.parse(text) as unknown
  let value = parsed.get(text)
  if (value === undefined) {
    if (parsed.size >= PARSED) parsed.clear()
    parsed.set(text, (value = JSON.parse(text) as unknown))
  }
  return value
}

/**
 * A device on real sockets that speaks the protocol as a careful client does: resumes from its cursor, keeps what is not persisted and
 * sends it again in order. Of several servers it goes to any, as behind a load balancer, and to another one when that one does not answer. Everything
 * that it says and hears is recorded for the checker.
 */
export class RealDevice {
  readonly user: string
  readonly device: string
  readonly sessions: Array<{ readonly entries: Array<Entry> }> = []
  /** The last seq that was given, by conversation that this user is a member of. */
  readonly have = new Map<string, number>()
  /** Conversations that this user was told to be out of. */
  readonly out = new Set<string>()
  /** Seqs of messages that were given lately, by conversation: one's own, and all. */
  readonly own = new Map<string, Array<number>>()
  readonly messages = new Map<string, Array<number>>()
  /** Commands that are not persisted yet, in the order in which they were sent. */
  pending: Array<Pending> = []
  readonly #urls: ReadonlyArray<string>
  readonly #token: string
  #server: number
  #link: Link | undefined
  #cursor: string | undefined
  #counter = 0
  #away = 0
  #over = false

  /** `urls`: of one server's WebSockets, or of several; the first connection goes to the one at `first`. */
  constructor(url: string | ReadonlyArray<string>, user: string, device: string, token: string, first = 0) {
    this.#urls = typeof url === "string" ? [url] : url
    this.#server = first
    this.user = user
    this.device = device
    this.#token = token
  }

  get history(): ClientHistory {
    return { user: this.user, device: this.device, sessions: this.sessions }
  }

  get welcomed(): boolean {
    return this.#link?.welcomed === true
  }

  /** Which of the servers it is connected to, or tries to reach. */
  get server(): number {
    return this.#server % this.#urls.length
  }

  /** Queries of this connection that are not answered yet. */
  get asked(): ReadonlySet<string> {
    return this.#link?.asked ?? new Set()
  }

  connect(): void {
    if (this.#over) return
    const entries: Array<Entry> = []
    const socket = new WebSocket(this.#urls[this.server]!, ["darda.v1"], { perMessageDeflate: false })
    const link: Link = { socket, entries, waitingSince: 0, asked: new Set(), welcomed: false }
    this.#link = link
    let again = AGAIN_MS
    const opened = Date.now()
    const impatience = setInterval(() => {
      const since = link.welcomed ? link.waitingSince + PATIENCE_MS : opened + WELCOME_MS
      if ((!link.welcomed || this.pending.length > 0) && Date.now() > since) socket.terminate()
    }, 500).unref()
    socket.on("open", () => {
      this.sessions.push({ entries })
      entries.push({ at: Date.now(), dir: "opened" })
      const resume = this.#cursor === undefined ? {} : { resume: { cursor: this.#cursor } }
      this.#send(link, [{ t: "hello", v: 1, token: this.#token, device: this.device, ...resume }])
    })
    socket.on("message", (data: Buffer) => {
      const value = parse(data.toString()) as Fields | ReadonlyArray<Fields>
      for (const frame of Array.isArray(value) ? (value as ReadonlyArray<Fields>) : [value as Fields]) {
        if (!this.#received(link, frame)) {
          again = PAUSE_MS
          socket.terminate()
        }
      }
    })
    socket.on("error", () => {})
    socket.on("close", (code) => {
      clearInterval(impatience)
      entries.push({ at: Date.now(), dir: "closed", code })
      if (this.#link === link) this.#link = undefined
      // Where it was not well, it is not tried again at once.
      if (!link.welcomed || again === PAUSE_MS) this.#server++
      const wait = Math.max(again, this.#away)
      this.#away = 0
      setTimeout(() => this.connect(), wait).unref()
    })
  }

  /** Ends the connection without a word, as a lost network does; the next one resumes, at any server, after so many milliseconds at least. */
  vanish(awayMs = 0): void {
    this.#away = awayMs
    this.#server += Math.floor(Math.random() * this.#urls.length)
    this.#link?.socket.terminate()
  }

  /** Ends it for good. */
  end(): void {
    this.#over = true
    this.#link?.socket.terminate()
  }

  /** Sends a command, or keeps it for the next connection. */
  command(frame: Omit<Fields, "cid"> & { readonly t: string }): void {
    this.commands([frame])
  }

  /** Sends commands together, or keeps them for the next connection; answers their cids. */
  commands(frames: ReadonlyArray<Omit<Fields, "cid"> & { readonly t: string }>): ReadonlyArray<string> {
    const whole = frames.map((frame): Fields => ({ ...frame, cid: `${this.device}-${++this.#counter}` }))
    for (const frame of whole) this.pending.push({ frame, conv: this.#conversationOf(frame) })
    if (this.#link?.welcomed === true) {
      if (this.pending.length === whole.length) this.#link.waitingSince = Date.now()
      this.#send(this.#link, whole)
    }
    return whole.map((frame) => frame["cid"] as string)
  }

  #conversationOf(frame: Fields): string {
    if (typeof frame["conv"] === "string") return frame["conv"]
    return frame.t === "create"
      ? groupConversation(this.user, frame["cid"] as string)
      : dmConversation(this.user, frame["to"] as string)
  }

  /** Says what needs no answer, where it is connected: a mark, or that somebody is typing. */
  say(frame: Fields): void {
    if (this.#link?.welcomed === true) this.#send(this.#link, [frame])
  }

  /** Asks, where it is connected; answers the request's id. */
  ask(frame: Omit<Fields, "rid"> & { readonly t: string }): string | undefined {
    if (this.#link?.welcomed !== true) return undefined
    const rid = `${this.device} ${++this.#counter}`
    this.#link.asked.add(rid)
    this.#send(this.#link, [{ ...frame, rid }])
    return rid
  }

  #send(link: Link, frames: ReadonlyArray<Fields>): void {
    for (let i = 0; i < frames.length; i += 64) {
      const slice = frames.slice(i, i + 64)
      for (const frame of slice) link.entries.push({ at: Date.now(), dir: "sent", frame })
      link.socket.send(JSON.stringify(slice))
    }
  }

  /** Answers false when the server could not take a command: all that is kept is sent again in order, on another connection. */
  #received(link: Link, frame: Fields): boolean {
    link.entries.push({ at: Date.now(), dir: "received", frame })
    const conv = frame["conv"] as string
    switch (frame.t) {
      case "welcome":
        link.welcomed = true
        link.waitingSince = Date.now()
        this.#cursor = frame["cursor"] as string
        this.#send(
          link,
          this.pending.map((one) => one.frame)
        )
        return true
      case "drain": {
        // It goes elsewhere at a random moment within the server's bounds.
        const { max, min } = frame["reconnectAfterMs"] as { readonly min: number; readonly max: number }
        const leave = (): void => {
          if (this.#link !== link) return
          this.#server++
          link.socket.terminate()
        }
        setTimeout(leave, min + Math.random() * (max - min)).unref()
        return true
      }
      case "cursor":
        this.#cursor = frame["cursor"] as string
        return true
      case "event":
        this.#event(conv, frame)
        return true
      case "reset":
        this.#has(conv, frame["head"] as number)
        return true
      case "gone":
        this.#leaves(conv)
        return true
      case "ack":
        if (frame["state"] === "persisted")
          this.#persisted((one) => one.frame["cid"] === frame["cid"], conv, frame["seq"] as number)
        return true
      case "reply":
        if (!link.asked.delete(frame["rid"] as string))
          this.#persisted((one) => one.frame["rid"] === frame["rid"], conv, frame["seq"] as number)
        return true
      case "err": {
        if (link.asked.delete(frame["rid"] as string)) return true
        const about = (one: Pending): boolean =>
          frame["rid"] === undefined ? one.frame["cid"] === frame["cid"] : one.frame["rid"] === frame["rid"]
        if (!this.pending.some(about)) return true
        if (RETRYABLE.has(frame["code"] as string)) return false
        this.pending = this.pending.filter((one) => !about(one))
        return true
      }
      default:
        return true
    }
  }

  #event(conv: string, frame: Fields): void {
    const data = frame["data"] as { readonly removed?: ReadonlyArray<string> }
    if (frame["type"] === "members" && data.removed?.includes(this.user) === true) return this.#leaves(conv)
    this.#has(conv, frame["seq"] as number)
    if (frame["type"] === "message") this.#remember(conv, frame["seq"] as number, frame["by"] === this.user)
  }

  #has(conv: string, seq: number): void {
    this.out.delete(conv)
    this.have.set(conv, Math.max(this.have.get(conv) ?? 0, seq))
  }

  #leaves(conv: string): void {
    this.have.delete(conv)
    this.out.add(conv)
  }

  #remember(conv: string, seq: number, own: boolean): void {
    for (const list of own ? [this.own, this.messages] : [this.messages]) {
      const known = list.get(conv) ?? []
      if (known.push(seq) > REMEMBERED) known.shift()
      list.set(conv, known)
    }
  }

  #persisted(about: (one: Pending) => boolean, conv: string, seq: number): void {
    const one = this.pending.find(about)
    if (one !== undefined) {
      if (this.#link !== undefined && one === this.pending[0]) this.#link.waitingSince = Date.now()
      this.pending = this.pending.filter((other) => other !== one)
      if (one.frame.t === "send") this.#remember(conv, seq, true)
    }
    if (!this.out.has(conv)) this.#has(conv, seq)
  }
}
