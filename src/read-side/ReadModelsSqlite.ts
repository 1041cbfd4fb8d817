import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as fs from "node:fs/promises"
import { zeroVector } from "../domain/partition.ts"
import { makeWorker, type WorkerClient, WorkerError } from "../platform/worker/WorkerClient.ts"
import { makeProgress, type Progress } from "./Progress.ts"
import type { ReadModelsFile, ReadModelsMethods } from "./read-models.worker.ts"
import { shadowFile } from "./shadowFile.ts"
import { ReadModels, ReadModelsUnavailable, type Shadow, type Snapshot } from "./ReadModels.ts"

export interface ReadModelsSqliteOptions {
  readonly file: string
  /** The id of the log whose fold this is. */
  readonly log: string
  readonly partitions: number
}

type Client = WorkerClient<ReadModelsMethods>

const unavailable = (cause: WorkerError): ReadModelsUnavailable =>
  new ReadModelsUnavailable({ operation: cause.method, reason: cause.reason, cause })

const startWorker = (file: ReadModelsFile): Effect.Effect<Client, WorkerError, Scope.Scope> =>
  makeWorker<ReadModelsMethods>({
    url: new URL("./read-models.worker.ts", import.meta.url),
    name: file.fresh ? "read models (rebuilding)" : "read models",
    data: file
  })

const snapshotOf = (client: Pick<Client, "call">): Effect.Effect<Snapshot, ReadModelsUnavailable, Scope.Scope> =>
  Effect.acquireRelease(client.call("snapshot"), ({ id }) => Effect.ignore(client.call("endSnapshot", id))).pipe(
    Effect.map(({ checkpoints, id }): Snapshot => ({
      checkpoints,
      rows: (after, limit) => Effect.mapError(client.call("snapshotRows", id, after, limit), unavailable)
    })),
    Effect.mapError(unavailable)
  )

/**
 * Read models in an SQLite file of their own, in a thread of their own. The file is a fold of the log and nothing more: a missing one is made, and one that is
 * damaged, of another format or of another log is thrown away (which is logged), and the projector fills it again. Another program's file is
 * refused and left as it is.
 *
 * `synchronous=NORMAL`: a power cut may take the newest batches together with their checkpoints, and the log gives them again.
 */
export const layerSqlite = (options: ReadModelsSqliteOptions): Layer.Layer<ReadModels, WorkerError> =>
  Layer.effect(ReadModels, Effect.map(make(options), ReadModels.of))

/** Starts the thread, and another one whenever it dies: the file has what it held but for the last second. */
const supervised = Effect.fnUntraced(function* (
  options: ReadModelsSqliteOptions,
  progress: Progress
): Effect.fn.Return<Pick<Client, "call">, WorkerError, Scope.Scope> {
  const start = Effect.gen(function* () {
    const client = yield* startWorker({ ...options, fresh: false })
    const replaced = yield* client.call("replaced")
    if (replaced !== undefined) {
      yield* Effect.logWarning(
        `${options.file} was thrown away: ${replaced}. The read models are rebuilt from the log.`
      )
    }
    progress.set(yield* client.call("checkpoints"))
    return client
  })
  const first = yield* Deferred.make<void, WorkerError>()
  let current: Client | undefined
  yield* Effect.gen(function* () {
    current = yield* start
    yield* Deferred.succeed(first, undefined)
    return yield* current.died
  }).pipe(
    Effect.scoped,
    Effect.tapError((error) =>
      Effect.flatMap(Deferred.fail(first, error), (atStart) =>
        atStart ? Effect.void : Effect.logError(`${error.message}. It is started again.`)
      )
    ),
    Effect.retry({
      schedule: Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]),
      while: () => current !== undefined
    }),
    Effect.ignore,
    Effect.forkScoped
  )
  yield* Deferred.await(first)
  // Not dead for good, as a thread without this would be.
  const restarting = (error: WorkerError): WorkerError =>
    error.code === "worker-died" ? new WorkerError({ ...error, code: "worker-restarting" }) : error
  return {
    call: (method, ...args) => Effect.suspend(() => Effect.mapError(current!.call(method, ...args), restarting))
  }
})

