import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Scope } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { askControl, type ControlHandler, serveControl } from "../../src/platform/Control.ts"
import { temporaryFolder } from "./darda.ts"

const none = () => {}
const socketIn = (folder: string) => path.join(folder, "control.sock")

describe("the control socket", () => {
  it.live("carries a command's progress and its result", () =>
    Effect.gen(function* () {
      const socket = socketIn(temporaryFolder())
      const count: ControlHandler = (progress) =>
        Effect.sync(() => {
          progress("one")
          progress("two\nin two lines")
          return { counted: 2 }
        })
      yield* serveControl(socket, { count })
      const lines: Array<string> = []
      const answer = yield* askControl(socket, "count", (line) => lines.push(line))
      assert.deepStrictEqual(answer, { _tag: "Answered", result: { counted: 2 } })
      assert.deepStrictEqual(lines, ["one", "two\nin two lines"])
    })
  )

  it.live("tells why a command failed, and of commands it does not know", () =>
    Effect.gen(function* () {
      const socket = socketIn(temporaryFolder())
      yield* serveControl(socket, { fail: () => Effect.fail(new Error("the log is away")) })
      assert.strictEqual((yield* Effect.flip(askControl(socket, "fail", none))).message, "the log is away")
      assert.include((yield* Effect.flip(askControl(socket, "other", none))).message, "does not know this command")
      assert.include((yield* Effect.flip(askControl(socket, "toString", none))).message, "does not know this command")
    })
  )

  it.live("is for its owner alone, and gone with the server", () =>
    Effect.gen(function* () {
      const socket = socketIn(temporaryFolder())
      const scope = yield* Scope.make()
      yield* Scope.provide(serveControl(socket, {}), scope)
      assert.strictEqual(fs.statSync(socket).mode & 0o777, 0o600)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(fs.existsSync(socket))
      assert.deepStrictEqual(yield* askControl(socket, "count", none), { _tag: "NotRunning" })
    })
  )

  it.live("of a server that was killed says that none runs, and is in nobody's way", () =>
    Effect.gen(function* () {
      const socket = socketIn(temporaryFolder())
      // A socket file without anyone behind it, as kill -9 leaves it.
      const server = net.createServer().listen(socket)
      yield* Effect.promise(() => new Promise((resolve) => server.once("listening", resolve)))
      fs.renameSync(socket, `${socket}.kept`)
      yield* Effect.promise(() => new Promise((resolve) => server.close(resolve)))
      fs.renameSync(`${socket}.kept`, socket)
      assert.deepStrictEqual(yield* askControl(socket, "count", none), { _tag: "NotRunning" })
      yield* serveControl(socket, { count: () => Effect.succeed(1) })
      assert.deepStrictEqual(yield* askControl(socket, "count", none), { _tag: "Answered", result: 1 })
    })
  )

  it.live("works in a folder whose path is longer than a socket's may be", () =>
    Effect.gen(function* () {
      const folder = path.join(temporaryFolder(), "long".repeat(40))
      fs.mkdirSync(folder)
      const socket = socketIn(folder)
      yield* serveControl(socket, { count: () => Effect.succeed(1) })
      assert.isTrue(fs.existsSync(socket))
      assert.deepStrictEqual(yield* askControl(socket, "count", none), { _tag: "Answered", result: 1 })
    })
  )

  it.live("interrupts a command whose caller has left", () =>
    Effect.gen(function* () {
      const socket = socketIn(temporaryFolder())
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const wait: ControlHandler = () =>
        Deferred.succeed(started, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
      yield* serveControl(socket, { wait })
      yield* Effect.raceFirst(askControl(socket, "wait", none), Deferred.await(started))
      yield* Deferred.await(interrupted).pipe(Effect.timeout("5 seconds"))
    })
  )
})
