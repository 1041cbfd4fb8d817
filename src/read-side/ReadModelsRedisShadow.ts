import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import type { Vector } from "../domain/partition.ts"
import { pipelined, type RedisCommand } from "../platform/RedisConnection.ts"
import type { Counts, ReadModelsUnavailable, Shadow } from "./ReadModels.ts"
import {
  logAway,
  makeApplier,
  pointerKey,
  readPointers,
  type RedisSet,
  redisAway,
  unavailable
} from "./ReadModelsRedisApply.ts"
import { type Pointer, partitionPrefix, pointerOf } from "./ReadModelsRedisRows.ts"
import type { RedisProgress } from "./ReadModelsRedisProgress.ts"
import { openSnapshot } from "./ReadModelsRedisSnapshot.ts"
import { rebuildKey } from "./ReadModelsRedisSweep.ts"

/** How long what a process holds is held without it, how often it says that it lives, and how often one who waits looks. */
const LEASE_MS = 15_000
const PROLONG_MS = 4_000
const PAUSE_MS = 100

/** A new name of a generation. */
export const newGeneration = (): string => randomUUID().slice(0, 8)

export const checkpointsOf = (pointers: ReadonlyArray<Pointer>): Vector => pointers.map(({ checkpoint }) => checkpoint)

/** How much there is, as the writes counted it. */
export const readCounts = (set: RedisSet): Effect.Effect<Counts, ReadModelsUnavailable> =>
  onAll(set, "counts", () => ["dardaCounts"]).pipe(
    Effect.map((replies) => {
      const counts = { conversations: 0, members: 0, messages: 0, reactions: 0 }
      for (const reply of replies as ReadonlyArray<ReadonlyArray<string | null>>) {
        counts.conversations += Number(reply[0])
        counts.members += Number(reply[1])
        counts.messages += Number(reply[2])
        counts.reactions += Number(reply[3])
      }
      return counts
    })
  )

/** Runs a script on the pointer of every partition, in one round trip. */
export const onAll = (
  set: RedisSet,
  operation: string,
  script: (partition: number) => readonly [name: string, ...args: ReadonlyArray<string | number>]
): Effect.Effect<ReadonlyArray<unknown>, ReadModelsUnavailable> =>
  set.redis
    .run(operation, (client) =>
      pipelined(
        client,
        Array.from({ length: set.partitions }, (_, partition): RedisCommand => {
          const [name, ...args] = script(partition)
          return [name, 1, pointerKey(set, partition), args]
        })
      )
    )
    .pipe(Effect.mapError(redisAway))

/**
 * A set beside the live one, of a generation of its own. One in all processes: the lease is waited for. `over` is called when there is something to take away.
 */
export const makeShadow = (
  live: RedisSet,
  progress: Pick<RedisProgress, "found" | "told">,
  over: () => void
): Effect.Effect<Shadow, ReadModelsUnavailable, Scope.Scope> => {
  const { partitions, redis, scope } = live
  const here = Semaphore.makeUnsafe(1)
  const set: RedisSet = { ...live, which: "shadow" }

  const prolong = (operation: string, keys: ReadonlyArray<string>, token: string) =>
    redis
      .run(operation, (client) =>
        pipelined(
          client,
          keys.map((key) => ["dardaProlong", 1, key, token, LEASE_MS] as const)
        )
      )
      .pipe(Effect.ignore, Effect.delay(PROLONG_MS), Effect.forever, Effect.forkScoped)
  const letGo = (operation: string, keys: ReadonlyArray<string>, token: string) =>
    redis
      .run(operation, (client) =>
        pipelined(
          client,
          keys.map((key) => ["dardaLetGo", 1, key, token] as const)
        )
      )
      .pipe(Effect.ignore)

  /** The lease of the one who may build. */
  const lease = Effect.gen(function* () {
    yield* Effect.acquireRelease(here.take(1), () => here.release(1))
    const token = randomUUID()
    const key = rebuildKey(scope)
    const take = redis
      .run("shadow", (client) => client.set(key, token, "PX", LEASE_MS, "NX"))
      .pipe(Effect.mapError(redisAway))
    yield* Effect.addFinalizer(() => letGo("shadow", [key], token))
    while ((yield* take) === null) yield* Effect.sleep(PAUSE_MS)
    yield* prolong("shadow", [key], token)
  })

  /** Taken from whoever has it: that is a builder without the lease, who can replace nothing any more. */
  const hold = Effect.gen(function* () {
    const token = randomUUID()
    const keys = Array.from({ length: partitions }, (_, partition) => `${partitionPrefix(scope, partition)}hold`)
    yield* Effect.addFinalizer(() => letGo("replace", keys, token))
    yield* prolong("replace", keys, token)
    const texts = (yield* onAll(live, "replace", () => ["dardaHold", token, LEASE_MS])) as ReadonlyArray<string>
    return { token, pointers: texts.map(pointerOf) }
  })

  return Effect.gen(function* () {
    yield* lease
    const generation = newGeneration()
    yield* Effect.addFinalizer(() =>
      onAll(set, "shadow", () => ["dardaGiveUp", generation]).pipe(Effect.ignore, Effect.andThen(Effect.sync(over)))
    )
    yield* onAll(set, "shadow", () => ["dardaBegin", generation])
    const apply = makeApplier(set, {
      generation: () => generation,
      only: generation,
      told: () => [],
      found: () => {}
    })
    const checkpoints = Effect.map(readPointers(set), checkpointsOf)
    const replaceLive = Effect.fnUntraced(function* <E>(last: (live: Vector) => Effect.Effect<void, E>) {
      const told = progress.told()
      const { pointers, token } = yield* hold
      yield* last(checkpointsOf(pointers))
      const before = yield* readCounts(live)
      const after = yield* readCounts(set)
      const rebuilt = yield* readPointers(set)
      const outcomes = (yield* onAll(live, "replace", (partition) => [
        "dardaFlip",
        token,
        pointers[partition]!.text,
        rebuilt[partition]!.text
      ])) as ReadonlyArray<string>
      for (const [partition, outcome] of outcomes.entries()) {
        if (outcome === "ok") progress.found(partition, rebuilt[partition]!, told)
      }
      const failed = outcomes.find((outcome) => outcome !== "ok")
      if (failed !== undefined) {
        return yield* unavailable("replace", `${failed}; what was not replaced goes on as it is`)
      }
      return { before, after }
    }, Effect.scoped)
    return {
      checkpoints,
      apply: (runs) => Effect.andThen(Effect.mapError(apply(runs), logAway), checkpoints),
      counts: readCounts(set),
      snapshot: openSnapshot(set),
      replaceLive
    } satisfies Shadow
  })
}
