/** RabbitMQ from outside: an operator's hands on the queues of a log. */
import { type ConfirmChannel, connect } from "amqplib"

/** Uses a channel of its own; what it breaks breaks only that. */
const withChannel = async <A>(url: string, use: (channel: ConfirmChannel) => Promise<A>): Promise<A> => {
  const model = await connect(url)
  model.on("error", () => {})
  try {
    const channel = await model.createConfirmChannel()
    channel.on("error", () => {})
    return await use(channel)
  } finally {
    await model.close()
  }
}

/** The queues of a log: one for the commands of each partition, and one for events. Their names begin with the first characters of its id. */
export const queuesOf = (logId: string, partitions: number) => {
  const prefix = `darda.${logId.replaceAll("-", "").slice(0, 8)}`
  return {
    commands: Array.from({ length: partitions }, (_, partition) => `${prefix}.commands.${partition}`),
    events: `${prefix}.events`
  }
}

/** Puts something into a queue that no code of ours has written. */
export const putInto = (url: string, queue: string, contents: ReadonlyArray<string | Buffer>): Promise<void> =>
  withChannel(url, async (channel) => {
    let isMissing = false
    channel.on("return", () => (isMissing = true))
    for (const content of contents)
      channel.sendToQueue(queue, Buffer.from(content), { persistent: true, mandatory: true })
    await channel.waitForConfirms()
    if (isMissing) throw new Error(`There is no queue ${queue}`)
  })

/** How many messages of each queue wait and were given to no consumer yet. */
export const waitingIn = (url: string, queues: ReadonlyArray<string>): Promise<ReadonlyArray<number>> =>
  withChannel(url, async (channel) => {
    const counts: Array<number> = []
    for (const queue of queues) counts.push((await channel.checkQueue(queue)).messageCount)
    return counts
  })

/** Deletes queues with all that is in them. */
export const deleteQueues = (url: string, queues: ReadonlyArray<string>): Promise<void> =>
  withChannel(url, async (channel) => {
    for (const queue of queues) {
      await channel.checkQueue(queue)
      await channel.deleteQueue(queue)
    }
  })