const make = Effect.fn("ReadModelsSqlite.make")(function* (
  options: ReadModelsSqliteOptions
): Effect.fn.Return<ReadModels["Service"], WorkerError, Scope.Scope> {
  const { file, partitions } = options
  const progress = makeProgress(zeroVector(partitions))
  const client = yield* supervised(options, progress)
  /** Held by whoever changes what is there. */
  const writing = Semaphore.makeUnsafe(1)
  const shadowing = Semaphore.makeUnsafe(1)

  const empty = client.call("reset").pipe(Effect.tap(() => Effect.sync(() => progress.set(zeroVector(partitions)))))
  let emptying = false
  /** Damage shows late, on whatever reads the damaged page: then the file is thrown away as at a start. */
  const damaged = (cause: WorkerError): Effect.Effect<void> => {
    if ((cause.code !== "corrupt" && cause.code !== "not-sqlite") || emptying) return Effect.void
    emptying = true
    return Effect.logWarning(`${file} is thrown away: ${cause.reason}. The read models are rebuilt from the log.`).pipe(
      Effect.andThen(empty),
      Effect.ensuring(Effect.sync(() => void (emptying = false))),
      Effect.ignore
    )
  }
  const ask = <K extends keyof ReadModelsMethods & string>(method: K, ...args: Parameters<ReadModelsMethods[K]>) =>
    client.call(method, ...args).pipe(Effect.tapError(damaged), Effect.mapError(unavailable))

  const shadow = Effect.gen(function* () {
    yield* Effect.acquireRelease(shadowing.take(1), () => shadowing.release(1))
    const other = shadowFile(file)
    // After its thread has ended, unless the file has taken the place of the live one.
    yield* Effect.addFinalizer(() =>
      Effect.promise(() =>
        Promise.all(["", "-wal", "-shm"].map((suffix) => fs.rm(other + suffix, { force: true }).catch(() => {})))
      )
    )
    const scope = yield* Scope.fork(yield* Effect.scope)
    const second = yield* Scope.provide(startWorker({ ...options, file: other, fresh: true }), scope)
    return {
      checkpoints: Effect.mapError(second.call("checkpoints"), unavailable),
      apply: (runs) => Effect.mapError(second.call("apply", runs), unavailable),
      counts: Effect.mapError(second.call("counts"), unavailable),
      snapshot: snapshotOf(second),
      replaceLive: (last) =>
        writing.withPermits(1)(
          Effect.gen(function* () {
            yield* last(progress.current())
            const before = yield* ask("counts")
            const after = yield* Effect.mapError(second.call("counts"), unavailable)
            yield* Effect.uninterruptible(
              Effect.gen(function* () {
                // Closed first, so that everything is in the one file that is renamed.
                yield* Scope.close(scope, Exit.void)
                progress.set(yield* ask("replaceBy", other))
              })
            )
            return { before, after }
          })
        )
    } satisfies Shadow
  }).pipe(Effect.mapError((error) => (error instanceof WorkerError ? unavailable(error) : error)))

  return {
    // Asked of the thread, and not of what it once answered: a failed commit takes them back.
    checkpoints: Effect.tap(ask("checkpoints"), (checkpoints) => Effect.sync(() => progress.set(checkpoints))),
    reached: progress.reached,
    apply: (runs) =>
      writing.withPermits(1)(
        Effect.tap(ask("apply", runs), (checkpoints) => Effect.sync(() => progress.set(checkpoints)))
      ),
    access: (conv, user) => ask("access", conv, user),
    page: (conv, request) => ask("page", conv, request),
    roster: (conv, after, limit) => ask("roster", conv, after, limit),
    conversations: (user, before, limit) => ask("conversations", user, before, limit),
    inbox: (user, vector, after, limit) => ask("inbox", user, vector, after, limit),
    counts: ask("counts"),
    snapshot: snapshotOf(client),
    shadow,
    reset: writing.withPermits(1)(Effect.mapError(empty, unavailable))
  }
})
