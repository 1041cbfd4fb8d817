import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as ScopeModule from "effect/Scope"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import { zeroVector } from "../domain/partition.ts"
import { makeWorker, type WorkerClient, WorkerError } from "../platform/worker/WorkerClient.ts"
import { makeProgress } from "./Progress.ts"
import type { ReadModelsFile, ReadModelsMethods } from "./read-models.worker.ts"
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

const snapshotOf = (client: Client): Effect.Effect<Snapshot, ReadModelsUnavailable, Scope.Scope> =>
  Effect.acquireRelease(client.call("snapshot"), ({ id }) => Effect.ignore(client.call("endSnapshot", id))).pipe(
    Effect.map(({ checkpoints, id }): Snapshot => ({
      checkpoints,
      rows: (after, limit) => Effect.mapError(client.call("snapshotRows", id, after, limit), unavailable)
    })),
    Effect.mapError(unavailable)
  )

/**
 * Read models in an SQLite file of their own, in a thread of their own. The file is a fold of the log and nothing more: a missing one is made, and one that is
 * damaged, of another format or of another log is thrown away (which is logged), and the projector fills it again.
 *
 * `synchronous=NORMAL`: a power cut may take the newest batches together with their checkpoints, and the log gives them again.
 */
export const layerSqlite = (options: ReadModelsSqliteOptions): Layer.Layer<ReadModels, WorkerError> =>
  Layer.effect(ReadModels, Effect.map(make(options), ReadModels.of))

const make = Effect.fn("ReadModelsSqlite.make")(function*(
  options: ReadModelsSqliteOptions
): Effect.fn.Return<ReadModels["Service"], WorkerError, Scope.Scope> {
  const { file, partitions } = options
  const client = yield* startWorker({ ...options, fresh: false })
  const replaced = yield* client.call("replaced")
  if (replaced !== undefined) {
    yield* Effect.logWarning(`${file} was thrown away: ${replaced}. The read models are rebuilt from the log.`)
  }
  const progress = makeProgress(yield* client.call("checkpoints"))
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
  const call: Client["call"] = (method, ...args) => Effect.tapError(client.call(method, ...args), damaged)
  const ask = <K extends keyof ReadModelsMethods & string>(method: K, ...args: Parameters<ReadModelsMethods[K]>) =>
    Effect.mapError(call(method, ...args), unavailable)

  const shadow = Effect.gen(function*() {
    yield* Effect.acquireRelease(shadowing.take(1), () => shadowing.release(1))
    const scope = yield* ScopeModule.fork(yield* Effect.scope)
    const other = `${file}.rebuild`
    const second = yield* ScopeModule.provide(startWorker({ ...options, file: other, fresh: true }), scope)
    return {
      checkpoints: Effect.mapError(second.call("checkpoints"), unavailable),
      apply: (runs) => Effect.mapError(second.call("apply", runs), unavailable),
      counts: Effect.mapError(second.call("counts"), unavailable),
      snapshot: snapshotOf(second),
      replaceLive: (last) =>
        writing.withPermits(1)(
          Effect.gen(function*() {
            yield* last(progress.current())
            const before = yield* ask("counts")
            const after = yield* Effect.mapError(second.call("counts"), unavailable)
            // Closed first, so that everything is in the one file that is renamed.
            yield* ScopeModule.close(scope, Exit.void)
            progress.set(yield* ask("replaceBy", other))
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
