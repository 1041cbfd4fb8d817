import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { makeWorker } from "../../src/platform/worker/WorkerClient.ts"
import type { EchoMethods } from "../support/log-echo.worker.ts"

const url = new URL("../support/log-echo.worker.ts", import.meta.url)
const echo = (options?: { readonly data?: unknown; readonly maxPending?: number }) =>
  makeWorker<EchoMethods>({ url, name: "echo", data: {}, ...options })

describe("WorkerClient", () => {
  it.live("answers calls in their order", () =>
    Effect.gen(function* () {
      const worker = yield* echo()
      const answers = yield* Effect.forEach([1, 2, 3, 4], (n) => worker.call("echo", { n }), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(answers, [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }])
      assert.strictEqual(yield* worker.call("later", "x"), "x")
    })
  )

  it.live("brings an error over with its name, code and message, and goes on", () =>
    Effect.gen(function* () {
      const worker = yield* echo()
      const error = yield* Effect.flip(worker.call("fail", "E_NONE"))
      assert.deepInclude(error, {
        worker: "echo",
        method: "fail",
        error: "TypeError",
        code: "E_NONE",
        reason: "no such thing"
      })
      assert.strictEqual(yield* worker.call("echo", 1), 1)
    })
  )

  it.live("fails with the error of the worker's start", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(echo({ data: { refuse: "not today" } }))
      assert.deepInclude(error, { method: "start", code: "refused", reason: "not today" })
    })
  )

  it.live("fails whatever waits, and every later call, when the thread dies", () =>
    Effect.gen(function* () {
      const worker = yield* echo()
      const waiting = yield* Effect.forkChild(Effect.flip(worker.call("spin", 20)), { startImmediately: true })
      yield* worker.call("die")
      const lost = yield* Effect.flip(worker.call("echo", 1).pipe(Effect.andThen(worker.died)))
      assert.strictEqual(lost.code, "worker-died")
      assert.include(lost.reason, "struck down")
      assert.strictEqual((yield* Effect.flip(worker.call("echo", 2))).code, "worker-died")
      yield* Fiber.interrupt(waiting)
    })
  )

  it.live("refuses more calls than may wait", () =>
    Effect.gen(function* () {
      const worker = yield* echo({ maxPending: 1 })
      const first = yield* Effect.forkChild(worker.call("spin", 50), { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(worker.call("echo", 1))).code, "worker-busy")
      yield* Fiber.join(first)
      assert.strictEqual(yield* worker.call("echo", 1), 1)
    })
  )

  it.live("lets the worker finish and close when the scope ends", () =>
    Effect.gen(function* () {
      const closed = new SharedArrayBuffer(4)
      const scope = yield* Scope.make()
      const worker = yield* Scope.provide(echo({ data: { closed } }), scope)
      const last = yield* Effect.forkChild(worker.call("spin", 50), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(last)))
      assert.strictEqual(new Int32Array(closed)[0], 1)
      assert.strictEqual((yield* Effect.flip(worker.call("echo", 1))).code, "worker-closed")
    })
  )
})
