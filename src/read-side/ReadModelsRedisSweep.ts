import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { pipelined, type RedisUnavailable } from "../platform/RedisConnection.ts"
import { pointerKey, type RedisSet } from "./ReadModelsRedisApply.ts"
import { partitionPrefix, pointerOf } from "./ReadModelsRedisRows.ts"

/** How often is looked for what others left. */
const EVERY_MS = 60_000
/** Conversations that go in one step, and the rest for everybody else after it. */
const STEP = 50
const PAUSE_MS = 2

/** The key of the lease of whoever builds a set beside the live one. */
export const rebuildKey = (scope: string): string => `${partitionPrefix(scope, 0)}rebuild`

/**
 * Takes away, in small steps, generations that are in use no more: those that were replaced or reset, and those of a rebuild that died. Several processes may do it at
 * once. Answers how to have it done now.
 */
export const makeSweep = Effect.fnUntraced(function* (
  live: RedisSet
): Effect.fn.Return<() => void, never, Scope.Scope> {
  const { partitions, redis, scope } = live
  const shadow: RedisSet = { ...live, which: "shadow" }
  const all = Array.from({ length: partitions }, (_, partition) => partition)

  const deadShadows = Effect.gen(function* () {
    const found = yield* redis.run("sweep", (client) =>
      pipelined(
        client,
        all.map((partition) => ["get", pointerKey(shadow, partition)] as const)
      )
    )
    // Asked second: a rebuild that begins after the first question has another generation.
    const lease = yield* redis.run("sweep", (client) => client.get(rebuildKey(scope)))
    if (lease !== null) return
    const dead = found.flatMap((text, partition) =>
      text === null
        ? []
        : [["dardaGiveUp", 1, pointerKey(shadow, partition), pointerOf(text as string).generation] as const]
    )
    if (dead.length > 0) yield* redis.run("sweep", (client) => pipelined(client, dead))
  })
  const purge: (partition: number, generation: string) => Effect.Effect<void, RedisUnavailable> = Effect.fnUntraced(
    function* (partition, generation) {
      for (;;) {
        const [more] = yield* redis.run("sweep", (client) =>
          pipelined(client, [["dardaPurge", 1, pointerKey(live, partition), generation, STEP]])
        )
        if (more !== 1) return
        yield* Effect.sleep(PAUSE_MS)
      }
    }
  )
  const sweep = Effect.gen(function* () {
    yield* deadShadows
    const orphans = (yield* redis.run("sweep", (client) =>
      pipelined(
        client,
        all.map((partition) => ["dardaOrphans", 1, pointerKey(live, partition)] as const)
      )
    )) as ReadonlyArray<ReadonlyArray<string>>
    for (const [partition, generations] of orphans.entries()) {
      for (const generation of generations) yield* purge(partition, generation)
    }
  })

  let wanted = Deferred.makeUnsafe<void>()
  yield* Effect.suspend(() => {
    wanted = Deferred.makeUnsafe()
    return Effect.ignore(sweep)
  }).pipe(
    Effect.andThen(Effect.suspend(() => Effect.timeoutOption(Deferred.await(wanted), EVERY_MS))),
    Effect.forever,
    Effect.forkScoped
  )
  return () => void Deferred.doneUnsafe(wanted, Effect.void)
})
