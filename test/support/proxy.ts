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
}

/** A proxy on a free loopback port in front of another one. */
export const tcpProxy = (target: number): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<net.Socket>()
    let swallowing = false
    const keep = (socket: net.Socket): net.Socket => {
      sockets.add(socket)
      return socket.on("error", () => {}).on("close", () => sockets.delete(socket))
    }
    const server = net.createServer((client) => {
      keep(client)
      if (swallowing) return void client.resume()
      const upstream = keep(net.connect(target, "127.0.0.1"))
      let dead = false
      for (const [from, to] of [
        [client, upstream],
        [upstream, client]
      ] as const) {
        from.on("data", (data) => {
          dead ||= swallowing
          if (!dead) to.write(data)
        })
        from.on("close", () => {
          if (!dead) to.destroy()
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
      heal: () => void (swallowing = false)
    }
  })
