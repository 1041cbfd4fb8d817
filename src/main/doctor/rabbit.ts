/** What the doctor checks of RabbitMQ: that it is new enough, takes messages, and that the user may do what is done. */
import { randomUUID } from "node:crypto"
import { type ChannelModel, type ConfirmChannel, connect } from "amqplib"
import * as Redacted from "effect/Redacted"
import { asksTls, type EngineAddress, tlsOptions } from "../../platform/EngineAddress.ts"
import { bad, type Finding } from "./finding.ts"
import { ANSWER_MS, ofVersion } from "./shared.ts"

/** Older ones have no single active consumer on quorum queues that can be relied on. */
const RABBIT = [3, 10] as const

/** Changes nothing that lasts: what it makes is gone with its connection. */
export const checkRabbit = async (address: EngineAddress, shown: string): Promise<ReadonlyArray<Finding>> => {
  const connection = await connect(Redacted.value(address.url), {
    timeout: ANSWER_MS,
    ...(asksTls(address) ? tlsOptions(address.tls) : {})
  })
  // An alarm is told on the first publish.
  const blocked = new Promise<Finding>((resolve) =>
    connection
      .on("error", () => {})
      .on("blocked", (reason: string) =>
        resolve(bad(`${shown}: takes nothing (${reason}): make room, or raise its limits`))
      )
  )
  try {
    const properties = (connection as unknown as { connection: { serverProperties: { version?: string } } }).connection
      .serverProperties
    const found = await Promise.race([missingRights(connection), blocked])
    const rights = "mark" in found ? [found] : ofRights(shown, found)
    return [ofVersion(shown, properties.version ?? "0", RABBIT), ...rights]
  } finally {
    await connection.close()
  }
}

const ofRights = (shown: string, missing: ReadonlyArray<string>): ReadonlyArray<Finding> =>
  missing.length === 0
    ? []
    : [
        bad(
          `${shown}: the user in AMQP_URL may not ${missing.join(" and not ")}: it needs to configure, write and read ^darda\\..* and to write ^amq\\.default$`
        )
      ]

/** What the user may not, of what is done with a queue. */
const missingRights = async (connection: ChannelModel): Promise<ReadonlyArray<string>> => {
  const queue = `darda.doctor.${randomUUID()}`
  if (!(await may(connection, (channel) => channel.assertQueue(queue, { exclusive: true })))) return ["make queues"]
  const writes = await may(connection, async (channel) => {
    channel.publish("", queue, Buffer.from(""))
    await channel.waitForConfirms()
  })
  const reads = await may(connection, (channel) => channel.get(queue))
  return [...(writes ? [] : ["write to them"]), ...(reads ? [] : ["read them"])]
}

/** A refusal ends the channel, so that each question has its own. */
const may = async (connection: ChannelModel, work: (channel: ConfirmChannel) => Promise<unknown>): Promise<boolean> => {
  const channel = await connection.createConfirmChannel()
  let isRefused = false
  channel.on("error", ({ code }: { readonly code?: number }) => (isRefused ||= code === 403))
  try {
    await work(channel)
    await channel.close()
    return true
  } catch (cause) {
    if (isRefused || (cause as { readonly code?: number }).code === 403) return false
    throw cause
  }
}
