/** A server that does what a test tells it, on a real socket, and what tests of the client need besides. */
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { onTestFinished } from "vitest"
import { type WebSocket, WebSocketServer } from "ws"
import { type ClientOptions, DardaClient, type Environment, realEnvironment } from "../../src/client/index.ts"
import type { ClientFrame, ClientOp } from "../../src/domain/protocol/client-frames.ts"
import { DEFAULT_LIMITS } from "../../src/domain/protocol/limits.ts"
import type { ServerFrame, TimelineEvent, Welcome } from "../../src/domain/protocol/server-frames.ts"

const DEADLINE_MS = 5_000

/** Waits until something holds; fails with `what` after five seconds. */
export const until = async (what: string, holds: () => boolean): Promise<void> => {
  const deadline = Date.now() + DEADLINE_MS
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

type FrameOf<Op extends ClientOp> = Extract<ClientFrame, { readonly t: Op }>

/** One connection as the server sees it. */
export class Peer {
  /** The texts that came, one a WebSocket frame. */
  readonly texts: string[] = []
  /** The frames that no test has taken yet. */
  readonly frames: ClientFrame[] = []
  closed = false
  readonly #socket: WebSocket

  constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on("message", (data) => {
      const text = String(data)
      this.texts.push(text)
      const parsed = JSON.parse(text) as ClientFrame | ClientFrame[]
      this.frames.push(...(Array.isArray(parsed) ? parsed : [parsed]))
    })
    socket.on("close", () => (this.closed = true))
  }

  /** Takes the next frame of this kind, leaving others where they are. */
  async take<Op extends ClientOp>(op: Op): Promise<FrameOf<Op>> {
    const find = (): number => this.frames.findIndex(({ t }) => t === op)
    await until(`the client sends ${op}; it sent ${JSON.stringify(this.frames)}`, () => find() >= 0)
    return this.frames.splice(find(), 1)[0] as FrameOf<Op>
  }

  send(...frames: readonly ServerFrame[]): void {
    this.#socket.send(JSON.stringify(frames.length === 1 ? frames[0] : frames))
  }

  /** Answers `hello`. */
  async welcome(more: Partial<Welcome> = {}): Promise<FrameOf<"hello">> {
    const hello = await this.take("hello")
    this.send({
      t: "welcome",
      sid: "s",
      user: "alice",
      cursor: hello.resume?.cursor ?? "c0",
      recovered: hello.resume !== undefined,
      now: Date.now(),
      limits: { ...DEFAULT_LIMITS, perSecond: 1_000_000 },
      ...more
    })
    return hello
  }

  close(code: number): void {
    this.#socket.close(code)
  }

  /** Ends without a word, as a broken network does. */
  cut(): void {
    this.#socket.terminate()
  }
}

/** A server for one test. */
export interface Scripted {
  readonly url: string
  readonly peers: readonly Peer[]
  /** The next connection that no test has taken yet. */
  readonly accept: () => Promise<Peer>
}

/** Starts a server that ends with the test. */
export const scripted = async (): Promise<Scripted> => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "darda.v1" })
  const peers: Peer[] = []
  server.on("connection", (socket) => peers.push(new Peer(socket)))
  await once(server, "listening")
  onTestFinished(() => {
    for (const socket of server.clients) socket.terminate()
    server.close()
  })
  let taken = 0
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/ws`,
    peers,
    accept: async () => {
      await until(`connection ${taken + 1} is opened`, () => peers.length > taken)
      return peers[taken++] as Peer
    }
  }
}

/** A clock that stands until it is told to go on. */
export class ManualClock {
  #now = 1_700_000_000_000
  #timers: { readonly at: number; readonly run: () => void }[] = []
  readonly now = (): number => this.#now
  readonly random = (): number => 0.5
  readonly after = (ms: number, run: () => void): (() => void) => {
    const timer = { at: this.#now + ms, run }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  /** Lets time pass, running what falls due in its order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#timers = this.#timers.filter((other) => other !== due)
      this.#now = Math.max(this.#now, due.at)
      due.run()
    }
    this.#now = end
  }
}

/** The real surroundings, but that pauses before a reconnect are as short as chance allows. */
export const eager: Environment = { ...realEnvironment, clock: { ...realEnvironment.clock, random: () => 0 } }

/** A client that ends with the test; starts to connect at once. */
export const clientOf = (server: Scripted, options: Partial<ClientOptions> = {}): DardaClient => {
  const client = new DardaClient({ url: server.url, token: "token", device: "d1", environment: eager, ...options })
  onTestFinished(() => client.close())
  client.connect().catch(() => {})
  return client
}

/** An event of a message by bob in the dm of alice and bob. */
export const message = (seq: number, more: Partial<TimelineEvent> = {}): ServerFrame & { readonly t: "event" } =>
  ({
    t: "event",
    conv: "dm:alice:bob",
    seq,
    type: "message",
    by: "bob",
    at: 1_700_000_000_000 + seq,
    cid: `bob-${seq}`,
    data: { kind: "text", body: `message ${seq}` },
    ...more
  }) as ServerFrame & { readonly t: "event" }

/** The seqs of a client's events, as they come. */
export const seqsOf = (client: DardaClient, conv = "dm:alice:bob"): readonly number[] => {
  const seqs: number[] = []
  client.on("event", (event) => {
    if (event.conv === conv) seqs.push(event.seq)
  })
  return seqs
}
