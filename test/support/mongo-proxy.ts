import { Effect, type Scope } from "effect"
import { once } from "node:events"
import * as net from "node:net"

/** A way to MongoDB that loses answers. */
export interface MongoProxy {
  readonly port: number
  /** The answers to the next calls of this command, `times` of them, are lost, and their connections with them; the server has carried them out. */
  readonly lose: (command: string, times: number) => void
  /** Calls of this command do not arrive any more, nor anything after them on their connections: as if whoever made them stood still. */
  readonly hold: (command: string) => void
}

/** A proxy on a free loopback port in front of one mongod. */
export const mongoProxy = (target: number): Effect.Effect<MongoProxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<net.Socket>()
    let losing = { command: "", times: 0 }
    let held: string | undefined
    const keep = (socket: net.Socket): net.Socket => {
      sockets.add(socket)
      return socket.on("error", () => {}).on("close", () => sockets.delete(socket))
    }
    const server = net.createServer((client) => {
      keep(client)
      const upstream = keep(net.connect(target, "127.0.0.1"))
      let lost = false
      let isHeld = false
      client.on("data", (data) => {
        isHeld ||= held !== undefined && data.includes(held)
        if (isHeld) return
        if (losing.times > 0 && data.includes(losing.command)) {
          losing.times--
          lost = true
        }
        upstream.write(data)
      })
      upstream.on("data", (data) => {
        if (lost) client.destroy()
        else client.write(data)
      })
      client.on("close", () => upstream.destroy())
      upstream.on("close", () => client.destroy())
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
      lose: (command, times) => void (losing = { command, times }),
      hold: (command) => void (held = command)
    }
  })
