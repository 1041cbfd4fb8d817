/** The forms in which every adapter of the event log keeps events, and what all of them demand of a batch. Pure. */
import { type StoredEvent, upcast } from "../domain/events.ts"
import type { ConversationId, Seq } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"
import type { AppendBatch, OutboxEntry, PartitionRun } from "./EventLog.ts"

/** Events that one batch may hold. */
export const MAX_EVENTS = 10_000
/** Rows that one read gives at most. */
export const MAX_ROWS = 10_000
/** Edges whose last batch counter a partition remembers. */
export const MAX_COUNTERS = 256

/** A list instead of an object: the names would be a quarter of what is written. The order is part of the file format. */
type Record = [
  v: number,
  type: string,
  conv: ConversationId,
  seq: Seq,
  prev: number,
  by: string,
  at: number,
  cid: string,
  digest: string,
  data: unknown,
  origin?: StoredEvent["origin"]
]

const texts = new WeakMap<StoredEvent, string>()

/** An event as text, without its partition and position, by which it is found. Made once for each event: the log and the bus take the same. */
export const encodeEvent = (event: StoredEvent): string => {
  const known = texts.get(event)
  if (known !== undefined) return known
  const { at, by, cid, conv, data, digest, origin, prev, seq, type, v } = event
  const text = JSON.stringify(
    origin === undefined
      ? [v, type, conv, seq, prev, by, at, cid, digest, data]
      : [v, type, conv, seq, prev, by, at, cid, digest, data, origin]
  )
  texts.set(event, text)
  return text
}

/** The event of a text by {@link encodeEvent}, brought to the current version. Throws `UnknownEventVersion`. */
export const decodeEvent = (partition: number, position: number, text: string): StoredEvent =>
  eventOf(partition, position, JSON.parse(text))

/** The same of a text that is parsed. */
export const eventOf = (partition: number, position: number, parsed: unknown): StoredEvent => {
  const [v, type, conv, seq, prev, by, at, cid, digest, data, origin] = parsed as Record
  const event = { v, type, conv, seq, prev, by, at, cid, digest, data, partition, position }
  return upcast(origin === undefined ? event : { ...event, origin }) as StoredEvent
}

/** The fields that a look-up needs, without the rest being built. */
export const glance = (text: string) => {
  const [, type, , seq, , by, at, cid, digest] = JSON.parse(text) as Record
  return { type, seq, by, at, cid, digest }
}

/** The message that an edit, deletion or reaction refers to; 0 for all other events. */
export const targetOf = (event: StoredEvent): Seq =>
  event.type === "edited" || event.type === "deleted" || event.type === "reaction" ? event.data.target : 0

/** The entry that a run leaves in the outbox; undefined for one that only moves counters. */
export const outboxEntry = (run: PartitionRun, at: number): OutboxEntry | undefined =>
  run.events.length === 0
    ? undefined
    : { partition: run.partition, from: run.position + 1, to: run.position + run.events.length, at }

/** What a batch adds to one conversation. */
export interface Growth {
  readonly conv: ConversationId
  /** The head that the batch builds on. */
  readonly before: { readonly seq: Seq; readonly position: number }
  readonly events: Array<StoredEvent>
}

/** A batch that no committer may make. It is a defect, nothing of it is written, and trying again does not help. */
export class MalformedBatch extends Error {
  override readonly name = "MalformedBatch"
}

/**
 * Checks what can be checked without the log: positions and seqs follow on one another, events are in their partition and chained by `prev`, and
 * the conversations given are those that grew. Answers what each of these gains. Throws {@link MalformedBatch}.
 */
export const growthOf = (batch: AppendBatch, partitions: number): ReadonlyMap<ConversationId, Growth> => {
  const grown = new Map<ConversationId, Growth>()
  const seen = new Set<number>()
  let events = 0
  for (const run of batch.runs) {
    if (seen.has(run.partition)) throw new MalformedBatch(`Partition ${run.partition} has two runs.`)
    if (!(run.partition >= 0 && run.partition < partitions))
      throw new MalformedBatch(`There is no partition ${run.partition}.`)
    seen.add(run.partition)
    events += run.events.length
    let position = run.position
    for (const event of run.events) {
      position++
      if (event.position !== position || event.partition !== run.partition) {
        throw new MalformedBatch(
          `Event ${position} of partition ${run.partition} says ${event.position} of ${event.partition}.`
        )
      }
      if (event.type !== "marked") grow(grown, event, partitions)
      else if (event.seq !== 0) throw new MalformedBatch(`A mark in ${event.conv} has seq ${event.seq}.`)
    }
  }
  if (events > MAX_EVENTS) throw new MalformedBatch(`${events} events in one batch; at most ${MAX_EVENTS} are allowed.`)
  checkHeads(batch, grown)
  return grown
}

const grow = (grown: Map<ConversationId, Growth>, event: StoredEvent, partitions: number): void => {
  const known = grown.get(event.conv)
  if (known === undefined) {
    if (event.seq < 1 || partitionOf(event.conv, partitions) !== event.partition) {
      throw new MalformedBatch(`${event.conv}/${event.seq} is not an event of partition ${event.partition}.`)
    }
    grown.set(event.conv, { conv: event.conv, before: { seq: event.seq - 1, position: event.prev }, events: [event] })
    return
  }
  const last = known.events[known.events.length - 1]!
  if (event.seq !== last.seq + 1 || event.prev !== last.position) {
    throw new MalformedBatch(
      `${event.conv}/${event.seq} after position ${event.prev} does not follow on ${last.seq} at position ${last.position}.`
    )
  }
  known.events.push(event)
}

const checkHeads = (batch: AppendBatch, grown: ReadonlyMap<ConversationId, Growth>): void => {
  let heads = 0
  for (const { at, conv, position, seq } of batch.conversations) {
    const growth = grown.get(conv)
    if (growth === undefined) continue
    heads++
    const last = growth.events[growth.events.length - 1]!
    if (last.seq !== seq || last.position !== position || last.at !== at) {
      throw new MalformedBatch(
        `The head of ${conv} is given as ${seq} at ${position}, and its last event is ${last.seq} at ${last.position}.`
      )
    }
  }
  if (heads !== grown.size)
    throw new MalformedBatch(`${grown.size} conversations grew, and the heads of ${heads} were given.`)
}
