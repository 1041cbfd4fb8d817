import { dmConversation } from "../../src/domain/ids.ts"
import { groupConversation } from "../../src/domain/groupId.ts"
import type { Entry, Fields } from "./checker.ts"
import type { Process } from "./sim-loop.ts"
import { type ServerObject, Socket } from "./sim-socket.ts"

/** An edge that a client can connect to. */
export interface Server {
  readonly process: Process
  readonly accept: (socket: Socket) => void
}

/** Commands without an answer that a client lets pile up on one connection, well below the server's limit. */
const WINDOW = 10

/** A command that is kept until it is persisted or refused for good. */
interface Pending {
  readonly frame: Fields
  readonly conv: string
}

interface Link {
  readonly socket: Socket
  readonly entries: Array<Entry>
  /** Sent here and not answered yet, or refused for the moment. */
  readonly waiting: Set<Pending>
  welcomed: boolean
}

/** Codes after which the same command may be sent again. */
const RETRYABLE = new Set(["busy", "unavailable", "rate_limited"])

/** What the clients of one world share: how to reach a server, and what exists. */
export interface Surroundings {
  readonly clients: Process
  readonly latency: number
  /** An edge that takes connections now. */
  readonly server: () => Server | undefined
  /** Groups that someone made. */
  readonly groups: Array<string>
  readonly onSocket: (device: Device, socket: Socket) => void
}

/**
 * A device of a user, speaking the protocol as a careful client does: it resumes from its cursor, keeps what is not persisted and sends it again
 * in order. Everything that it sends and receives is recorded.
 */
export class Device {
  readonly user: string
  readonly device: string
  readonly sessions: Array<{ readonly entries: Array<Entry> }> = []
  readonly #world: Surroundings
  #link: Link | undefined
  #cursor: string | undefined
  #pending: Array<Pending> = []
  #counter = 0
  #reconnecting = false
  /** Stays away until it is told to come back. */
  away = false
  stalled = false
  #readingSince = 0
  /** The last seq that was seen, by conversation. */
  readonly have = new Map<string, number>()
  /** Everything sent, for repeats. */
  readonly sent: Array<Pending> = []

  constructor(world: Surroundings, user: string, device: string) {
    this.#world = world
    this.user = user
    this.device = device
  }

  get connected(): boolean {
    return this.#link?.welcomed === true
  }

  /** Since when it is connected and reads; undefined when it does not. */
  get readingSince(): number | undefined {
    return this.connected && !this.stalled ? this.#readingSince : undefined
  }

  get settled(): boolean {
    return this.connected && this.#pending.length === 0
  }

  get socket(): Socket | undefined {
    return this.#link?.socket
  }

