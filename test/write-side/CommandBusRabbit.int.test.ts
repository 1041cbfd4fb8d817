import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { BATCH_COMMANDS, BUFFER_COMMANDS } from "../../src/write-side/CommandPublisher.ts"
import { type PrivateRabbit, privateRabbit } from "../support/privateEngines.ts"
import { following, freshScope, joinCommandBus, offering, onChannel, until } from "../support/rabbit.ts"

const PARTITIONS = 4

let rabbit: PrivateRabbit
beforeAll(async () => void (rabbit = await privateRabbit()), 120_000)
afterAll(() => rabbit.dispose())

const ctl = (...args: ReadonlyArray<string>) => Effect.promise(() => rabbit.ctl(...args))
const PARTITION_LIST = Array.from({ length: PARTITIONS }, (_, partition) => partition)
const queueOf = (scope: string, partition: number): string => `darda.${scope}.commands.${partition}`

const deleteQueues = (scope: string) =>
  onChannel(rabbit.url, async (channel) => {
    for (const partition of PARTITION_LIST) await channel.deleteQueue(queueOf(scope, partition))
  })

/** An edge that goes on offering, and a committer that takes. */
const underLoad = Effect.gen(function* () {
  const scope = yield* freshScope(rabbit.url, PARTITIONS)
  const join = (edge: string) => joinCommandBus(rabbit.url, scope, PARTITIONS, edge)
  const edge = yield* join("e1")
  const load = offering(edge, PARTITIONS)
  const { stop } = yield* load.start
  const consumer = yield* (yield* join("committer")).consumer
  const committer = yield* following(consumer, PARTITIONS)
  yield* until("commands flow", () => committer.total() > 100)
  const settle = Effect.gen(function* () {
    const before = committer.total()
    yield* until("commands flow again", () => committer.total() > before + 100)
    yield* stop
    yield* committer.hasAll(load.taken)
  })
  return { scope, join, load, stop, committer, settle }
})

describe("CommandBus on RabbitMQ", () => {
  it.live("loses nothing and keeps the order when the broker stops and starts, and when it is killed", () =>
    Effect.gen(function* () {
      const { committer, settle } = yield* underLoad
      yield* ctl("stop_app")
      yield* ctl("start_app")
      const before = committer.total()
      yield* until("commands flow again", () => committer.total() > before + 100)
      // Not earlier: a broker that is killed right after it made a queue may never find the queue's leader again.
      yield* Effect.promise(() => rabbit.restart())
      yield* settle
    })
  )

  it.live("loses nothing when all connections are closed again and again, also those that are being made", () =>
    Effect.gen(function* () {
      const { join, settle } = yield* underLoad
      // Comes and goes, so that there is always somebody in the middle of setting up.
      yield* Effect.scoped(Effect.andThen(join("guest"), Effect.sleep("10 millis"))).pipe(
        Effect.forever,
        Effect.forkScoped
      )
      for (let i = 0; i < 3; i++) yield* ctl("close_all_connections", "a test")
      yield* settle
    })
  )

  it.live("answers busy while the broker takes nothing, and what it took comes when it does again", () =>
    Effect.gen(function* () {
      const { committer, load, stop } = yield* underLoad
      yield* Effect.addFinalizer(() => ctl("set_vm_memory_high_watermark", "0.4"))
      yield* ctl("set_vm_memory_high_watermark", "0")
      yield* stop
      let taken = 0
      for (let refused = 0; refused < 500;) {
        if (load.offer()) taken++
        else refused++
        if (refused % 10 === 0) yield* Effect.yieldNow
      }
      // What waits and what is on its way; more would be taken if anything went on being written.
      assert.isAtMost(taken, PARTITIONS * (BUFFER_COMMANDS + BATCH_COMMANDS))
      assert.isBelow(committer.total(), load.total())
      yield* ctl("set_vm_memory_high_watermark", "0.4")
      yield* committer.hasAll(load.taken)
      assert.isTrue(load.offer())
      yield* committer.hasAll(load.taken)
    })
  )

  it.live("makes queues that were deleted, and goes on", () =>
    Effect.gen(function* () {
      const { committer, load, scope, stop } = yield* underLoad
      yield* stop
      yield* committer.hasAll(load.taken)
      yield* deleteQueues(scope)
      for (let i = 0; i < 100; i++) assert.isTrue(load.offer())
      yield* committer.hasAll(load.taken)
    })
  )

  it.live("makes queues that were deleted while nobody consumed", () =>
    Effect.gen(function* () {
      const scope = yield* freshScope(rabbit.url, PARTITIONS)
      const edge = yield* joinCommandBus(rabbit.url, scope, PARTITIONS, "e1")
      const load = offering(edge, PARTITIONS)
      let sent = 0
      yield* edge.onSent(({ commands }) => void (sent += commands.length))
      for (let i = 0; i < 100; i++) load.offer()
      yield* until("they are confirmed", () => sent === 100)
      yield* deleteQueues(scope)
      for (let i = 0; i < 100; i++) load.offer()
      yield* until("more are confirmed", () => sent === 200)
      const waiting = yield* onChannel(rabbit.url, async (channel) => {
        const queues = PARTITION_LIST.map((partition) => channel.checkQueue(queueOf(scope, partition)))
        return (await Promise.all(queues)).map(({ messageCount }) => messageCount)
      })
      for (const count of waiting) assert.isAtLeast(count, 1)
    })
  )

  it.live("is given again what it did not ack in time, on a channel that the server closed", () =>
    Effect.gen(function* () {
      yield* ctl("eval", "application:set_env(rabbit, channel_tick_interval, 200).")
      yield* ctl("eval", "application:set_env(rabbit, consumer_timeout, 500).")
      yield* Effect.addFinalizer(() => ctl("eval", "application:set_env(rabbit, consumer_timeout, 1800000)."))
      const scope = yield* freshScope(rabbit.url, PARTITIONS)
      const bus = yield* joinCommandBus(rabbit.url, scope, PARTITIONS, "e1")
      const consumer = yield* bus.consumer
      const load = offering(bus, PARTITIONS)
      load.offer()
      const [late] = yield* consumer.take(500)
      const [again] = yield* consumer.take(500)
      assert.deepStrictEqual(again!.batch, late!.batch)
      // Of the former channel, and of no effect on the one of now.
      late!.ack()
      yield* consumer.restart(again!.batch.partition)
      const committer = yield* following(consumer, PARTITIONS)
      yield* committer.hasAll(load.taken)
      assert.strictEqual(committer.repeats(), 0)
    })
  )

  it.live("goes on with the others when one queue does not answer", () =>
    Effect.gen(function* () {
      const { committer, scope, settle } = yield* underLoad
      const server = `{'%2F_${queueOf(scope, 0)}', node()}`
      yield* ctl("eval", `ra:stop_server(quorum_queues, ${server}).`)
      yield* Effect.addFinalizer(() => ctl("eval", `ra:restart_server(quorum_queues, ${server}).`))
      const before = committer.came.map((cids) => cids.length)
      yield* until("the others flow", () =>
        committer.came.every((cids, p) => p === 0 || cids.length > before[p]! + 100)
      )
      yield* ctl("eval", `ra:restart_server(quorum_queues, ${server}).`)
      yield* settle
    })
  )

  it.live("finds a broker that is stopped, and everything comes when it goes on", () =>
    Effect.gen(function* () {
      const { load, settle } = yield* underLoad
      yield* Effect.acquireRelease(Effect.sync(rabbit.stop), () => Effect.sync(rabbit.cont))
      yield* until("buffers fill", () => !load.offer(), 30)
      rabbit.cont()
      yield* settle
    })
  )
})
