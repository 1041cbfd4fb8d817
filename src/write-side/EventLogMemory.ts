import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import { type Conversation, type Member } from "../domain/conversation.ts"
import { isTimeline, type StoredEvent } from "../domain/events.ts"
import { type ConversationId, isDm, type UserId } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"
import {
  AlreadyInLog,
  type AppendBatch,
  EventLog,
  Fenced,
  type MemberRow,
  type Membership,
  type OutboxEntry,
  type PartitionHead,
  type PartitionRun,
  type Prepared,
  type PrepareRequest,
  type Slice
} from "./EventLog.ts"
import {
  decodeEvent,
  encodeEvent,
  glance,
  type Growth,
  growthOf,
  MAX_COUNTERS,
  MAX_ROWS,
  outboxEntry,
  targetOf
} from "./EventLogRecords.ts"

interface Partition {
  position: number
  epoch: number
  /** Least recently moved first. */
  readonly counters: Map<string, number>
  /** By position, from 1. Kept as text, so that nobody holds on to what can be changed, and what JSON loses is lost here too. */
  readonly records: Array<string>
}

interface Kept {
  readonly head: Omit<Conversation, "members">
  /** By seq, from 1. */
  readonly positions: Array<number>
  /** Position by sender and cid. */
  readonly cids: Map<string, number>
  /** Positions by the message that they refer to. */
  readonly amendments: Map<number, Array<number>>
  readonly members: Map<UserId, MemberRow>
}

/**
 * A log in memory, with every check of the others. It outlives the processes that use it, so that a simulation can crash and restart
 * them. Its methods are atomic, and throw the port's errors.
 */
export class MemoryLog {
  readonly id = crypto.randomUUID()
  readonly partitions: number
  readonly #partitions: ReadonlyArray<Partition>
  readonly #conversations = new Map<ConversationId, Kept>()
  readonly #memberships = new Map<UserId, Set<ConversationId>>()
  readonly #openings = new Map<UserId, Array<number>>()
  readonly #outbox = new Map<string, OutboxEntry>()

