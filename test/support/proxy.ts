import { Effect, type Scope } from "effect"
import { once } from "node:events"
import * as net from "node:net"

/** A way to a server that can break as networks do. */
export interface Proxy {
  readonly port: number
  /** From now on nothing that is sent arrives, in either direction, and nobody is told; new connections too. */
  readonly swallow: () => void
  /** What is sent through new connections arrives again; those that were open stay dead. */
  readonly heal: () => void
  /** Those open connections whose client has begun by saying this die without a word, and new ones are well. */
  readonly deafen: (saying?: string) => void
}

/** Characters that are remembered of what a client began with. */
const BEGUN = 2_000

/** A proxy on a free loopback port in front of another one. */
export const tcpProxy = (target: number): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<net.Socket>()
    let swallowing = false
    const open = new Set<{ begun: string; dead: boolean }>()
    const keep = (socket: net.Socket): net.Socket => {
      sockets.add(socket)
      return socket.on("error", () => {}).on("close", () => sockets.delete(socket))
    }
    const server = net.createServer((client) => {
      keep(client)
      if (swallowing) return void client.resume()
      const upstream = keep(net.connect(target, "127.0.0.1"))
      const way = { begun: "", dead: false }
      open.add(way)
      for (const [from, to] of [
        [client, upstream],
        [upstream, client]
      ] as const) {
        from.on("data", (data) => {
          way.dead ||= swallowing
          if (from === client && way.begun.length < BEGUN) way.begun += data.toString("latin1")
          if (!way.dead) to.write(data)
        })
        from.on("close", () => {
          open.delete(way)
          if (!way.dead) to.destroy()
        })
      }
    })
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        server.listen(0, "127.0.0.1")
        await once(server, "listening")
      }),
      () =>
        Effect.promise(async () => {
          server.close()
          for (const socket of sockets) socket.destroy()
          await once(server, "close")
        })
    )
    return {
      port: (server.address() as net.AddressInfo).port,
      swallow: () => void (swallowing = true),
      heal: () => void (swallowing = false),
      deafen: (saying = "") => {
        for (const way of open) way.dead ||= way.begun.includes(saying)
      }
    }
  })