  /** Opens a connection, and says where it left off. */
  connect(): void {
    if (this.#link !== undefined || this.away) return
    const server = this.#world.server()
    if (server === undefined) return this.#reconnect()
    const entries: Array<Entry> = []
    this.sessions.push({ entries })
    let link: Link | undefined
    const socket = new Socket(server.process, this.#world.clients, this.#world.latency, {
      received: (frame) => {
        if (link !== undefined && this.#link === link) this.#received(link, frame)
      },
      closed: (code) => {
        if (link === undefined || this.#link !== link) return
        this.#record(link, { at: this.#now, dir: "closed", code })
        this.#link = undefined
        this.#reconnect()
      }
    })
    link = { socket, entries, waiting: new Set(), welcomed: false }
    this.#link = link
    this.stalled = false
    this.#record(link, { at: this.#now, dir: "opened" })
    this.#world.onSocket(this, socket)
    server.accept(socket)
    this.#send(link, this.#hello())
    // A server that never answers is given up, as an impatient client does.
    this.#world.clients.loop.after(10_000, this.#world.clients, () => {
      if (this.#link === link && !link.welcomed) this.#leave()
    })
  }

  #hello(): Fields {
    const { random } = this.#world.clients.loop
    const hello = { t: "hello", v: 1, token: this.user, device: this.device }
    if (this.#cursor === undefined) return hello
    if (!random.chance(0.3)) return { ...hello, resume: { cursor: this.#cursor } }
    // A device may have lost the end of what it was given.
    const seqs = Object.fromEntries(
      [...this.have].filter(() => random.chance(0.7)).map(([conv, seq]) => [conv, Math.max(0, seq - random.below(4))])
    )
    return { ...hello, resume: { cursor: this.#cursor, seqs } }
  }

  get #now(): number {
    return this.#world.clients.loop.now
  }

  #record(link: Link, entry: Entry): void {
    link.entries.push(entry)
  }

  #send(link: Link, ...frames: ReadonlyArray<Fields>): void {
    if (frames.length === 0) return
    for (const frame of frames) this.#record(link, { at: this.#now, dir: "sent", frame })
    link.socket.send(JSON.stringify(frames.length === 1 ? frames[0] : frames))
  }

  #reconnect(): void {
    if (this.#reconnecting) return
    this.#reconnecting = true
    const { clients } = this.#world
    clients.loop.after(50 + clients.loop.random.below(500), clients, () => {
      this.#reconnecting = false
      this.connect()
    })
  }

  /** Ends the connection from this side, as a lost network does. */
  #leave(): void {
    const link = this.#link
    if (link === undefined) return
    this.#record(link, { at: this.#now, dir: "closed", code: 1006 })
    this.#link = undefined
    link.socket.cut()
    this.#reconnect()
  }

  disconnect(): void {
    this.#leave()
  }

  /** Loses its cursor, or has one that no log knows. */
  forget(unknown: boolean): void {
    this.#cursor = unknown ? "bm90IGEgY3Vyc29y" : undefined
    this.have.clear()
    this.#leave()
  }

  /** Vanishes without closing anything; the next connection is another one. */
  vanish(): void {
    const link = this.#link
    if (link === undefined) return
    this.#record(link, { at: this.#now, dir: "closed", code: 1006 })
    link.socket.die()
    this.#link = undefined
    this.#reconnect()
  }

  stall(stalled: boolean): void {
    const link = this.#link
    if (link === undefined || this.stalled === stalled) return
    this.stalled = stalled
    this.#readingSince = this.#now
    this.#record(link, { at: this.#now, dir: stalled ? "stalled" : "reading" })
    link.socket.stall(stalled)
  }

  /** A cid that was never used before by this device. */
  cid(): string {
    return `${this.device}-${++this.#counter}`
  }

  /** Sends a command, or keeps it for the next connection. */
  command(frame: Fields): void {
    const conv =
      typeof frame["conv"] === "string"
        ? frame["conv"]
        : frame.t === "create"
          ? groupConversation(this.user, frame["cid"] as string)
          : dmConversation(this.user, frame["to"] as string)
    const pending = { frame, conv }
    this.#pending.push(pending)
    this.sent.push(pending)
    if (!this.#gathering) this.#pump()
  }

  #gathering = false

  /** Sends several commands in one frame. */
  commands(frames: ReadonlyArray<Fields>): void {
    this.#gathering = true
    for (const frame of frames) this.command(frame)
    this.#gathering = false
    this.#pump()
  }

  /** Sends what waits, in order. */
  #pump(): void {
    const link = this.#link
    if (link?.welcomed !== true) return
    const next = this.#pending.filter((one) => !link.waiting.has(one)).slice(0, Math.max(0, WINDOW - link.waiting.size))
    for (const one of next) link.waiting.add(one)
    this.#send(link, ...next.map((one) => one.frame))
  }

  /** Sends something that is not kept: a mark, a query, a command again. */
  say(frame: Fields): void {
    if (this.#link?.welcomed === true) this.#send(this.#link, frame)
  }

  #received(link: Link, frame: ServerObject): void {
    this.#record(link, { at: this.#now, dir: "received", frame })
    const conv = frame["conv"] as string
    switch (frame.t) {
      case "welcome":
        link.welcomed = true
        this.#readingSince = this.#now
        this.#cursor = frame["cursor"] as string
        return this.#pump()
      case "cursor":
        this.#cursor = frame["cursor"] as string
        return
      case "event":
        this.have.set(conv, Math.max(this.have.get(conv) ?? 0, frame["seq"] as number))
        return
      case "reset":
        this.have.set(conv, frame["head"] as number)
        return
      case "gone":
        this.have.delete(conv)
        return
      case "ack":
        if (frame["state"] === "persisted") this.#persisted(frame["cid"] as string, conv, frame["seq"] as number)
        return
      case "reply": {
        const pending = this.#pending.find((one) => one.frame["rid"] === frame["rid"])
        if (pending !== undefined) this.#persisted(pending.frame["cid"] as string, conv, frame["seq"] as number)
        return
      }
      case "err":
        return this.#refused(link, frame)
    }
  }

  #persisted(cid: string, conv: string, seq: number): void {
    this.#drop((one) => one.frame["cid"] === cid && one.conv === conv)
    this.have.set(conv, Math.max(this.have.get(conv) ?? 0, seq))
    if (conv.startsWith("g:") && !this.#world.groups.includes(conv)) this.#world.groups.push(conv)
  }

  #refused(link: Link, frame: ServerObject): void {
    const about = (one: Pending): boolean =>
      frame["rid"] === undefined ? one.frame["cid"] === frame["cid"] : one.frame["rid"] === frame["rid"]
    if (!RETRYABLE.has(frame["code"] as string)) return this.#drop(about)
    const again = this.#pending.filter(about)
    if (again.length === 0) return
    const { clients } = this.#world
    clients.loop.after(500 + clients.loop.random.below(1500), clients, () => {
      for (const one of again) link.waiting.delete(one)
      this.#pump()
    })
  }

  #drop(settled: (one: Pending) => boolean): void {
    this.#pending = this.#pending.filter((one) => !settled(one))
    for (const one of this.#link?.waiting ?? []) if (settled(one)) this.#link!.waiting.delete(one)
    this.#pump()
  }
}
