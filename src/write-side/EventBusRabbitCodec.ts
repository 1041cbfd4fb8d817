/** Batches of events as they are in RabbitMQ: JSON, each event in the form that the log keeps, beside its position. */
import type { ConsumeMessage } from "amqplib"
import { type StoredEvent, UnknownEventVersion } from "../domain/events.ts"
import type { Unreadable } from "../platform/RabbitConsumer.ts"
import type { Published } from "./EventBus.ts"
import { encodeEvent, eventOf } from "./EventLogRecords.ts"

const VERSION = 2
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
      const json = `[${event.position},${encodeEvent(event)}]`
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
  const runs: Array<Published> = []
  for (const run of wire.runs as ReadonlyArray<WireRun | null>) {
    const read = runOf(run, partitions)
    if (typeof read === "string") return unreadable(`run ${runs.length + 1} in it ${read}`)
    runs.push(read)
  }
  return runs
}

interface WireRun {
  readonly partition?: unknown
  readonly events?: unknown
}

const NO_RUN = "is none of events of one partition of this log"

/** A run, or what is wrong with it. */
const runOf = (run: WireRun | null, partitions: number): Published | string => {
  if (typeof run !== "object" || run === null || !Array.isArray(run.events) || run.events.length === 0) return NO_RUN
  const partition = run.partition as number
  if (!Number.isInteger(partition) || partition < 0 || partition >= partitions) return NO_RUN
  const events: Array<StoredEvent> = []
  for (const row of run.events as ReadonlyArray<unknown>) {
    if (!Array.isArray(row) || !Array.isArray(row[1])) return NO_RUN
    try {
      const event = eventOf(partition, row[0] as number, row[1])
      if (!isEvent(event)) return NO_RUN
      events.push(event)
    } catch (cause) {
      if (cause instanceof UnknownEventVersion) return `has an event of version ${cause.version}`
      throw cause
    }
  }
  return { partition, events }
}

const isEvent = (event: StoredEvent): boolean =>
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
