import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import type { Command } from "../../src/domain/commands.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { CommandBus, CommandConsumer, Delivery } from "../../src/write-side/CommandBus.ts"

/** Partitions of the buses that are opened for this contract. */
export const PARTITIONS = 4

/** Commands that may wait in one partition's buffer at an edge, as the docs promise. */
const BUFFER_COMMANDS = 5_000

const conversations = Array.from({ length: 12 }, (_, i) => dmConversation("ann", `friend${i}`))

const commandOf = (n: number, conv = conversations[n % conversations.length]!): Command => ({
  conv,
  by: "ann",
  cid: `c${n}`,
  intent: { type: "send", kind: "text", body: `${n}` },
  origin: { node: "node", session: "session" }
})

const commands = (from: number, to: number): ReadonlyArray<Command> =>
  Array.from({ length: to - from }, (_, i) => commandOf(from + i))

const cidsOf = (deliveries: ReadonlyArray<Delivery>): ReadonlyArray<string> =>
  deliveries.flatMap(({ batch }) => batch.commands.map(({ cid }) => cid))

const offerAll = (bus: CommandBus["Service"], all: ReadonlyArray<Command>): void => {
  for (const command of all) assert.isTrue(bus.offer(command))
}

/** Takes until this many commands have come for the first time. A bus may repeat; what it may not do is leave a counter out. */
const receive = Effect.fnUntraced(function* (
  consumer: CommandConsumer,
  count: number,
  act: (delivery: Delivery) => void = () => {}
) {
  const counters = new Map<string, number>()
  const received: Array<Delivery> = []
  let commandsReceived = 0
  while (commandsReceived < count) {
    for (const delivery of yield* consumer.take(50)) {
      const { commands, counter, edge, partition } = delivery.batch
      act(delivery)
      const from = `${edge} ${partition}`
      const last = counters.get(from)
      if (last !== undefined && counter <= last) continue
      if (last !== undefined) assert.strictEqual(counter, last + 1, `a jump in what came from ${from}`)
      counters.set(from, counter)
      received.push(delivery)
      commandsReceived += commands.length
    }
  }
  return received
})

/**
 * What an adapter of `CommandBus` must do. `open`: an empty broker of {@link PARTITIONS} partitions, as a function that gives the bus of a process
 * with this boot id.
 */
