import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import type { StoredEvent } from "../../src/domain/events.ts"
import { EventBus, type Published } from "../../src/write-side/EventBus.ts"
import { layerRabbit } from "../../src/write-side/EventBusRabbit.ts"
import { encodeEvent } from "../../src/write-side/EventLogRecords.ts"
import { listLetters, retryLetters } from "../../src/write-side/DeadLettersRabbit.ts"
import { engines } from "../support/engines.ts"
import { historyOf } from "../support/histories.ts"
import { freshScope, onChannel, rabbitAddress, until } from "../support/rabbit.ts"

const PARTITIONS = 2

const { logs } = historyOf(31, 400, { partitions: PARTITIONS })

/** One log's queues, and a way to join them. */
const opened = Effect.gen(function* () {
  const { amqpUrl } = engines()
  const scope = yield* freshScope(amqpUrl, PARTITIONS)
  const address = rabbitAddress(amqpUrl)
  const join = Effect.map(
    Layer.build(Layer.fresh(layerRabbit({ address, scope, partitions: PARTITIONS }))),
    (context) => Context.get(context, EventBus)
  )
  return { amqpUrl, address, scope, join }
})

/** Takes for as long as the scope lives. */
const taking = Effect.fnUntraced(function* (bus: EventBus["Service"]) {
  const taken: Array<Published> = []
  yield* bus.take(64).pipe(
    Effect.map((batches) => taken.push(...batches)),
    Effect.forever,
    Effect.forkScoped
  )
  const positions = (partition: number) =>
    taken.flatMap((batch) => (batch.partition === partition ? batch.events.map(({ position }) => position) : []))
  return { taken, positions }
})

/** An event at this position, with a body of so many characters. */
const eventAt = (position: number, chars: number): StoredEvent => ({
  ...logs[0]!.find(({ type }) => type === "message")!,
  type: "message",
  position,
  data: { kind: "text", body: "x".repeat(chars) }
})