  constructor(partitions: number) {
    this.partitions = partitions
    this.#partitions = Array.from({ length: partitions }, () => ({
      position: 0,
      epoch: 0,
      counters: new Map(),
      records: []
    }))
  }

  heads(): ReadonlyArray<number> {
    return this.#partitions.map(({ position }) => position)
  }

  claim(partitions: ReadonlyArray<number>): ReadonlyArray<PartitionHead> {
    return partitions.map((partition) => {
      const head = this.#partition(partition)
      head.epoch++
      return { partition, position: head.position, epoch: head.epoch, counters: Object.fromEntries(head.counters) }
    })
  }

  append(batch: AppendBatch): void {
    const grown = growthOf(batch, this.partitions)
    const fenced = batch.runs.filter((run) => {
      const head = this.#partition(run.partition)
      return head.epoch !== run.epoch || head.position !== run.position
    })
    if (fenced.length > 0) throw new Fenced({ partitions: fenced.map(({ partition }) => partition) })
    for (const growth of grown.values()) this.#check(growth)
    for (const { conv, user } of batch.members) {
      if (!grown.has(conv) && !this.#conversations.has(conv)) {
        throw new Error(`${user} cannot be a member of ${conv}, in which nothing has happened.`)
      }
    }
    // Nothing can fail from here on.
    for (const run of batch.runs) this.#write(run, batch.at)
    for (const state of batch.conversations) {
      const growth = grown.get(state.conv)
      if (growth !== undefined) this.#grow(state, growth)
    }
    for (const row of batch.members) {
      this.#conversations.get(row.conv)!.members.set(row.user, row)
      setIn(this.#memberships, row.user, () => new Set<ConversationId>()).add(row.conv)
    }
    this.relayed(batch.relayed)
  }

  prepare(request: PrepareRequest): Prepared {
    return {
      conversations: request.conversations.map((conv) => this.conversation(conv)),
      priors: request.cids.map(({ by, cid, conv }) => {
        const position = this.#conversations.get(conv)?.cids.get(cidKey(by, cid))
        if (position === undefined) return undefined
        const { at, digest, seq } = glance(this.#record(conv, position))
        return { seq, at, digest }
      }),
      authors: request.targets.map(({ conv, seq }) => {
        const position = this.#conversations.get(conv)?.positions[seq - 1]
        if (position === undefined) return undefined
        const { by, type } = glance(this.#record(conv, position))
        return type === "message" ? by : undefined
      }),
      opened: request.openers.map(
        (user) => (this.#openings.get(user) ?? []).filter((at) => at >= request.openedSince).length
      )
    }
  }

  read(partition: number, after: number, limit: number): ReadonlyArray<StoredEvent> {
    return this.#partition(partition)
      .records.slice(after, after + Math.min(limit, MAX_ROWS))
      .map((record, i) => decodeEvent(partition, after + i + 1, record))
  }

  timeline(conv: ConversationId, { after = 0, before = Infinity, limit, take }: Slice) {
    const most = Math.min(limit, MAX_ROWS)
    const within = (this.#conversations.get(conv)?.positions ?? []).slice(Math.max(0, after), Math.max(0, before - 1))
    return this.#timeline(conv, take === "newest" ? within.slice(-most) : within.slice(0, most))
  }

  amendments(conv: ConversationId, targets: ReadonlyArray<number>) {
    const known = this.#conversations.get(conv)?.amendments
    const positions = [...new Set(targets)].flatMap((target) => known?.get(target) ?? [])
    return this.#timeline(
      conv,
      positions.sort((a, b) => a - b)
    )
  }

  conversation(conv: ConversationId): Conversation | undefined {
    const kept = this.#conversations.get(conv)
    if (kept === undefined) return undefined
    const members: Array<readonly [UserId, Member]> = []
    for (const { admin, delivered, left, seen, since, user } of kept.members.values()) {
      if (left === 0) members.push([user, { user, admin, since, delivered, seen }])
    }
    return { ...kept.head, members: HashMap.fromIterable(members) }
  }

  memberships(user: UserId, after: ConversationId, limit: number): ReadonlyArray<Membership> {
    return [...(this.#memberships.get(user) ?? [])]
      .filter((conv) => conv > after)
      .sort((a, b) => (a < b ? -1 : 1))
      .slice(0, Math.min(limit, MAX_ROWS))
      .map((conv) => {
        const { head, members } = this.#conversations.get(conv)!
        return { conv, seq: head.seq, position: head.position, left: members.get(user)!.left }
      })
  }

  outbox({ limit, partition, until }: { readonly until: number; readonly limit: number; readonly partition?: number }) {
    return [...this.#outbox.values()]
      .filter((entry) => entry.at <= until && (partition === undefined || entry.partition === partition))
      .sort((a, b) => a.at - b.at || a.partition - b.partition || a.from - b.from)
      .slice(0, Math.min(limit, MAX_ROWS))
  }

  relayed(entries: ReadonlyArray<OutboxEntry>): void {
    for (const entry of entries) this.#outbox.delete(outboxKey(entry))
  }

  #partition(partition: number): Partition {
    const found = this.#partitions[partition]
    if (found === undefined) throw new Error(`There is no partition ${partition}.`)
    return found
  }

  #record(conv: ConversationId, position: number): string {
    return this.#partition(partitionOf(conv, this.partitions)).records[position - 1]!
  }

  #timeline(conv: ConversationId, positions: ReadonlyArray<number>) {
    const partition = partitionOf(conv, this.partitions)
    return positions
      .map((position) => decodeEvent(partition, position, this.#record(conv, position)))
      .filter(isTimeline)
  }

  #check({ before, conv, events }: Growth): void {
    const kept = this.#conversations.get(conv)
    if ((kept?.head.seq ?? 0) !== before.seq || (kept?.head.position ?? 0) !== before.position) {
      throw new AlreadyInLog({ detail: `${conv} is at ${kept?.head.seq ?? 0}, and the batch builds on ${before.seq}.` })
    }
    const own = new Map<string, number>()
    for (const { by, cid, seq } of events) {
      if (cid === "") continue
      const key = cidKey(by, cid)
      const position = kept?.cids.get(key)
      const prior = position === undefined ? own.get(key) : glance(this.#record(conv, position)).seq
      if (prior !== undefined)
        throw new AlreadyInLog({ detail: `${by} has used the cid ${cid} in ${conv} before, for ${prior}.` })
      own.set(key, seq)
    }
  }

  #write(run: PartitionRun, at: number): void {
    const partition = this.#partition(run.partition)
    for (const event of run.events) {
      partition.records.push(encodeEvent(event))
      if (event.seq === 1 && event.type === "message" && isDm(event.conv)) {
        setIn(this.#openings, event.by, () => []).push(event.at)
      }
    }
    partition.position += run.events.length
    for (const [edge, counter] of Object.entries(run.counters)) {
      partition.counters.delete(edge)
      partition.counters.set(edge, counter)
      if (partition.counters.size > MAX_COUNTERS) partition.counters.delete(partition.counters.keys().next().value!)
    }
    const entry = outboxEntry(run, at)
    if (entry !== undefined) this.#outbox.set(outboxKey(entry), entry)
  }

  #grow({ members: _, ...head }: Conversation, growth: Growth): void {
    const known = this.#conversations.get(growth.conv)
    const kept: Kept = {
      positions: known?.positions ?? [],
      cids: known?.cids ?? new Map<string, number>(),
      amendments: known?.amendments ?? new Map<number, Array<number>>(),
      members: known?.members ?? new Map<UserId, MemberRow>(),
      head
    }
    this.#conversations.set(growth.conv, kept)
    for (const event of growth.events) {
      kept.positions.push(event.position)
      if (event.cid !== "") kept.cids.set(cidKey(event.by, event.cid), event.position)
      const target = targetOf(event)
      if (target > 0) setIn(kept.amendments, target, () => []).push(event.position)
    }
  }
}

const cidKey = (by: UserId, cid: string): string => `${by}\n${cid}`
const outboxKey = ({ at, from, partition }: OutboxEntry): string => `${at} ${partition} ${from}`

const setIn = <K, V>(map: Map<K, V>, key: K, make: () => NoInfer<V>): V => {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}

/** An empty log in memory. */
export const makeMemoryLog = (partitions: number): MemoryLog => new MemoryLog(partitions)

/** One process's event log on a log in memory. */
export const layerMemory = (log: MemoryLog): Layer.Layer<EventLog> =>
  Layer.succeed(EventLog, {
    id: log.id,
    partitions: log.partitions,
    heads: Effect.sync(() => log.heads()),
    read: (partition, after, limit) => Effect.sync(() => log.read(partition, after, limit)),
    timeline: (conv, slice) => Effect.sync(() => log.timeline(conv, slice)),
    amendments: (conv, targets) => Effect.sync(() => log.amendments(conv, targets)),
    conversation: (conv) => Effect.sync(() => log.conversation(conv)),
    memberships: (user, after, limit) => Effect.sync(() => log.memberships(user, after, limit)),
    claim: (partitions, _owner) => Effect.sync(() => log.claim(partitions)),
    prepare: (request) => Effect.sync(() => log.prepare(request)),
    append: (batch) =>
      Effect.suspend(() => {
        try {
          log.append(batch)
          return Effect.void
        } catch (cause) {
          if (cause instanceof Fenced || cause instanceof AlreadyInLog) return Effect.fail(cause)
          throw cause
        }
      }),
    outbox: (options) => Effect.sync(() => log.outbox(options)),
    relayed: (entries) => Effect.sync(() => log.relayed(entries))
  })
