import type { Connection } from "../../src/edge/Connection.ts"
import type { Frame } from "../../src/edge/Frame.ts"
import type { Transport } from "../../src/edge/Transport.ts"
import type { Process } from "./sim-loop.ts"

/** What a socket's client end is told. */
export interface SocketEvents {
  readonly received: (frame: ServerObject) => void
  readonly closed: (code: number) => void
}

/** A frame as a client parses it. */
export interface ServerObject {
  readonly t: string
  readonly [field: string]: unknown
}

const parsed = new WeakMap<Frame, ServerObject>()

/** The object that a client reads: from the bytes, once for all who are sent them. */
export const parse = (frame: Frame): ServerObject => {
  let object = parsed.get(frame)
  if (object === undefined) parsed.set(frame, (object = JSON.parse(frame.payload.toString()) as ServerObject))
  return object
}

/** A WebSocket between a client and an edge that live in the same simulation. */
export class Socket {
  readonly transport: Transport
  /** Objects that the server has handed to the socket and the client has not read. */
  unread = 0
  unreadBytes = 0
  /** Called with what the server writes, when it writes it. */
  onWrite: ((frames: ReadonlyArray<Frame>) => void) | undefined
  readonly #edge: Process
  readonly #clients: Process
  readonly #events: SocketEvents
  readonly #latency: number
  #connection: Connection | undefined
  #batch: { readonly frames: ReadonlyArray<Frame>; readonly done: () => void } | undefined
  #closeWith: number | undefined
  #stalled = false
  #cut = false
  #dead = false
  #toServer: Array<string> = []
  #serverPaused = false
  #lastSend = 0

  constructor(edge: Process, clients: Process, latency: number, events: SocketEvents) {
    this.#edge = edge
    this.#clients = clients
    this.#latency = latency
    this.#events = events
    edge.onKill.add(this.#edgeDied)
    this.transport = {
      write: (frames, done) => {
        if (this.#cut) return this.#edge.post(done)
        this.onWrite?.(frames)
        this.#batch = { frames, done: () => this.#edge.post(done) }
        this.unread = frames.length
        this.unreadBytes = frames.reduce((bytes, frame) => bytes + frame.payload.length, 0)
        this.#later(this.#deliver)
      },
      ping: () => {
        if (!this.#dead && !this.#stalled) this.#later(() => this.#edge.post(() => this.#connection?.pong()))
      },
      close: ({ code }) => {
        if (this.#closeWith !== undefined || this.#cut) return
        this.#closeWith = code
        this.#later(this.#deliver)
        this.#clients.loop.after(1000, this.#clients, () => this.cut(code))
      },
      pause: () => void (this.#serverPaused = true),
      resume: () => {
        this.#serverPaused = false
        this.#pump()
      }
    }
  }

  /** Joins the server's end. */
  attach(connection: Connection): void {
    this.#connection = connection
  }

  send(text: string): void {
    if (this.#cut) return
    const { loop } = this.#clients
    this.#lastSend = Math.max(this.#lastSend, loop.now + this.#travel())
    loop.after(this.#lastSend - loop.now, this.#clients, () => {
      if (this.#cut) return
      this.#toServer.push(text)
      this.#pump()
    })
  }

  /** The client stops reading, or reads on. */
  stall(stalled: boolean): void {
    this.#stalled = stalled
    if (!stalled) this.#later(this.#deliver)
  }

  /** The client is gone without a word: nobody closes anything. */
  die(): void {
    this.#dead = true
    this.#stalled = true
  }

  /** The network between them is cut, or the socket closed: both ends learn of it. */
  cut(code = 1006): void {
    if (this.#cut) return
    this.#cut = true
    this.#edge.onKill.delete(this.#edgeDied)
    this.#batch?.done()
    this.#batch = undefined
    this.#edge.post(() => this.#connection?.ended())
    if (!this.#dead) this.#later(() => this.#events.closed(this.#closeWith ?? code))
  }

  #edgeDied = (): void => {
    this.#cut = true
    this.#batch = undefined
    if (!this.#dead) this.#later(() => this.#events.closed(1006))
  }

  #travel(): number {
    const { random } = this.#clients.loop
    return this.#latency === 0 || random.chance(0.5) ? 0 : random.below(this.#latency + 1)
  }

  #later(what: () => void): void {
    this.#clients.loop.after(this.#travel(), this.#clients, what)
  }

  #pump(): void {
    if (this.#serverPaused || this.#cut || this.#toServer.length === 0) return
    const texts = this.#toServer
    this.#toServer = []
    this.#edge.post(() => {
      for (const text of texts) {
        if (this.#serverPaused) this.#toServer.push(text)
        else this.#connection?.receive(text)
      }
    })
  }

  #deliver = (): void => {
    if (this.#cut || this.#stalled) return
    const batch = this.#batch
    if (batch !== undefined) {
      this.#batch = undefined
      this.unread = 0
      this.unreadBytes = 0
      for (const frame of batch.frames) this.#events.received(parse(frame))
      batch.done()
      return
    }
    // The close frame is behind everything that was written before.
    if (this.#closeWith !== undefined) this.cut(this.#closeWith)
  }
}
