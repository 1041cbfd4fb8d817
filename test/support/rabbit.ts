/** What tests of the adapters of RabbitMQ share. */
import { connect } from "amqplib"
import { Effect, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"

export const rabbitAddress = (url: string): EngineAddress => ({ url: Redacted.make(url), tls: { verify: true } })

/** A scope that nobody else has; its queues are deleted when the test's scope closes. */
export const freshScope = (url: string, partitions: number) =>
  Effect.acquireRelease(
    Effect.sync(() => randomBytes(4).toString("hex")),
    (scope) =>
      Effect.promise(async () => {
        const model = await connect(url)
        const channel = await model.createChannel()
        for (let partition = 0; partition < partitions; partition++) {
          await channel.deleteQueue(`darda.${scope}.commands.${partition}`)
          await channel.deleteQueue(`darda.${scope}.events.${partition}`)
        }
        await channel.deleteQueue(`darda.${scope}.dead-letters`)
        await model.close()
      })
  )
