/** One connection after the other: opening, `hello`, batches, pauses, and what each close code asks for. */
import { closeCode } from "../domain/protocol/close-codes.ts"
import type { Hello, Resume } from "../domain/protocol/client-frames.ts"
import type { Drain, Limits, ServerFrame, Welcome } from "../domain/protocol/server-frames.ts"
import { fits, pack } from "./batch.ts"
import type { Environment, Socket } from "./environment.ts"
import { BACK_OFF_MS, BACKOFF_BASE_MS, BACKOFF_CAP_MS, OPEN_TIMEOUT_MS, PROBE_TIMEOUT_MS, STABLE_MS } from "./limits.ts"

/** A bearer token, or a ticket that is good for one `hello`. */
export type Credential = string | { readonly ticket: string }

/**
 * Where the connection stands. `waiting`: the next try is at `retryAt` (local clock). `stopped` needs someone: `login`
 * a new login, `fix` another program, `stop` the user was shut out, `closed` it was asked for.
 */
export type Status =
  | { readonly state: "idle" }
  | { readonly state: "connecting"; readonly attempt: number }
  | { readonly state: "open"; readonly sid: string; readonly user: string; readonly recovered: boolean }
  | { readonly state: "waiting"; readonly retryAt: number; readonly code: number; readonly reason: string }
  | {
      readonly state: "stopped"
      readonly why: "login" | "fix" | "stop" | "closed"
      readonly code: number
      readonly reason: string
    }

/** What a connection needs to know. */
export interface ConnectionOptions {
  readonly url: string
  readonly token: Credential | (() => Promise<Credential>)
  readonly device: string
  readonly probeAfterMs: number
  readonly environment: Environment
}

/** What a connection tells. `frame` comes only between `welcome` and `lost`. */
export interface ConnectionHandlers {
  readonly resume: () => Resume | undefined
  readonly welcome: (welcome: Welcome, resumed: boolean) => void
  readonly frame: (frame: ServerFrame) => void
  readonly lost: () => void
  readonly status: (status: Status) => void
}

