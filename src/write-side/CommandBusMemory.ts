import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CommandBus, type CommandBatch, type CommandConsumer, type Delivery } from "./CommandBus.ts"
import { makeCommandPublisher } from "./CommandPublisher.ts"

/** Commands that wait in one partition's queue before `publish` waits too, and with it the edge's buffer fills. */
const QUEUE_COMMANDS = 2_000

interface PartitionQueue {
  ready: Array<CommandBatch>
  commands: number
  unacked: Array<CommandBatch>
}

/** A broker in memory. It outlives the processes that use it, so that a simulation can crash and restart them. */
export interface MemoryBroker {
  readonly partitions: number
  /** Answers when the batch is in its queue: the confirm. Waits while the queue is full. */
  readonly publish: (batch: CommandBatch) => Effect.Effect<void>
  /** Joins the consumers. The one that joined first is active; the others wait for it to leave. */
  readonly consumer: Effect.Effect<CommandConsumer, never, Scope.Scope>
  /** Cancels the active consumer as a broker does that lost sight of it: the next one is given what it had not acked. */
  readonly cancelActive: () => void
  /** Takes the active consumer's channel from it: the next one is given what it had not acked, and it stands last in the line. */
  readonly passOn: () => void
}

/** An empty broker. */
export const makeMemoryBroker = (partitions: number): MemoryBroker => {
  const queues = Array.from({ length: partitions }, (): PartitionQueue => ({ ready: [], commands: 0, unacked: [] }))
  const consumers: Array<{ readonly wake: Latch.Latch }> = []
  const room = Latch.makeUnsafe(true)
  let start = 0

  const giveBack = (queue: PartitionQueue): void => {
    if (queue.unacked.length === 0) return
    queue.ready = [...queue.unacked, ...queue.ready]
    for (const batch of queue.unacked) queue.commands += batch.commands.length
    queue.unacked = []
  }
  const leave = (me: { readonly wake: Latch.Latch }): void => {
    const index = consumers.indexOf(me)
    if (index < 0) return
    consumers.splice(index, 1)
    if (index !== 0) return
    for (const queue of queues) giveBack(queue)
    consumers[0]?.wake.openUnsafe()
  }
  const collect = (me: { readonly wake: Latch.Latch }, maxCommands: number): ReadonlyArray<Delivery> => {
    if (consumers[0] !== me) return []
    const taken: Array<Delivery> = []
    let commands = 0
    // Starts at another partition every time, so that a busy one cannot starve those after it.
    start = (start + 1) % partitions
    for (let i = 0; i < partitions; i++) {
      const queue = queues[(start + i) % partitions]!
      let count = 0
      while (count < queue.ready.length) {
        const batch = queue.ready[count]!
        if (taken.length > 0 && commands + batch.commands.length > maxCommands) break
        count++
        commands += batch.commands.length
        queue.commands -= batch.commands.length
        queue.unacked.push(batch)
        taken.push({
          batch,
          ack: () => {
            const at = consumers[0] === me ? queue.unacked.indexOf(batch) : -1
            if (at >= 0) queue.unacked.splice(at, 1)
          }
        })
      }
      if (count > 0) queue.ready = queue.ready.slice(count)
    }
    if (taken.length > 0) room.openUnsafe()
    return taken
  }

  return {
    partitions,
    publish: Effect.fnUntraced(function* (batch) {
      const queue = queues[batch.partition]!
      while (queue.commands > 0 && queue.commands + batch.commands.length > QUEUE_COMMANDS) {
        room.closeUnsafe()
        yield* room.await
      }
      queue.ready.push(batch)
      queue.commands += batch.commands.length
      consumers[0]?.wake.openUnsafe()
    }),
    consumer: Effect.acquireRelease(
      Effect.sync(() => {
        const me = { wake: Latch.makeUnsafe(false) }
        consumers.push(me)
        return me
      }),
      (me) => Effect.sync(() => leave(me))
    ).pipe(
      Effect.map((me): CommandConsumer => ({
        take: Effect.fnUntraced(function* (maxCommands) {
          while (true) {
            me.wake.closeUnsafe()
            const taken = collect(me, maxCommands)
            if (taken.length > 0) return taken
            yield* me.wake.await
          }
        }),
        restart: (partition) =>
          Effect.sync(() => {
            if (consumers[0] !== me) return
            giveBack(queues[partition]!)
            me.wake.openUnsafe()
          })
      }))
    ),
    cancelActive: () => {
      const active = consumers[0]
      if (active !== undefined) leave(active)
    },
    passOn: () => {
      const active = consumers[0]
      if (active === undefined) return
      leave(active)
      consumers.push(active)
      consumers[0]!.wake.openUnsafe()
    }
  }
}

/** One process's command bus on a broker in memory. `edge` is its boot id, new at every start. */
export const layerMemory = (broker: MemoryBroker, edge: string): Layer.Layer<CommandBus> =>
  Layer.effect(
    CommandBus,
    Effect.gen(function* () {
      const publisher = yield* makeCommandPublisher({ edge, partitions: broker.partitions, publish: broker.publish })
      return CommandBus.of({ ...publisher, consumer: broker.consumer })
    })
  )
