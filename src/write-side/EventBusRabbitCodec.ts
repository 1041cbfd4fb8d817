/** Batches of events as they are in RabbitMQ: JSON. */
import type { ConsumeMessage } from "amqplib"
import { EVENT_VERSION, type StoredEvent } from "../domain/events.ts"
import type { Unreadable } from "../platform/RabbitConsumer.ts"
import type { Published } from "./EventBus.ts"

const VERSION = 1
/** Characters in one message: a consumer may hold some dozens of a partition. */
const MESSAGE_CHARS = 256 * 1024

/** The events as messages, each of at most 256 Ki characters unless a single event is longer. */
export const encodeEvents = (events: ReadonlyArray<StoredEvent>): ReadonlyArray<Buffer> => {
  const messages: Array<Buffer> = []
  let part: Array<string> = []
  let chars = 0
  const close = (): void => {
    if (part.length > 0) messages.push(Buffer.from(`{"v":${VERSION},"events":[${part.join(",")}]}`))
    part = []
    chars = 0
  }
  for (const event of events) {
    const json = JSON.stringify(event)
    if (chars + json.length > MESSAGE_CHARS) close()
    part.push(json)
    chars += json.length
  }
  close()
  return messages
}

const unreadable = (reason: string): Unreadable => ({ unreadable: reason })

/** Reads events from the queue of this partition. Checked as far as needed to take them for events of it: what is in them was checked before they came to be. */
export const decodeEvents = (message: ConsumeMessage, partition: number): Published | Unreadable => {
  let wire: { readonly v?: unknown; readonly events?: unknown } | null
  try {
    wire = JSON.parse(message.content.toString()) as typeof wire
  } catch {
    return unreadable("it is not JSON")
  }
  if (wire?.v !== VERSION || !Array.isArray(wire.events) || wire.events.length === 0)
    return unreadable("it is no batch of events that this version reads")
  const events = wire.events as ReadonlyArray<StoredEvent | null>
  const wrong = events.findIndex((event) => !isEvent(event, partition))
  if (wrong >= 0) return unreadable(`number ${wrong + 1} in it is no event of partition ${partition}`)
  return { partition, events: events as ReadonlyArray<StoredEvent> }
}

const isEvent = (event: StoredEvent | null, partition: number): boolean =>
  typeof event === "object" &&
  event !== null &&
  event.v === EVENT_VERSION &&
  event.partition === partition &&
  Number.isSafeInteger(event.position) &&
  event.position >= 1 &&
  Number.isSafeInteger(event.seq) &&
  Number.isSafeInteger(event.prev) &&
  Number.isSafeInteger(event.at) &&
  typeof event.conv === "string" &&
  typeof event.by === "string" &&
  typeof event.type === "string" &&
  typeof event.data === "object" &&
  event.data !== null