/** Keeps one connection open for as long as that makes sense. */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #handlers: ConnectionHandlers
  readonly #env: Environment
  #status: Status = { state: "idle" }
  /** Everything that belongs to an older socket compares itself with this and falls silent. */
  #generation = 0
  #socket: Socket | undefined
  #limits: Limits | undefined
  #resumed = false
  #failures = 0
  #openedAt = 0
  #heardAt = 0
  #reconnectAt = 0
  #cancelTimer: () => void = () => {}
  #cancelProbe: () => void = () => {}
  #cancelDrain: () => void = () => {}
  #stopListening: () => void = () => {}
  #queue: string[] = []
  #scheduled = false
  #allowance = 0
  #allowanceAt = 0

  constructor(options: ConnectionOptions, handlers: ConnectionHandlers) {
    this.#options = options
    this.#handlers = handlers
    this.#env = options.environment
  }

  get status(): Status {
    return this.#status
  }

  /** The server's limits while a connection is open. */
  get limits(): Limits | undefined {
    return this.#limits
  }

  /** Starts, or starts again after a stop; does nothing while it is at work. */
  start(): void {
    if (this.#status.state !== "idle" && this.#status.state !== "stopped") return
    this.#failures = 0
    this.#stopListening = this.#env.onOnline(() => this.#online())
    void this.#open()
  }

  /** Ends for good: closes the socket and tries no more until `start`. */
  close(): void {
    this.#stop("closed", 1000, "closed by the client")
  }

  /** Gives this connection up, because it does not answer, and opens another one at once. */
  replace(): void {
    if (this.#status.state !== "open") return
    this.#drop()
    void this.#open()
  }

  /**
   * Sends a frame with all others of this turn, at the rate the server allows. `false`: it alone is larger than the
   * server takes, and nothing was sent. While no connection is open, the frame is forgotten.
   */
  send(frame: object): boolean {
    if (this.#limits === undefined) return true
    const text = JSON.stringify(frame)
    if (!fits(text, this.#limits.frameBytes)) return false
    this.#queue.push(text)
    if (!this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(this.#flush)
    }
    return true
  }

  readonly #flush = (): void => {
    this.#scheduled = false
    const limits = this.#limits
    if (limits === undefined || this.#socket === undefined || this.#queue.length === 0) return
    // Over the rate a frame in the middle would be refused while later ones pass: better to wait than to be reordered.
    const now = this.#env.clock.now()
    const gained = ((now - this.#allowanceAt) * limits.perSecond) / 1000
    this.#allowance = Math.min(limits.perSecond, this.#allowance + Math.max(0, gained))
    this.#allowanceAt = now
    const count = Math.min(this.#queue.length, Math.floor(this.#allowance))
    for (const text of pack(this.#queue, 0, count, limits.frameBytes)) this.#socket.send(text)
    this.#allowance -= count
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count)
    if (this.#queue.length > 0) {
      this.#scheduled = true
      this.#env.clock.after(Math.max(1, Math.ceil(1000 / limits.perSecond)), this.#flush)
    }
  }

  async #open(): Promise<void> {
    const generation = ++this.#generation
    const attempt = this.#failures + 1
    this.#set({ state: "connecting", attempt })
    if (generation !== this.#generation) return
    this.#cancelTimer = this.#env.clock.after(OPEN_TIMEOUT_MS, () => this.#failed(1006, "no welcome in time"))
    let credential: Credential
    try {
      const { token } = this.#options
      credential = typeof token === "function" ? await token() : token
    } catch (cause) {
      if (generation === this.#generation)
        this.#failed(1006, `no token: ${cause instanceof Error ? cause.message : String(cause)}`)
      return
    }
    if (generation !== this.#generation) return
    try {
      this.#socket = this.#env.openSocket(this.#options.url, "darda.v1", {
        open: () => {
          if (generation === this.#generation) this.#hello(credential)
        },
        message: (text) => {
          if (generation === this.#generation) this.#message(text, generation)
        },
        close: (code, reason) => {
          if (generation === this.#generation) this.#closed(code, reason)
        }
      })
    } catch (cause) {
      this.#stop(
        "fix",
        1006,
        `cannot open ${this.#options.url}: ${cause instanceof Error ? cause.message : String(cause)}`
      )
    }
  }

  #hello(credential: Credential): void {
    const resume = this.#handlers.resume()
    this.#resumed = resume !== undefined
    const hello: Hello = {
      t: "hello",
      v: 1,
      ...(typeof credential === "string" ? { token: credential } : { ticket: credential.ticket }),
      device: this.#options.device,
      ...(resume === undefined ? {} : { resume })
    }
    this.#socket?.send(JSON.stringify(hello))
  }

  #message(text: string, generation: number): void {
    this.#heardAt = this.#env.clock.now()
    let parsed: unknown
    try {
      parsed = JSON.parse(text)
    } catch {
      return this.#failed(1007, "the server sent something that is not JSON")
    }
    if (!Array.isArray(parsed)) return this.#frame(parsed as ServerFrame)
    for (const frame of parsed as readonly ServerFrame[]) {
      if (generation !== this.#generation) return
      this.#frame(frame)
    }
  }

  #frame(frame: ServerFrame): void {
    if (typeof frame !== "object" || frame === null) return
    if (this.#limits !== undefined) {
      if (frame.t === "drain") this.#drain(frame)
      return this.#handlers.frame(frame)
    }
    if (frame.t !== "welcome") return
    const now = this.#env.clock.now()
    this.#cancelTimer()
    this.#limits = frame.limits
    this.#openedAt = now
    // The server's burst is not told; it is never less useful than a second's worth.
    this.#allowance = frame.limits.perSecond
    this.#allowanceAt = now
    this.#armProbe(this.#options.probeAfterMs)
    this.#handlers.welcome(frame, this.#resumed)
    this.#set({ state: "open", sid: frame.sid, user: frame.user, recovered: frame.recovered })
  }

  /** Goes elsewhere at a random time within the server's bounds; if it closes before, that time still holds. */
  #drain(frame: Drain): void {
    const { min, max } = frame.reconnectAfterMs
    const wait = min + this.#env.clock.random() * Math.max(0, max - min)
    this.#reconnectAt = this.#env.clock.now() + wait
    this.#cancelDrain()
    this.#cancelDrain = this.#env.clock.after(wait, () => this.replace())
  }

  #armProbe(ms: number): void {
    if (ms <= 0) return
    this.#cancelProbe()
    this.#cancelProbe = this.#env.clock.after(ms, () => {
      const quiet = this.#env.clock.now() - this.#heardAt
      if (quiet < this.#options.probeAfterMs) this.#armProbe(this.#options.probeAfterMs - quiet)
      else this.#probe()
    })
  }

  #probe(): void {
    const asked = this.#env.clock.now()
    this.send({ t: "ping" })
    this.#cancelProbe()
    this.#cancelProbe = this.#env.clock.after(PROBE_TIMEOUT_MS, () => {
      if (this.#heardAt < asked) this.replace()
      else this.#armProbe(Math.max(1, this.#options.probeAfterMs - (this.#env.clock.now() - this.#heardAt)))
    })
  }

  #online(): void {
    if (this.#status.state === "waiting") {
      this.#cancelTimer()
      void this.#open()
    } else if (this.#status.state === "open") this.#probe()
  }

  #closed(code: number, reason: string): void {
    const known = closeCode(code)
    const why = reason === "" ? (known?.reason ?? "the connection broke") : reason
    switch (known?.client) {
      case "stop":
      case "fix":
        return this.#stop(known.client, code, why)
      case "login":
        // Expired means that a fresh one will do; refused, or none to be had, needs the person.
        if (code === 4004 && typeof this.#options.token === "function") return this.#failed(code, why)
        return this.#stop("login", code, why)
      case "back off":
        return this.#failed(code, why, BACK_OFF_MS.min + this.#env.clock.random() * (BACK_OFF_MS.max - BACK_OFF_MS.min))
      default:
        return this.#failed(code, why)
    }
  }

  /** Drops what there is and tries again after a pause: within `drain`'s bounds, as asked, or at random up to a growing bound. */
  #failed(code: number, reason: string, pause?: number): void {
    const now = this.#env.clock.now()
    const drained = this.#reconnectAt
    this.#drop()
    const bound = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.#failures)
    this.#failures = Math.min(this.#failures + 1, 30)
    const wait = drained > 0 ? Math.max(0, drained - now) : (pause ?? this.#env.clock.random() * bound)
    const generation = this.#generation
    this.#cancelTimer = this.#env.clock.after(wait, () => void this.#open())
    if (generation === this.#generation) this.#set({ state: "waiting", retryAt: now + wait, code, reason })
  }

  #stop(why: "login" | "fix" | "stop" | "closed", code: number, reason: string): void {
    if (this.#status.state === "stopped" || this.#status.state === "idle") return
    this.#drop()
    this.#stopListening()
    this.#set({ state: "stopped", why, code, reason })
  }

  /** Lets go of the socket, whatever state it is in. */
  #drop(): void {
    this.#generation++
    this.#cancelTimer()
    this.#cancelProbe()
    this.#cancelDrain()
    this.#reconnectAt = 0
    const socket = this.#socket
    const wasOpen = this.#limits !== undefined
    if (wasOpen && this.#env.clock.now() - this.#openedAt >= STABLE_MS) this.#failures = 0
    this.#socket = undefined
    this.#limits = undefined
    this.#queue = []
    try {
      socket?.close(1000)
    } catch {
      // Already closed, or its state does not allow it: either way it is given up.
    }
    if (wasOpen) this.#handlers.lost()
  }

  #set(status: Status): void {
    this.#status = status
    this.#handlers.status(status)
  }
}