export const commandBusContract = (
  name: string,
  open: Effect.Effect<(edge: string) => Effect.Effect<CommandBus["Service"], never, Scope.Scope>, never, Scope.Scope>
): void => {
  describe(`CommandBus: ${name}`, () => {
    it.live("brings what edges were offered, in the order of each edge and partition, by counters from 1", () =>
      Effect.gen(function* () {
        const join = yield* open
        const offered = commands(0, 900)
        const edges = ["e1", "e2"]
        for (const edge of edges) offerAll(yield* join(edge), offered)
        const consumer = yield* (yield* join("committer")).consumer
        const received = yield* receive(consumer, 2 * offered.length, ({ ack }) => ack())
        for (const edge of edges) {
          for (let partition = 0; partition < PARTITIONS; partition++) {
            const mine = received.filter(({ batch }) => batch.edge === edge && batch.partition === partition)
            assert.deepStrictEqual(
              mine.map(({ batch }) => batch.counter),
              mine.map((_, i) => i + 1)
            )
            assert.deepStrictEqual<unknown>(
              mine.flatMap(({ batch }) => batch.commands),
              offered.filter(({ conv }) => partitionOf(conv, PARTITIONS) === partition)
            )
          }
        }
      })
    )

    it.live("gives no more commands at once than were asked for, but a larger batch whole", () =>
      Effect.gen(function* () {
        const bus = yield* (yield* open)("e1")
        offerAll(bus, commands(0, 600))
        const consumer = yield* bus.consumer
        let taken = 0
        while (taken < 600) {
          const deliveries = yield* consumer.take(10)
          const sizes = deliveries.map(({ batch }) => batch.commands.length)
          const total = sizes.reduce((sum, size) => sum + size, 0)
          assert.isTrue(total <= 10 || sizes.length === 1, `${sizes.join(" + ")} commands at once`)
          for (const size of sizes) assert.isAtMost(size, 500)
          for (const { ack } of deliveries) ack()
          taken += total
        }
      })
    )

    it.live("waits for the first command, and one who gave up waiting takes nothing along", () =>
      Effect.gen(function* () {
        const bus = yield* (yield* open)("e1")
        const consumer = yield* bus.consumer
        const given = yield* Effect.forkChild(consumer.take(5), { startImmediately: true })
        assert.isUndefined(given.pollUnsafe())
        yield* Fiber.interrupt(given)
        const waiting = yield* Effect.forkChild(consumer.take(5), { startImmediately: true })
        offerAll(bus, [commandOf(1)])
        assert.deepStrictEqual(cidsOf(yield* Fiber.join(waiting)), ["c1"])
      })
    )

    it.live("gives a restarted partition's unacked deliveries again, in order and before newer ones", () =>
      Effect.gen(function* () {
        const bus = yield* (yield* open)("e1")
        const consumer = yield* bus.consumer
        const conv = conversations[0]!
        const partition = partitionOf(conv, PARTITIONS)
        // One at a time, so that each is a batch.
        const deliveries: Array<Delivery> = []
        for (let n = 0; n < 4; n++) {
          offerAll(bus, [commandOf(n, conv)])
          deliveries.push(...(yield* consumer.take(1)))
        }
        deliveries[0]!.ack()
        deliveries[0]!.ack()
        yield* consumer.restart(partition)
        // Two are taken and two wait when it is restarted once more.
        const some: Array<Delivery> = []
        while (some.length < 2) some.push(...(yield* consumer.take(1)))
        assert.deepStrictEqual(cidsOf(some), ["c1", "c2"])
        yield* consumer.restart(partition)
        offerAll(bus, [commandOf(4, conv)])
        const again: Array<Delivery> = []
        while (again.length < 4) again.push(...(yield* consumer.take(10)))
        assert.deepStrictEqual(cidsOf(again), ["c1", "c2", "c3", "c4"])
        assert.deepStrictEqual(
          again.map(({ batch }) => batch.counter),
          [2, 3, 4, 5]
        )
      })
    )

    it.live("gives the next consumer what the last one did not ack, and nothing else", () =>
      Effect.gen(function* () {
        const join = yield* open
        const bus = yield* join("e1")
        const scope = yield* Scope.make()
        const first = yield* Scope.provide((yield* join("first")).consumer, scope)
        const conv = conversations[1]!
        const deliveries: Array<Delivery> = []
        for (let n = 0; n < 3; n++) {
          offerAll(bus, [commandOf(n, conv)])
          deliveries.push(...(yield* first.take(1)))
        }
        deliveries[0]!.ack()
        yield* Scope.close(scope, Exit.void)
        // Too late: it is no longer this consumer's.
        deliveries[1]!.ack()
        const second = yield* (yield* join("second")).consumer
        assert.deepStrictEqual(cidsOf(yield* receive(second, 2, ({ ack }) => ack())), ["c1", "c2"])
        offerAll(bus, [commandOf(3, conv)])
        assert.deepStrictEqual(cidsOf(yield* second.take(10)), ["c3"])
      })
    )

    it.live("refuses when a partition's buffer is full, and what it refused never comes", () =>
      Effect.gen(function* () {
        const bus = yield* (yield* open)("e1")
        const conv = conversations[2]!
        const taken: Array<string> = []
        let refused = 0
        for (let n = 0; refused < 3; n++) {
          assert.isAtMost(n, BUFFER_COMMANDS + 3)
          if (bus.offer(commandOf(n, conv))) taken.push(`c${n}`)
          else refused++
        }
        assert.lengthOf(taken, BUFFER_COMMANDS)
        const other = conversations.find((one) => partitionOf(one, PARTITIONS) !== partitionOf(conv, PARTITIONS))!
        assert.isTrue(bus.offer(commandOf(BUFFER_COMMANDS + 10, other)))
        const consumer = yield* bus.consumer
        const received = yield* receive(consumer, BUFFER_COMMANDS + 1, ({ ack }) => ack())
        assert.deepStrictEqual(
          cidsOf(received.filter(({ batch }) => batch.partition === partitionOf(conv, PARTITIONS))),
          taken
        )
        assert.isTrue(bus.offer(commandOf(BUFFER_COMMANDS + 11, conv)))
        assert.deepStrictEqual(cidsOf(yield* consumer.take(10)), [`c${BUFFER_COMMANDS + 11}`])
      })
    )
  })
}
