import { Effect, type Scope } from "effect"
import * as Redacted from "effect/Redacted"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"

/** A Redis of a test's own, which may be stopped, killed and emptied. */
export interface RedisServer {
  readonly address: EngineAddress
  readonly port: number
  /** SIGSTOP: it holds its connections and answers nothing. */
  readonly pause: () => void
  readonly resume: () => void
  /** `kill -9`; nothing of what it held is kept. */
  readonly kill: Effect.Effect<void>
  /** Starts it again, empty, on the same port. */
  readonly start: Effect.Effect<void>
}

export const redisAddress = (url: string): EngineAddress => ({ url: Redacted.make(url), tls: { verify: true } })

const freePort = async (): Promise<number> => {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, "close")
  return port
}

const answers = async (port: number): Promise<void> => {
  for (;;) {
    const socket = net.connect(port, "127.0.0.1")
    try {
      await once(socket, "connect")
      socket.write("PING\r\n")
      const [reply] = (await once(socket, "data")) as [Buffer]
      if (/^(\+PONG|-NOAUTH)/.test(reply.toString())) return
    } catch {
      // Not listening yet.
      await new Promise((resolve) => setImmediate(resolve))
    } finally {
      socket.destroy()
    }
  }
}

/** A redis-server without persistence, with these further arguments of its command line. */
export const redisServer = (...args: ReadonlyArray<string>): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "darda-redis-"))),
      (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
    )
    const port = yield* Effect.promise(freePort)
    let child: ChildProcess | undefined
    const start = Effect.promise(async () => {
      child = spawn(
        "redis-server",
        ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder, ...args],
        { stdio: "ignore" }
      )
      await answers(port)
    })
    const kill = Effect.promise(async () => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, "exit")
      child.kill("SIGKILL")
      await exited
    })
    yield* Effect.acquireRelease(start, () => kill)
    return {
      port,
      address: redisAddress(`redis://127.0.0.1:${port}`),
      pause: () => void child?.kill("SIGSTOP"),
      resume: () => void child?.kill("SIGCONT"),
      kill,
      start
    }
  })