describe("EventBus on RabbitMQ", () => {
  it.live("makes its queue again when it was deleted, and goes on", () =>
    Effect.gen(function* () {
      const { amqpUrl, join, scope } = yield* opened
      const publisher = yield* join
      const reader = yield* taking(yield* join)
      const half = logs.map((events) => Math.floor(events.length / 2))
      const publish = (from: ReadonlyArray<number>, to: ReadonlyArray<number>) =>
        Effect.forEach(logs, (events, partition) =>
          publisher
            .publish({ partition, events: events.slice(from[partition], to[partition]) })
            // As the relay does.
            .pipe(Effect.retry({ times: 20 }))
        )
      yield* publish([0, 0], half)
      yield* until("the first half comes", () => reader.taken.length === PARTITIONS)
      yield* onChannel(amqpUrl, (channel) => channel.deleteQueue(`darda.${scope}.events`))
      yield* publish(
        half,
        logs.map(({ length }) => length)
      )
      const all = logs.map((events) => events.map(({ position }) => position))
      yield* until("the rest comes", () => all.every((events, p) => reader.positions(p).at(-1) === events.at(-1)))
      for (const [partition, events] of all.entries())
        assert.deepStrictEqual([...new Set(reader.positions(partition))], events)
    })
  )

  it.live("gives everything to one reader, and to the other when that leaves", () =>
    Effect.gen(function* () {
      const { join } = yield* opened
      const publisher = yield* join
      const publish = (events: ReadonlyArray<StoredEvent>) =>
        Effect.forEach(events, (event) => publisher.publish({ partition: event.partition, events: [event] }))
      const leaving = yield* Scope.make()
      const [one, two] = [
        yield* Effect.flatMap(join, taking).pipe(Scope.provide(leaving)),
        yield* Effect.flatMap(join, taking)
      ]
      const events = logs.flat()
      yield* publish(events)
      const total = () => one.taken.length + two.taken.length
      yield* until("all come", () => total() >= events.length)
      const [reader, ...more] = [one, two].filter(({ taken }) => taken.length > 0)
      assert.deepStrictEqual(more, [])
      for (const [partition, expected] of logs.entries()) {
        assert.deepStrictEqual(
          reader!.positions(partition),
          expected.map(({ position }) => position)
        )
      }
      yield* Scope.close(leaving, Exit.void)
      const before = two.taken.length
      yield* publish(events)
      yield* until("the other takes all", () => two.taken.length >= before + events.length)
    })
  )

  it.live("drops the oldest when nobody takes, and never keeps the publisher waiting", () =>
    Effect.gen(function* () {
      const { join } = yield* opened
      const publisher = yield* join
      const positions = Array.from({ length: 1_200 }, (_, i) => i + 1)
      yield* Effect.forEach(
        positions,
        (position) => publisher.publish({ partition: 0, events: [eventAt(position, 1)] }),
        { discard: true }
      )
      const reader = yield* taking(yield* join)
      yield* until("the newest comes", () => reader.positions(0).includes(1_200))
      const came = reader.positions(0)
      assert.isAtMost(came.length, 1_100)
      assert.deepStrictEqual(came, positions.slice(-came.length))
    })
  )

  it.live("makes one message of what is published in one step, whatever partitions it is of", () =>
    Effect.gen(function* () {
      const { amqpUrl, join, scope } = yield* opened
      const publisher = yield* join
      yield* Effect.forEach(logs, (events, partition) => publisher.publish({ partition, events: events.slice(0, 3) }), {
        concurrency: "unbounded",
        discard: true
      })
      const { messageCount } = yield* onChannel(amqpUrl, (channel) => channel.checkQueue(`darda.${scope}.events`))
      assert.strictEqual(messageCount, 1)
      const reader = yield* taking(yield* join)
      yield* until("all come", () => reader.taken.length === logs.length)
      for (const [partition, events] of logs.entries())
        assert.deepStrictEqual(
          reader.positions(partition),
          events.slice(0, 3).map(({ position }) => position)
        )
    })
  )

  it.live("cuts large runs into messages of a bounded size, in order", () =>
    Effect.gen(function* () {
      const { join } = yield* opened
      const publisher = yield* join
      const reader = yield* taking(yield* join)
      const events = Array.from({ length: 40 }, (_, i) => eventAt(i + 1, 50_000))
      yield* publisher.publish({ partition: 0, events: [...events, eventAt(41, 600_000)] })
      yield* until("all come", () => reader.positions(0).length >= 41)
      assert.deepStrictEqual(
        reader.positions(0),
        Array.from({ length: 41 }, (_, i) => i + 1)
      )
      for (const { events } of reader.taken)
        assert.isTrue(events.length === 1 || JSON.stringify(events).length < 300_000)
    })
  )

  it.live("puts aside what it cannot read, and gives the rest", () =>
    Effect.gen(function* () {
      const { address, amqpUrl, join, scope } = yield* opened
      const publisher = yield* join
      const reader = yield* taking(yield* join)
      yield* publisher.publish({ partition: 0, events: [eventAt(1, 1)] })
      const event = eventAt(2, 1)
      const record = JSON.parse(encodeEvent(event)) as ReadonlyArray<unknown>
      const rubbish = [
        "{",
        "[]",
        "null",
        JSON.stringify({ v: 3, runs: [{ partition: 0, events: [[2, record]] }] }),
        JSON.stringify({ v: 2, runs: [] }),
        JSON.stringify({ v: 2, runs: [null] }),
        JSON.stringify({ v: 2, runs: [{ partition: 0, events: [] }] }),
        ...[null, event, [2], [2, []], ["2", record], [2, [99, ...record.slice(1)]]].map((wrong) =>
          JSON.stringify({ v: 2, runs: [{ partition: 0, events: [wrong] }] })
        ),
        JSON.stringify({ v: 2, runs: [{ partition: 99, events: [[2, record]] }] })
      ]
      yield* onChannel(amqpUrl, async (channel) => {
        for (const message of rubbish) channel.sendToQueue(`darda.${scope}.events`, Buffer.from(message))
      })
      yield* publisher.publish({ partition: 0, events: [event] })
      yield* until("the rest comes", () => reader.positions(0).length === 2)
      const { letters } = yield* listLetters({ address, scope }).pipe(
        Effect.filterOrFail(({ letters }) => letters.length === rubbish.length),
        Effect.eventually,
        Effect.timeout("10 seconds")
      )
      for (const { queue } of letters) assert.strictEqual(queue, `darda.${scope}.events`)
      const { done } = yield* retryLetters({ address, scope }, "all")
      assert.lengthOf(done, rubbish.length)
    })
  )
})
