import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { EventBus } from "../../src/write-side/EventBus.ts"
import { layerMemory, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { historyOf } from "../support/histories.ts"
import { eventBusContract } from "./EventBus.contract.ts"

eventBusContract(
  "memory",
  Effect.sync(() => {
    const layer = layerMemory(makeMemoryEventBus())
    return Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, EventBus))
  })
)

describe("EventBus in memory", () => {
  it("drops the oldest batches when it is full, and counts their events", () => {
    const bus = makeMemoryEventBus(10)
    const events = historyOf(22, 200, { partitions: 1 }).logs[0]!
    for (let i = 0; i < 5; i++) bus.publish({ partition: 0, events: events.slice(i * 4, i * 4 + 4) })
    assert.strictEqual(bus.dropped(), 12)
    assert.strictEqual(bus.waiting(), 8)
    assert.deepStrictEqual(
      bus.poll(9).map((batch) => batch.events[0]!.position),
      [13, 17]
    )
    assert.strictEqual(bus.waiting(), 0)
  })

  it("holds one batch that is larger than it may be", () => {
    const bus = makeMemoryEventBus(10)
    const events = historyOf(22, 200, { partitions: 1 }).logs[0]!
    bus.publish({ partition: 0, events: events.slice(0, 20) })
    assert.strictEqual(bus.poll(9)[0]!.events.length, 20)
  })
})
