import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import { zeroVector } from "../domain/partition.ts"
import { makeProgress, type Progress } from "./Progress.ts"
import { type DumpRow, ReadModels, type ReadModelsUnavailable, type Shadow, type Snapshot } from "./ReadModels.ts"
import { compareKeys } from "./Store.ts"
import { makeMemoryStore } from "./StoreMemory.ts"

/** Called around every operation of the port with its name: what it does there happens to the caller. For injected faults. */
export type Intercept = (operation: string, moment: "before" | "after") => Effect.Effect<void, ReadModelsUnavailable>

/** What an in-memory set of read models holds. Several {@link layerMemory} of one engine are processes that share it. */
export interface ReadModelsEngine {
  readonly partitions: number
  readonly progress: Progress
  store: ReturnType<typeof makeMemoryStore>
  /** May be replaced at any time. */
  intercept: Intercept
  /** Held by whoever changes what is there. */
  readonly writing: Semaphore.Semaphore
  readonly shadowing: Semaphore.Semaphore
}

/** An empty engine. */
export const makeReadModelsEngine = (partitions: number): ReadModelsEngine => ({
  partitions,
  progress: makeProgress(zeroVector(partitions)),
  store: makeMemoryStore(partitions),
  intercept: () => Effect.void,
  writing: Semaphore.makeUnsafe(1),
  shadowing: Semaphore.makeUnsafe(1)
})

const snapshotOf = (store: ReadModelsEngine["store"]): Snapshot => {
  const checkpoints = store.checkpoints()
  const dump = store.dump()
  return {
    checkpoints,
    rows: (after, limit) =>
      Effect.sync((): ReadonlyArray<DumpRow> => {
        const from = after === undefined ? 0 : dump.findIndex(({ key }) => compareKeys(key, after) > 0)
        return from < 0 ? [] : dump.slice(from, from + limit)
      })
  }
}

const make = (engine: ReadModelsEngine): ReadModels["Service"] => {
  const around = <A, E, R>(
    operation: string,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | ReadModelsUnavailable, R> =>
    Effect.suspend(() => engine.intercept(operation, "before")).pipe(
      Effect.andThen(effect),
      Effect.tap(() => engine.intercept(operation, "after"))
    )
  const ask = <A>(operation: string, answer: () => A) => around(operation, Effect.sync(answer))

  const shadow = Effect.gen(function* () {
    yield* Effect.acquireRelease(engine.shadowing.take(1), () => engine.shadowing.release(1))
    const store = makeMemoryStore(engine.partitions)
    return {
      checkpoints: Effect.sync(store.checkpoints),
      apply: (runs) => Effect.sync(() => store.apply(runs)),
      counts: Effect.sync(store.counts),
      snapshot: Effect.sync(() => snapshotOf(store)),
      replaceLive: (last) =>
        engine.writing.withPermits(1)(
          Effect.suspend(() => last(engine.store.checkpoints())).pipe(
            Effect.andThen(
              Effect.sync(() => {
                const counts = { before: engine.store.counts(), after: store.counts() }
                engine.store = store
                engine.progress.set(store.checkpoints())
                return counts
              })
            )
          )
        )
    } satisfies Shadow
  })

  return {
    checkpoints: ask("checkpoints", () => engine.progress.current()),
    reached: (vector, timeoutMs) => around("reached", engine.progress.reached(vector, timeoutMs)),
    apply: (runs) =>
      around(
        "apply",
        engine.writing.withPermits(1)(
          Effect.sync(() => {
            const checkpoints = engine.store.apply(runs)
            engine.progress.set(checkpoints)
            return checkpoints
          })
        )
      ),
    access: (conv, user) => ask("access", () => engine.store.access(conv, user)),
    page: (conv, request) => ask("page", () => engine.store.page(conv, request)),
    roster: (conv, after, limit) => ask("roster", () => engine.store.roster(conv, after, limit)),
    conversations: (user, before, limit) => ask("conversations", () => engine.store.conversations(user, before, limit)),
    inbox: (user, vector, after, limit) => ask("inbox", () => engine.store.inbox(user, vector, after, limit)),
    counts: ask("counts", () => engine.store.counts()),
    snapshot: ask("snapshot", () => snapshotOf(engine.store)),
    shadow: around("shadow", shadow),
    reset: around(
      "reset",
      engine.writing.withPermits(1)(
        Effect.sync(() => {
          engine.store = makeMemoryStore(engine.partitions)
          engine.progress.set(engine.store.checkpoints())
        })
      )
    )
  }
}

/** Read models in memory, over an engine that several processes of a simulation may share. */
export const layerMemory = (engine: ReadModelsEngine): Layer.Layer<ReadModels> =>
  Layer.sync(ReadModels, () => ReadModels.of(make(engine)))
