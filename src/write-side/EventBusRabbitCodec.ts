/** Batches of events as they are in RabbitMQ: JSON. */
import type { ConsumeMessage } from "amqplib"
import { EVENT_VERSION, type StoredEvent } from "../domain/events.ts"
import type { Unreadable } from "../platform/RabbitConsumer.ts"
import type { Published } from "./EventBus.ts"

const VERSION = 1
/** Characters in one message: a consumer may hold some dozens. */
const MESSAGE_CHARS = 256 * 1024

/** Batches as messages, each of at most 256 Ki characters unless a single event is longer; and for each batch the message that holds the last of it. */
export const encodeBatches = (
  batches: ReadonlyArray<Published>
): { readonly messages: ReadonlyArray<Buffer>; readonly last: ReadonlyArray<number> } => {
  const messages: Array<Buffer> = []
  const last: Array<number> = []
  let runs: Array<string> = []
  let part: Array<string> = []
  let chars = 0
  const closeRun = (partition: number): void => {
    if (part.length > 0) runs.push(`{"partition":${partition},"events":[${part.join(",")}]}`)
    part = []
  }
  const close = (): void => {
    if (runs.length > 0) messages.push(Buffer.from(`{"v":${VERSION},"runs":[${runs.join(",")}]}`))
    runs = []
    chars = 0
  }
  for (const { events, partition } of batches) {
    for (const event of events) {
      const json = JSON.stringify(event)
      if (chars > 0 && chars + json.length > MESSAGE_CHARS) {
        closeRun(partition)
        close()
      }
      part.push(json)
      chars += json.length
    }
    closeRun(partition)
    last.push(messages.length)
  }
  close()
  return { messages, last }
}

const unreadable = (reason: string): Unreadable => ({ unreadable: reason })

/** Reads batches. Checked as far as needed to take them for events of this log: what is in them was checked before they came to be. */
export const decodeBatches = (message: ConsumeMessage, partitions: number): ReadonlyArray<Published> | Unreadable => {
  let wire: { readonly v?: unknown; readonly runs?: unknown } | null
  try {
    wire = JSON.parse(message.content.toString()) as typeof wire
  } catch {
    return unreadable("it is not JSON")
  }
  if (wire?.v !== VERSION || !Array.isArray(wire.runs) || wire.runs.length === 0)
    return unreadable("it is nothing that this version reads")
  const runs = wire.runs as ReadonlyArray<Published | null>
  const wrong = runs.findIndex((run) => !isRun(run, partitions))
  if (wrong >= 0) return unreadable(`run ${wrong + 1} in it is none of events of one partition of this log`)
  return runs as ReadonlyArray<Published>
}

const isRun = (run: Published | null, partitions: number): boolean =>
  typeof run === "object" &&
  run !== null &&
  Number.isInteger(run.partition) &&
  run.partition >= 0 &&
  run.partition < partitions &&
  Array.isArray(run.events) &&
  run.events.length > 0 &&
  (run.events as ReadonlyArray<StoredEvent | null>).every((event) => isEvent(event, run.partition))

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
