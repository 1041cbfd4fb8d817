import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import type { EventBus } from "../../src/write-side/EventBus.ts"
import { historyOf } from "../support/histories.ts"

/** What an adapter of `EventBus` must do. `open`: an end of one and the same bus, empty at first. */
export const eventBusContract = (
  name: string,
  open: Effect.Effect<Effect.Effect<EventBus["Service"], never, Scope.Scope>, never, Scope.Scope>
): void => {
  const { logs } = historyOf(21, 300, { partitions: 4 })

  describe(`EventBus: ${name}`, () => {
    it.live("brings every batch, in the order of each partition", () =>
      Effect.gen(function* () {
        const end = yield* open
        const publisher = yield* end
        const taker = yield* end
        const published = logs.flatMap((events, partition) =>
          Array.from({ length: Math.ceil(events.length / 3) }, (_, i) => ({
            partition,
            events: events.slice(i * 3, i * 3 + 3)
          }))
        )
        for (const batch of published) yield* publisher.publish(batch)
        const found = logs.map((): Array<unknown> => [])
        while (found.some((events, partition) => events.length < logs[partition]!.length)) {
          const batches = yield* taker.take(7)
          assert.isAtLeast(batches.length, 1)
          assert.isAtMost(batches.length, 7)
          for (const { events, partition } of batches) found[partition]!.push(...events)
        }
        assert.deepStrictEqual<unknown>(found, logs)
      })
    )

    it.live("waits for the first batch", () =>
      Effect.gen(function* () {
        const end = yield* open
        const bus = yield* end
        const taken = yield* Effect.forkChild(bus.take(5), { startImmediately: true })
        assert.isUndefined(taken.pollUnsafe())
        const batch = { partition: 1, events: logs[1]!.slice(0, 2) }
        yield* bus.publish(batch)
        assert.deepStrictEqual<unknown>(yield* Fiber.join(taken), [batch])
      })
    )

    it.live("one who gave up waiting takes nothing with them", () =>
      Effect.gen(function* () {
        const end = yield* open
        const bus = yield* end
        const given = yield* Effect.forkChild(bus.take(5), { startImmediately: true })
        yield* Fiber.interrupt(given)
        const batch = { partition: 2, events: logs[2]!.slice(0, 2) }
        yield* bus.publish(batch)
        assert.deepStrictEqual<unknown>(yield* bus.take(5), [batch])
      })
    )
  })
}
