/**
 * How commands of the `darda` tool reach a running server: a unix socket in the data folder, for its owner alone.
 *
 * One request a connection, a JSON object on one line: `{"command": "..."}`. Answered by any number of `{"progress": "..."}` lines and then one
 * `{"result": ...}` or `{"error": "..."}`. A connection that ends early interrupts its command.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"

/** The control socket cannot be opened, or the conversation over it broke. */
export class ControlFailed extends Schema.TaggedError<ControlFailed>()("ControlFailed", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** Tells how far a command is, in one line. */
export type Progress = (line: string) => void

/** What a server does for a command; the result must be JSON. */
export type ControlHandler = (progress: Progress) => Effect.Effect<unknown, { readonly message: string }>

/** Bytes of a unix socket's path, the closing NUL not counted: Linux has 107, others have 103. */
const PATH_BYTES = process.platform === "linux" ? 107 : 103
const REQUEST_BYTES = 4_096
const RESPONSE_BYTES = 1024 * 1024
const MAX_CONNECTIONS = 8

/**
 * Gives `use` a path of the socket that is short enough: the socket's own, or one through a link in a private temporary folder that only
 * lives until `done` is called. The socket is the same either way.
 */
const withShortPath = <A>(socket: string, use: (short: string, done: () => void) => A): A => {
  if (Buffer.byteLength(socket) <= PATH_BYTES) return use(socket, () => {})
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "darda-"))
  const link = path.join(folder, "d")
  fs.symlinkSync(path.dirname(socket), link)
  return use(path.join(link, path.basename(socket)), () => fs.rmSync(folder, { recursive: true, force: true }))
}

/**
 * Listens until the scope closes. Expects that the caller holds the folder's lock: a socket file that is there already belongs to a process that
 * died, and is removed.
 */
export const serveControl = (
  socket: string,
  handlers: Readonly<Record<string, ControlHandler>>
): Effect.Effect<void, ControlFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const connections = new Set<net.Socket>()
    const server = net.createServer((connection) => {
      connections.add(connection)
      connection.once("close", () => connections.delete(connection))
      serveOne(connection, handlers, run)
    })
    server.maxConnections = MAX_CONNECTIONS
    yield* Effect.acquireRelease(
      Effect.callback<void, ControlFailed>((resume) => {
        const fail = (cause: Error) =>
          resume(new ControlFailed({ reason: `The control socket ${socket} cannot be opened: ${cause.message}` }))
        try {
          fs.rmSync(socket, { force: true })
          withShortPath(socket, (short, done) => {
            server.once("error", (cause) => {
              done()
              fail(cause)
            })
            server.listen(short, () => {
              done()
              fs.chmodSync(socket, 0o600)
              resume(Effect.void)
            })
          })
        } catch (cause) {
          fail(cause as Error)
        }
      }),
      () =>
        Effect.sync(() => {
          server.close()
          for (const connection of connections) connection.destroy()
          fs.rmSync(socket, { force: true })
        })
    )
  })

const serveOne = (
  connection: net.Socket,
  handlers: Readonly<Record<string, ControlHandler>>,
  run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
): void => {
  const write = (message: unknown) => {
    if (connection.writable) connection.write(`${JSON.stringify(message)}\n`)
  }
  let received = ""
  let running: Fiber.Fiber<void> | undefined
  connection.setEncoding("utf8")
  connection.on("error", () => connection.destroy())
  connection.once("close", () => running?.interruptUnsafe())
  connection.on("data", (text: string) => {
    if (running !== undefined) return
    received += text
    const end = received.indexOf("\n")
    if (end < 0) {
      if (received.length > REQUEST_BYTES) connection.destroy()
      return
    }
    const command = commandOf(received.slice(0, end))
    const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined
    if (handler === undefined) {
      write({ error: "The running server does not know this command; is it of another version?" })
      connection.end()
      return
    }
    running = run(
      Effect.exit(handler((progress) => write({ progress }))).pipe(
        Effect.map((exit) => {
          if (Exit.isSuccess(exit)) write({ result: exit.value ?? null })
          else write({ error: (Cause.squash(exit.cause) as Error).message })
          connection.end()
        })
      )
    )
  })
}

const commandOf = (line: string): string => {
  try {
    const { command } = JSON.parse(line) as { command?: unknown }
    return typeof command === "string" ? command : ""
  } catch {
    return ""
  }
}

/** What a running server answered, or that none is running. */
export type ControlAnswer = { readonly _tag: "Answered"; readonly result: unknown } | { readonly _tag: "NotRunning" }

/** Asks the server that holds the data folder to run a command. Fails with the server's own words when the command failed. */
export const askControl = (
  socket: string,
  command: string,
  progress: Progress
): Effect.Effect<ControlAnswer, ControlFailed> =>
  Effect.callback<ControlAnswer, ControlFailed>((resume) => {
    const fail = (reason: string) => resume(new ControlFailed({ reason }))
    if (!fs.existsSync(socket)) return resume(Effect.succeed({ _tag: "NotRunning" }))
    const connection = withShortPath(socket, (short, done) =>
      net.connect(short).once("connect", done).once("close", done)
    )
    let received = ""
    connection.setEncoding("utf8")
    connection.once("connect", () => connection.write(`${JSON.stringify({ command })}\n`))
    connection.on("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "ECONNREFUSED" || cause.code === "ENOENT") resume(Effect.succeed({ _tag: "NotRunning" }))
      else fail(`The running server cannot be reached over ${socket}: ${cause.message}`)
    })
    connection.on("data", (text: string) => {
      received += text
      for (let end = received.indexOf("\n"); end >= 0; end = received.indexOf("\n")) {
        const message = JSON.parse(received.slice(0, end)) as { progress?: string; error?: string; result?: unknown }
        received = received.slice(end + 1)
        if (message.progress !== undefined) progress(message.progress)
        else if (message.error !== undefined) fail(message.error)
        else resume(Effect.succeed({ _tag: "Answered", result: message.result }))
      }
      if (received.length > RESPONSE_BYTES) connection.destroy(new Error("its answer is too long"))
    })
    connection.once("close", () => fail("The server went away before the command was done."))
    return Effect.sync(() => connection.destroy())
  })
