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
  welcomed: boolean
}

const RETRYABLE = new Set(["busy", "unavailable", "rate_limited"])
/** How long a device waits before it tries to reach a server that it could not reach. */
const AGAIN_MS = 50

/**
 * A device on real sockets that speaks the protocol as a careful client does: resumes from its cursor, keeps what is not
 * persisted and sends it again in order. Everything that it says and hears is recorded for the checker.
 */
export class RealDevice {
  readonly user: string
  readonly device: string
  readonly sessions: Array<{ readonly entries: Array<Entry> }> = []
  /** The last seq that was given, by conversation. */
  readonly have = new Map<string, number>()
  /** Commands that are not persisted yet, in the order in which they were sent. */
  pending: Array<Pending> = []
  readonly #url: string
  readonly #token: string
  #link: Link | undefined
  #cursor: string | undefined
  #counter = 0
  #over = false

  constructor(url: string, user: string, device: string, token: string) {
    this.#url = url
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

  connect(): void {
    if (this.#over) return
    const entries: Array<Entry> = []
    const socket = new WebSocket(this.#url, ["darda.v1"], { perMessageDeflate: false })
    const link: Link = { socket, entries, welcomed: false }
    this.#link = link
    socket.on("open", () => {
      this.sessions.push({ entries })
      entries.push({ at: Date.now(), dir: "opened" })
      const resume = this.#cursor === undefined ? {} : { resume: { cursor: this.#cursor } }
      this.#send(link, [{ t: "hello", v: 1, token: this.#token, device: this.device, ...resume }])
    })
    socket.on("message", (data: Buffer) => {
      const value = JSON.parse(data.toString()) as Fields | ReadonlyArray<Fields>
      for (const frame of Array.isArray(value) ? (value as ReadonlyArray<Fields>) : [value as Fields])
        this.#received(link, frame)
    })
    socket.on("error", () => {})
    socket.on("close", (code) => {
      entries.push({ at: Date.now(), dir: "closed", code })
      if (this.#link === link) this.#link = undefined
      setTimeout(() => this.connect(), AGAIN_MS).unref()
    })
  }

  /** Ends it for good. */
  end(): void {
    this.#over = true
    this.#link?.socket.terminate()
  }

  /** Sends a command, or keeps it for the next connection. */
  command(frame: Omit<Fields, "cid"> & { readonly t: string }): void {
    const cid = `${this.device}-${++this.#counter}`
    const whole: Fields = { ...frame, cid }
    const conv =
      typeof whole["conv"] === "string"
        ? whole["conv"]
        : whole.t === "create"
          ? groupConversation(this.user, cid)
          : dmConversation(this.user, whole["to"] as string)
    this.pending.push({ frame: whole, conv })
    if (this.#link?.welcomed === true) this.#send(this.#link, [whole])
  }

  #send(link: Link, frames: ReadonlyArray<Fields>): void {
    for (let i = 0; i < frames.length; i += 64) {
      const slice = frames.slice(i, i + 64)
      for (const frame of slice) link.entries.push({ at: Date.now(), dir: "sent", frame })
      link.socket.send(JSON.stringify(slice))
    }
  }

  #received(link: Link, frame: Fields): void {
    link.entries.push({ at: Date.now(), dir: "received", frame })
    const conv = frame["conv"] as string
    switch (frame.t) {
      case "welcome":
        link.welcomed = true
        this.#cursor = frame["cursor"] as string
        this.#send(
          link,
          this.pending.map((one) => one.frame)
        )
        return
      case "cursor":
        this.#cursor = frame["cursor"] as string
        return
      case "event":
        this.#has(conv, frame["seq"] as number)
        return
      case "reset":
        this.#has(conv, frame["head"] as number)
        return
      case "ack":
        if (frame["state"] === "persisted")
          this.#persisted((one) => one.frame["cid"] === frame["cid"], conv, frame["seq"] as number)
        return
      case "reply":
        this.#persisted((one) => one.frame["rid"] === frame["rid"], conv, frame["seq"] as number)
        return
      case "err":
        if (RETRYABLE.has(frame["code"] as string)) link.socket.terminate()
        else this.pending = this.pending.filter((one) => one.frame["cid"] !== frame["cid"])
    }
  }

  #has(conv: string, seq: number): void {
    this.have.set(conv, Math.max(this.have.get(conv) ?? 0, seq))
  }

  #persisted(about: (one: Pending) => boolean, conv: string, seq: number): void {
    this.pending = this.pending.filter((one) => !about(one))
    this.#has(conv, seq)
  }
}
