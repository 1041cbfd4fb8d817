import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import { type Conversation, evolve, initial } from "../../src/domain/conversation.ts"
import { isTimeline, type StoredEvent } from "../../src/domain/events.ts"
import type { ConversationId } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { Frame } from "../../src/edge/Frame.ts"
import { QUEUE_BYTES, QUEUE_FRAMES } from "../../src/edge/Outgoing.ts"
import type { NodeItem, Router } from "../../src/platform/Router.ts"
import type { ReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import type { EventBus } from "../../src/write-side/EventBus.ts"
import type { EventLog, OutboxEntry } from "../../src/write-side/EventLog.ts"
import type { MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { canonical, Evidence } from "./checker-timeline.ts"
import { parse } from "./sim-socket.ts"

/** An event that is written to a socket later than this after its commit was held up by something. */
const PROMPT_MS = 2_000

/** Watches the engines from within, at every call, for what clients cannot see. */
export class Observer {
  readonly evidence = new Evidence()
  readonly #log: MemoryLog
  readonly #models: ReadModelsEngine
  /** What a reader of each partition has seen. */
  readonly #read: Array<Array<StoredEvent>>
  readonly #states = new Map<ConversationId, Conversation>()
  /** Positions that the event bus has taken, by partition. */
  readonly #published: Array<Set<number>>
  /** When events became visible, by conversation and seq. */
  readonly committedAt = new Map<string, number>()
  /** When users were taken in, by conversation and user. */
  readonly #takenIn = new Map<string, number>()
  readonly #now: () => number

  constructor(log: MemoryLog, models: ReadModelsEngine, now: () => number) {
    this.#log = log
    this.#models = models
    this.#now = now
    this.#read = Array.from({ length: log.partitions }, () => [])
    this.#published = Array.from({ length: log.partitions }, () => new Set<number>())
  }

  /** The log, watched. */
  log(service: EventLog["Service"]): EventLog["Service"] {
    return {
      ...service,
      append: (batch) => Effect.tap(service.append(batch), () => Effect.sync(() => this.#appended(batch.relayed))),
      relayed: (entries) =>
        Effect.andThen(
          Effect.sync(() => this.#removed(entries)),
          service.relayed(entries)
        )
    }
  }

  events(service: EventBus["Service"]): EventBus["Service"] {
    return {
      ...service,
      publish: (batch) =>
        Effect.tap(service.publish(batch), () =>
          Effect.sync(() => {
            for (const event of batch.events) {
              this.#expectInLog(event, "was published")
              this.#published[batch.partition]!.add(event.position)
            }
          })
        )
    }
  }

  router(service: Router["Service"]): Router["Service"] {
    return {
      ...service,
      appendAll: (streams) => {
        for (const items of streams.values()) for (const item of items) this.#addressed(item)
        return service.appendAll(streams)
      }
    }
  }

  /** I2 and I8: nothing is told that is not in the log. */
  #addressed(item: NodeItem): void {
    if (item._tag === "MessagePersisted") this.#expectInLog(item.event, "was appended to a node's stream")
    if (item._tag === "Progress") {
      const head = this.#log.heads()[item.partition]!
      this.evidence.expect(
        "I9",
        item.position <= head,
        `partition ${item.partition}`,
        () => `progress ${item.position} was told, and the head is ${head}`
      )
    }
  }

  #expectInLog(event: StoredEvent, how: string): void {
    const [known] = this.#log.read(event.partition, event.position - 1, 1)
    const where = `partition ${event.partition}, position ${event.position}`
    this.evidence.expect(
      "I8",
      known !== undefined && canonical(known) === canonical(event),
      where,
      () => `${JSON.stringify(event)} ${how}, and the log has ${JSON.stringify(known)}`
    )
  }

  /**
   * I18: what waits for one client is bounded; and as long as nothing is disturbed (`undisturbed`: the client was connected and read since then), an event
   * reaches it soon after its commit, however slow others are.
   */
  queued(user: string, frames: ReadonlyArray<Frame>, undisturbed: number | undefined): void {
    const bytes = frames.reduce((sum, frame) => sum + frame.payload.length, 0)
    this.evidence.expect(
      "I18",
      frames.length <= QUEUE_FRAMES && bytes <= QUEUE_BYTES,
      user,
      () => `${frames.length} frames, ${bytes} bytes were queued for one client`
    )
    if (undisturbed === undefined) return
    for (const frame of frames) {
      const object = parse(frame)
      if (object.t !== "event") continue
      const conv = String(object["conv"])
      const committed = this.committedAt.get(`${conv} ${String(object["seq"])}`)
      if (committed === undefined) continue
      // Who was taken in later was owed nothing before.
      const at = Math.max(committed, this.#takenIn.get(`${conv} ${user}`) ?? 0)
      if (at < undisturbed) continue
      this.evidence.expect(
        "I18",
        this.#now() - at <= PROMPT_MS,
        user,
        () => `${JSON.stringify(object)} came ${this.#now() - at} ms after its commit`
      )
    }
  }

  /** I2: at the moment at which a client is told, the log holds it. */
  written(user: string, frames: ReadonlyArray<Frame>): void {
    for (const frame of frames) {
      const object = parse(frame)
      const persisted =
        (object.t === "ack" && object["state"] === "persisted") || (object.t === "reply" && object["seq"] !== undefined)
      if (!persisted && object.t !== "event") continue
      const { conv, seq } = object as unknown as { conv: string; seq: number }
      const [event] = this.#log.timeline(conv, { after: seq - 1, before: seq + 1, limit: 1, take: "oldest" })
      const ok =
        event !== undefined &&
        (object.t === "event" || event.by === user) &&
        (object["cid"] === undefined || event.cid === object["cid"])
      this.evidence.expect(
        "I2",
        ok,
        `${user}, ${conv}`,
        () => `${JSON.stringify(object)} went out, and the log has ${JSON.stringify(event)} there`
      )
    }
  }

  #appended(relayed: ReadonlyArray<OutboxEntry>): void {
    this.#removed(relayed)
    const touched = new Set<ConversationId>()
    const heads = this.#log.heads()
    heads.forEach((head, partition) => {
      const seen = this.#read[partition]!
      this.evidence.expect(
        "I8",
        head >= seen.length,
        `partition ${partition}`,
        () => `the head fell from ${seen.length} to ${head}`
      )
      for (const event of this.#log.read(partition, seen.length, 10_000)) {
        const before = this.#states.get(event.conv) ?? initial(event.conv)
        this.evidence.expect(
          "I8",
          event.position === seen.length + 1,
          `partition ${partition}`,
          () => `position ${event.position} follows ${seen.length}`
        )
        this.evidence.expect(
          "I7",
          event.prev === before.position,
          `partition ${partition}, position ${event.position}`,
          () => `prev is ${event.prev}, and the conversation's last event was at ${before.position}`
        )
        if (event.type === "marked") this.#marked(before, event)
        seen.push(event)
        this.#states.set(event.conv, evolve(before, event, event.position))
        touched.add(event.conv)
        for (const user of event.type === "members" ? (event.data.added ?? []) : []) {
          this.#takenIn.set(`${event.conv} ${user}`, this.#now())
        }
        if (isTimeline(event)) this.committedAt.set(`${event.conv} ${event.seq}`, this.#now())
      }
      this.evidence.expect(
        "I8",
        seen.length === head,
        `partition ${partition}`,
        () => `the head is ${head}, and ${seen.length} events can be read`
      )
    })
    for (const conv of touched) this.#consistent(conv)
  }

  /** I13: watermarks only grow and never pass the head. */
  #marked(before: Conversation, event: Extract<StoredEvent, { readonly type: "marked" }>): void {
    const member = [...HashMap.values(before.members)].find(({ user }) => user === event.by)
    const { delivered = 0, seen = 0 } = event.data
    const where = `${event.by} in ${event.conv}`
    this.evidence.expect(
      "I13",
      Math.max(delivered, seen) <= before.seq,
      where,
      () => `was marked ${delivered}/${seen}, past the head ${before.seq}`
    )
    this.evidence.expect(
      "I13",
      member !== undefined && (seen > member.seen || Math.max(delivered, seen) > member.delivered),
      where,
      () => `a mark ${delivered}/${seen} that moves nothing from ${member?.delivered}/${member?.seen} is in the log`
    )
  }

  /** I7: a conversation's head, its members and the outbox are what its events come to. */
  #consistent(conv: ConversationId): void {
    const folded = this.#states.get(conv)!
    const kept = this.#log.conversation(conv)
    this.evidence.expect(
      "I7",
      kept !== undefined && stateText(kept) === stateText(folded),
      conv,
      () =>
        `is kept as ${kept === undefined ? "nothing" : stateText(kept)}, and its events come to ${stateText(folded)}`
    )
  }

  /** I9: what leaves the outbox has been published. */
  #removed(entries: ReadonlyArray<OutboxEntry>): void {
    for (const entry of entries) {
      for (let position = entry.from; position <= entry.to; position++) {
        this.evidence.expect(
          "I9",
          this.#published[entry.partition]!.has(position),
          `partition ${entry.partition}`,
          () => `position ${position} left the outbox and was not published`
        )
      }
    }
  }

  /** Everything that must hold when all has come to rest. */
  atRest(): void {
    const outbox = this.#log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 1000 })
    this.evidence.expect("I9", outbox.length === 0, "outbox", () => `still holds ${JSON.stringify(outbox)}`)
    this.#read.forEach((events, partition) => {
      const missing = events.filter(({ position }) => !this.#published[partition]!.has(position))
      this.evidence.expect(
        "I9",
        missing.length === 0,
        `partition ${partition}`,
        () => `never published: ${JSON.stringify(missing)}`
      )
      const again = this.#log.read(partition, 0, 10_000)
      this.evidence.expect(
        "I8",
        canonical(again) === canonical(events),
        `partition ${partition}`,
        () => `reads differently than before`
      )
      const checkpoint = this.#models.progress.current()[partition] ?? 0
      this.evidence.expect(
        "I9",
        checkpoint === events.length,
        `partition ${partition}`,
        () => `the checkpoint is ${checkpoint} of ${events.length}`
      )
    })
    for (const conv of this.#states.keys()) this.#consistent(conv)
  }

  /** Whether everything there is to apply has been applied. */
  get caughtUp(): boolean {
    const at = this.#models.progress.current()
    return this.#log.heads().every((head, partition) => at[partition] === head)
  }

  /** I9: read models are never ahead of the log. */
  glance(): void {
    const heads = this.#log.heads()
    this.#models.progress.current().forEach((checkpoint, partition) => {
      if (checkpoint > heads[partition]!) {
        this.evidence.expect(
          "I9",
          false,
          `partition ${partition}`,
          () => `the checkpoint ${checkpoint} is past the head ${heads[partition]}`
        )
      }
    })
  }

  /** The log as clients could read it, by conversation. */
  timelines(): Record<string, ReadonlyArray<StoredEvent>> {
    const found: Record<string, Array<StoredEvent>> = {}
    for (const events of this.#read)
      for (const event of events) if (isTimeline(event)) (found[event.conv] ??= []).push(event)
    return found
  }

  /** Of each conversation, the last seq at or before these positions. */
  headsAt(vector: ReadonlyArray<number>): Record<string, number> {
    const heads: Record<string, number> = {}
    this.#read.forEach((events, partition) => {
      for (const event of events.slice(0, vector[partition])) if (isTimeline(event)) heads[event.conv] = event.seq
    })
    return heads
  }

  partitionOf(conv: string): number {
    return partitionOf(conv, this.#log.partitions)
  }
}

/** A conversation as text, so that what is kept and what its events come to can be compared. */
export const stateText = ({ members, ...head }: Conversation): string =>
  canonical({ ...head, members: [...HashMap.values(members)].sort((a, b) => (a.user < b.user ? -1 : 1)) })
