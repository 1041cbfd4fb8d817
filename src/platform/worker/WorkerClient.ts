import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Worker } from "node:worker_threads"
import type { Methods, Problem, Request, Response } from "./serve.ts"

/**
 * A call that a worker thread did not answer with a result. `code` is the worker's own, or one of ours: `worker-died` (for good; the
 * process should end), `worker-closed`, `worker-busy` (too many calls wait; nothing was done).
 */
export class WorkerError extends Schema.TaggedError<WorkerError>()("WorkerError", {
  worker: Schema.String,
  method: Schema.String,
  /** The name of the error in the worker. */
  error: Schema.String,
  code: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `The ${this.worker} worker did not do ${this.method}: ${this.reason}`
  }
}

export interface WorkerOptions {
  /** The worker's module: `new URL("./x.worker.ts", import.meta.url)`. */
  readonly url: URL
  /** For people: error messages and thread names. */
  readonly name: string
  /** Given to the worker's `serve`. */
  readonly data: unknown
  /** Calls that may wait at once, 10,000 unless given. More fail with `worker-busy`. */
  readonly maxPending?: number
}

/** A worker thread that answers calls in the order in which they are made. */
export interface WorkerClient<M extends Methods> {
  /**
   * Calls a method. An interrupted call is still carried out; only its answer is dropped.
   */
  readonly call: <K extends keyof M & string>(
    method: K,
    ...args: Parameters<M[K]>
  ) => Effect.Effect<Awaited<ReturnType<M[K]>>, WorkerError>
  /** Fails when the thread has died of itself. Never succeeds. */
  readonly died: Effect.Effect<never, WorkerError>
}

/** How long a worker may take to finish what it does before it is ended by force. */
const CLOSE_MS = 10_000
const START = 0

/** Starts a worker thread that lives as long as the scope, and waits until it serves. Fails with the error of its start. */
export const makeWorker = Effect.fn("WorkerClient.make")(function* <M extends Methods>(
  options: WorkerOptions
): Effect.fn.Return<WorkerClient<M>, WorkerError, Scope.Scope> {
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new Client<M>(options)),
    (client) => Effect.promise(() => client.close())
  )
  yield* Deferred.await(client.started)
  return client
})

type Resume = (answer: Effect.Effect<never, WorkerError> | Effect.Effect<unknown>) => void

class Client<M extends Methods> implements WorkerClient<M> {
  readonly started = Deferred.makeUnsafe<void, WorkerError>()
  readonly #died = Deferred.makeUnsafe<never, WorkerError>()
  readonly #options: WorkerOptions
  readonly #worker: Worker
  readonly #maxPending: number
  readonly #pending = new Map<number, { readonly method: string; readonly resume: Resume }>()
  readonly #exited: Promise<void>
  #lastId = 0
  #over: Problem | undefined

  constructor(options: WorkerOptions) {
    this.#options = options
    this.#maxPending = options.maxPending ?? 10_000
    this.#worker = new Worker(options.url, { workerData: options.data, name: options.name })
    this.#worker.on("message", (response: Response) => this.#take(response))
    this.#worker.on("messageerror", (error) => this.#die(error.message))
    this.#worker.on("error", (error) => this.#die(error instanceof Error ? error.message : String(error)))
    this.#exited = new Promise((resolve) =>
      this.#worker.once("exit", () => {
        this.#die("its thread ended")
        resolve()
      })
    )
  }

  get died(): Effect.Effect<never, WorkerError> {
    return Deferred.await(this.#died)
  }

  call<K extends keyof M & string>(
    method: K,
    ...args: Parameters<M[K]>
  ): Effect.Effect<Awaited<ReturnType<M[K]>>, WorkerError> {
    return Effect.callback((resume) => {
      if (this.#over !== undefined) return resume(this.#error(method, this.#over))
      if (this.#pending.size >= this.#maxPending) {
        return resume(this.#error(method, ours("worker-busy", `${this.#maxPending} calls wait for it already`)))
      }
      const id = ++this.#lastId
      try {
        this.#worker.postMessage([id, method, args] satisfies Request)
      } catch (cause) {
        return resume(this.#error(method, ours("not-cloneable", String(cause))))
      }
      this.#pending.set(id, { method, resume: resume as Resume })
    })
  }

  /** Lets the worker finish what was called and close what it holds. */
  async close(): Promise<void> {
    if (this.#over === undefined) {
      this.#over = ours("worker-closed", "it has been closed")
      this.#worker.postMessage([START] satisfies Request)
    }
    const force = setTimeout(() => void this.#worker.terminate(), CLOSE_MS)
    await this.#exited
    clearTimeout(force)
  }

  #take([id, result, problem]: Response): void {
    if (id === START) {
      if (problem === undefined) Deferred.doneUnsafe(this.started, Effect.void)
      else {
        this.#over = problem
        Deferred.doneUnsafe(this.started, this.#error("start", problem))
      }
      return
    }
    const call = this.#pending.get(id)
    if (call === undefined) return
    this.#pending.delete(id)
    call.resume(problem === undefined ? Effect.succeed(result) : this.#error(call.method, problem))
  }

  #die(reason: string): void {
    const closing = this.#over !== undefined
    this.#over ??= ours("worker-died", `the thread is gone: ${reason}`)
    const over = this.#over
    for (const { method, resume } of this.#pending.values()) resume(this.#error(method, over))
    this.#pending.clear()
    if (closing) return
    Deferred.doneUnsafe(this.started, this.#error("start", over))
    Deferred.doneUnsafe(this.#died, this.#error("any call", over))
  }

  #error(method: string, { code, message, name }: Problem): WorkerError {
    return new WorkerError({ worker: this.#options.name, method, error: name, code, reason: message })
  }
}

const ours = (code: string, message: string): Problem => ({ name: "WorkerError", code, message })
