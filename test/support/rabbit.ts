/** What tests of the adapters of RabbitMQ share. */
import { assert } from "@effect/vitest"
import { type Channel, connect } from "amqplib"
import { Context, Effect, Fiber, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import type { Command } from "../../src/domain/commands.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"
import { CommandBus, type CommandBatch, type CommandConsumer } from "../../src/write-side/CommandBus.ts"
import { layerRabbit } from "../../src/write-side/CommandBusRabbit.ts"

export const rabbitAddress = (url: string): EngineAddress => ({ url: Redacted.make(url), tls: { verify: true } })

/** Does something on a channel of its own. */
export const onChannel = <A>(url: string, work: (channel: Channel) => Promise<A>): Effect.Effect<A> =>
  Effect.promise(async () => {
    const model = await connect(url)
    try {
      const channel = await model.createChannel()
      const result = await work(channel)
      // What is written on it comes before its end, but not before the connection's.
      await channel.close()
      return result
    } finally {
      await model.close()
    }
  })

/** A scope that nobody else has; its queues are deleted when the test's scope closes. */
export const freshScope = (url: string, partitions: number) =>
  Effect.acquireRelease(
    Effect.sync(() => randomBytes(4).toString("hex")),
    (scope) =>
      onChannel(url, async (channel) => {
        for (let partition = 0; partition < partitions; partition++) {
          await channel.deleteQueue(`darda.${scope}.commands.${partition}`)
        }
        await channel.deleteQueue(`darda.${scope}.events`)
        await channel.deleteQueue(`darda.${scope}.dead-letters`)
      })
  )

/** A process's command bus. */
export const joinCommandBus = (url: string, scope: string, partitions: number, edge: string) =>
  Effect.map(
    Layer.build(Layer.fresh(layerRabbit({ address: rabbitAddress(url), scope, partitions, edge }))),
    (context) => Context.get(context, CommandBus)
  )

const conversations = Array.from({ length: 32 }, (_, i) => dmConversation("ann", `friend${i}`))

export const commandOf = (n: number, body = `${n}`): Command => ({
  conv: conversations[n % conversations.length]!,
  by: "ann",
  cid: `c${n}`,
  intent: { type: "send", kind: "text", body },
  origin: { node: "node", session: "session" }
})

/** Offers commands and remembers those that were taken, by partition: one, or some 1,000 a second until that is stopped. */
export const offering = (bus: CommandBus["Service"], partitions: number) => {
  const taken = Array.from({ length: partitions }, (): Array<string> => [])
  let count = 0
  const offer = (): boolean => {
    const command = commandOf(count++)
    const isTaken = bus.offer(command)
    if (isTaken) taken[partitionOf(command.conv, partitions)]!.push(command.cid)
    return isTaken
  }
  const start = Effect.sync(() => {
    for (let i = 0; i < 10; i++) offer()
  }).pipe(
    Effect.andThen(Effect.sleep("10 millis")),
    Effect.forever,
    Effect.forkScoped,
    Effect.map((fiber) => ({ stop: Fiber.interrupt(fiber) }))
  )
  return { taken, offer, start, total: () => taken.reduce((sum, cids) => sum + cids.length, 0) }
}

/** Takes and acks for as long as the scope lives, and remembers what came for the first time. Fails when a counter is left out. */
export const following = Effect.fnUntraced(function* (consumer: CommandConsumer, partitions: number) {
  const came = Array.from({ length: partitions }, (): Array<string> => [])
  const counters = new Map<string, number>()
  let repeats = 0
  let jump: string | undefined
  const note = ({ commands, counter, edge, partition }: CommandBatch): void => {
    const from = `${edge} ${partition}`
    const last = counters.get(from) ?? (counter === 0 ? -1 : 0)
    if (counter <= last) {
      repeats++
      return
    }
    if (counter !== last + 1) jump ??= `from ${from}: ${counter} after ${last}`
    counters.set(from, counter)
    for (const { cid } of commands) came[partition]!.push(cid)
  }
  yield* consumer.take(500).pipe(
    Effect.map((deliveries) => {
      for (const { ack, batch } of deliveries) {
        note(batch)
        ack()
      }
    }),
    Effect.forever,
    Effect.forkScoped
  )
  const total = (): number => came.reduce((sum, cids) => sum + cids.length, 0)
  return {
    came,
    repeats: () => repeats,
    total,
    /** Waits until all of these have come, each partition's in its order. */
    hasAll: (taken: ReadonlyArray<ReadonlyArray<string>>, seconds = 20) =>
      until(`${taken.flat().length} commands come`, () => total() >= taken.flat().length, seconds).pipe(
        Effect.andThen(
          Effect.sync(() => {
            assert.isUndefined(jump)
            assert.deepStrictEqual<unknown>(came, taken)
          })
        )
      )
  }
})

/** Waits for a fact. */
export const until = (what: string, fact: () => boolean, seconds = 20): Effect.Effect<void> =>
  Effect.suspend(() => (fact() ? Effect.void : Effect.delay(Effect.fail("not yet"), "10 millis"))).pipe(
    Effect.eventually,
    Effect.timeoutOrElse({ duration: seconds * 1000, orElse: () => Effect.die(`not within ${seconds} s: ${what}`) })
  )
