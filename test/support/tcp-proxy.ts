/** A way to a server that can break as networks do: bytes vanish, wait, trickle, or the connection is cut. */
import { once } from "node:events"
import * as net from "node:net"

/** `pass`; `hold`: they wait, and go on later; `swallow`: they are gone, and nobody is told. */
export type Flow = "pass" | "hold" | "swallow"

const TRICKLE_EVERY_MS = 50

/** One direction of one connection. */
class Way {
  readonly #from: net.Socket
  readonly #to: net.Socket
  readonly #held: Array<Buffer> = []
  #flow: Flow = "pass"
  #ended = false
  /** Bytes a second; undefined as many as come. */
  #rate: number | undefined
  #trickles = false

  constructor(from: net.Socket, to: net.Socket, look: (data: Buffer) => void) {
    this.#from = from
    this.#to = to
    from.on("data", (data) => {
      look(data)
      if (this.#flow === "swallow") return
      this.#held.push(data)
      // What waits is held back at its source too, as a full network would.
      if (this.#flow === "hold" || this.#rate !== undefined) from.pause()
      this.#push()
    })
    from.on("close", () => {
      this.#ended = true
      this.#push()
    })
    from.on("error", () => {})
  }

  set(flow: Flow, rate: number | undefined): void {
    this.#flow = flow
    this.#rate = rate
    if (flow === "swallow") this.#held.length = 0
    this.#push()
  }

  #push(): void {
    if (this.#flow === "hold") return
    if (this.#rate !== undefined && this.#held.length > 0) {
      if (this.#trickles) return
      this.#trickles = true
      // Slower than a byte each time is a byte less often.
      setTimeout(
        () => {
          this.#trickles = false
          this.#trickle()
        },
        Math.max(TRICKLE_EVERY_MS, 1000 / this.#rate)
      )
      return
    }
    for (const data of this.#held.splice(0)) this.#to.write(data)
    this.#from.resume()
    // A swallowed end is not told either.
    if (this.#ended && this.#flow === "pass") this.#to.destroy()
  }

  #trickle(): void {
    const first = this.#held[0]
    if (this.#flow !== "pass" || first === undefined) return
    const count = Math.max(1, Math.floor(((this.#rate ?? Infinity) * TRICKLE_EVERY_MS) / 1000))
    this.#to.write(first.subarray(0, count))
    if (first.length > count) this.#held[0] = first.subarray(count)
    else this.#held.shift()
    this.#push()
  }
}

/** One connection through the proxy. */
export class Through {
  readonly #client: net.Socket
  readonly #up: Way
  readonly #down: Way

  constructor(client: net.Socket, server: net.Socket, look: (data: Buffer, through: Through) => void) {
    this.#client = client
    // What the client says is looked at before it goes on, so that whoever looks can still hold it back.
    this.#up = new Way(client, server, (data) => look(data, this))
    this.#down = new Way(server, client, () => {})
  }

  /** What the client sends. */
  requests(flow: Flow, bytesPerSecond?: number): void {
    this.#up.set(flow, bytesPerSecond)
  }

  /** What the server answers. */
  replies(flow: Flow, bytesPerSecond?: number): void {
    this.#down.set(flow, bytesPerSecond)
  }

  /** Ends both ends at once, by a reset. */
  cut(): void {
    this.#client.resetAndDestroy()
  }
}

/** A proxy on a free loopback port in front of another one. New connections pass, whatever was done to those before. */
export class TcpProxy {
  readonly port: number
  /** Called with everything that a client sends, before it goes on. */
  look: (data: Buffer, through: Through) => void = () => {}
  readonly #server: net.Server
  readonly #open: Set<Through>

  private constructor(server: net.Server, open: Set<Through>) {
    this.#server = server
    this.#open = open
    this.port = (server.address() as net.AddressInfo).port
  }

  static async start(target: number): Promise<TcpProxy> {
    const open = new Set<Through>()
    const server = net.createServer((client) => {
      const upstream = net.connect(target, "127.0.0.1")
      const through = new Through(client, upstream, (data, one) => proxy.look(data, one))
      open.add(through)
      client.on("close", () => open.delete(through))
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const proxy = new TcpProxy(server, open)
    return proxy
  }

  /** The connections that are open now. */
  get connections(): ReadonlyArray<Through> {
    return [...this.#open]
  }

  /** Does this to every connection that is open now. */
  all(act: (through: Through) => void): void {
    this.connections.forEach(act)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    this.all((through) => through.cut())
    await once(this.#server, "close")
  }
}
