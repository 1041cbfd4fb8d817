/** What a batch comes to in MongoDB: the operations of one bulk write. Pure. */
import type { Binary, Document } from "mongodb"
import { isTimeline, type StoredEvent } from "../domain/events.ts"
import { type ConversationId, isDm } from "../domain/ids.ts"
import type { AppendBatch, PartitionRun } from "./EventLog.ts"
import { cidKey, COLLECTIONS, edgeField, type HeadDoc, headId, ID_BASE, memberId } from "./EventLogMongoFormat.ts"
import { encodeEvent, type Growth, outboxEntry, targetOf } from "./EventLogRecords.ts"

/** The collections that operations name, by their place here. */
const NAMED = [COLLECTIONS.heads, COLLECTIONS.events, COLLECTIONS.conversations, COLLECTIONS.members]
const [HEADS, EVENTS, CONVERSATIONS, MEMBERS] = [0, 1, 2, 3] as const

export type Operation =
  | { readonly insert: number; readonly document: Document }
  | { readonly delete: number; readonly filter: Document }
  | { readonly update: number; readonly filter: Document; readonly updateMods: Document; readonly upsert?: boolean }

/** How the counters of a partition change: edges that moved get the number `moved`, and those in `gone` are forgotten. */
export interface Move {
  readonly moved: number
  readonly gone: ReadonlyArray<string>
}

export interface Operations {
  readonly operations: ReadonlyArray<Operation>
  /** How many documents the updates among them must find, or make. */
  readonly matches: number
}

/** Bytes of one command, at most: a fourth of what the driver and the server take. */
const COMMAND_BYTES = 4 * 1024 * 1024

/** The head of a partition gives way to that of its next epoch: whoever has it in a transaction is refused. */
export const nextEpoch = (head: HeadDoc, owner: string, session: Binary): readonly [HeadDoc, ...Array<Operation>] => {
  const epoch = head.epoch + 1
  const next = { ...head, _id: headId(head.partition, epoch), epoch, owner, session }
  return [next, { delete: HEADS, filter: { _id: head._id } }, { insert: HEADS, document: next }]
}

/**
 * The heads come first, so that a batch of a former owner costs little. They are found by their epoch alone: who has it knows the position, and ids of events
 * are taken once.
 */
export const operationsOf = (
  batch: AppendBatch,
  grown: ReadonlyMap<ConversationId, Growth>,
  moves: ReadonlyMap<number, Move>
): Operations => {
  const operations: Array<Operation> = []
  const relayed = new Map<number, Record<string, 1>>()
  for (const { from, partition } of batch.relayed) {
    const known = relayed.get(partition)
    if (known === undefined) relayed.set(partition, { [`outbox.${from}`]: 1 })
    else known[`outbox.${from}`] = 1
  }
  for (const run of batch.runs) {
    operations.push(moveHead(run, batch.at, moves.get(run.partition)!, relayed.get(run.partition) ?? {}))
    relayed.delete(run.partition)
  }
  for (const [partition, $unset] of relayed)
    operations.push({ update: HEADS, filter: { partition }, updateMods: { $unset } })
  let matches = operations.length

  for (const { events } of batch.runs)
    for (const event of events) operations.push({ insert: EVENTS, document: eventDoc(event) })
  for (const { conv, title } of batch.conversations) {
    const facts = factsOf(grown.get(conv), title)
    if (facts === undefined) continue
    operations.push({ update: CONVERSATIONS, filter: { _id: conv }, updateMods: { $set: facts }, upsert: true })
    matches++
  }
  for (const { conv, user, ...row } of batch.members) {
    const growth = grown.get(conv)
    const filter = { _id: memberId(conv, user) }
    if (growth?.before.seq === 0) {
      operations.push({ insert: MEMBERS, document: { ...filter, conv, user, ...row } })
    } else if (growth?.events.some(({ type }) => type === "members") === true) {
      operations.push({ update: MEMBERS, filter, updateMods: { $set: { conv, user, ...row } }, upsert: true })
      matches++
    } else {
      // Nothing but marks. What they do not change is not written, and not compared.
      const { delivered, seen } = row
      operations.push({ update: MEMBERS, filter, updateMods: { $set: { delivered, seen } } })
      matches++
    }
  }
  return { operations, matches }
}

const moveHead = (run: PartitionRun, at: number, { gone, moved }: Move, $unset: Record<string, 1>): Operation => {
  const { counters, epoch, events, partition, position } = run
  const $set: Record<string, unknown> = { position: position + events.length }
  for (const edge of Object.keys(counters)) $set[`counters.${edgeField(edge)}`] = [counters[edge], moved]
  for (const edge of gone) $unset[`counters.${edgeField(edge)}`] = 1
  const entry = outboxEntry(run, at)
  if (entry !== undefined) $set[`outbox.${entry.from}`] = [entry.to, entry.at]
  return {
    update: HEADS,
    filter: { _id: headId(partition, epoch) },
    updateMods: Object.keys($unset).length === 0 ? { $set } : { $set, $unset }
  }
}

const eventDoc = (event: StoredEvent): Document => {
  const document: Document = { _id: event.partition * ID_BASE + event.position, event: encodeEvent(event) }
  if (!isTimeline(event)) return document
  document["conv"] = event.conv
  document["seq"] = event.seq
  if (event.cid !== "") document["key"] = cidKey(event.conv, event.by, event.cid)
  const target = targetOf(event)
  if (target > 0) document["target"] = target
  return document
}

/** What its newest event will not say of a conversation, if that changed. */
const factsOf = (growth: Growth | undefined, title: string | undefined): Document | undefined => {
  if (growth === undefined) return undefined
  const [first] = growth.events
  if (first!.seq === 1 && first!.type === "message" && isDm(growth.conv)) {
    return { opener: first!.by, opened: first!.at, ...(title === undefined ? {} : { title }) }
  }
  return title !== undefined && growth.events.some(({ type }) => type === "created" || type === "title")
    ? { title }
    : undefined
}

/** The bulk writes of these operations in a database: one, unless they are very large. */
export const commandsOf = (database: string, operations: ReadonlyArray<Operation>): ReadonlyArray<Document> => {
  const commands: Array<Document> = []
  const nsInfo = NAMED.map((name) => ({ ns: `${database}.${name}` }))
  let from = 0
  let bytes = 0
  for (let i = 0; i <= operations.length; i++) {
    const size = i < operations.length ? sizeOf(operations[i]!) : 0
    if (i > from && (i === operations.length || bytes + size > COMMAND_BYTES)) {
      commands.push({ bulkWrite: 1, ops: operations.slice(from, i), nsInfo, ordered: true, errorsOnly: true })
      from = i
      bytes = 0
    }
    bytes += size
  }
  return commands
}

/** About what an operation takes: the texts of events are all that may be large. */
const sizeOf = (operation: Operation): number => {
  if (!("insert" in operation)) return 500
  const { event } = operation.document
  return 500 + (typeof event === "string" ? event.length * 3 : 0)
}
