import * as HashMap from "effect/HashMap"
import { changedMembers } from "../domain/changes.ts"
import type { Command } from "../domain/commands.ts"
import {
  type Conversation,
  evolve,
  initial,
  memberOf,
  NAMED_RECEIPTS_MAX,
  newMember,
  type ReceiptChange,
  receiptOf as changeOf
} from "../domain/conversation.ts"
import { decide, type Prior } from "../domain/decide.ts"
import {
  EVENT_VERSION,
  isTimeline,
  type NewEvent,
  removedBy,
  type StoredEvent,
  type TimelineEvent
} from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Answer } from "../platform/Router.ts"
import type { AppendBatch, MemberRow, PartitionHead, PartitionRun, Prepared, PrepareRequest } from "./EventLog.ts"
import type { CommandBatch } from "./CommandBus.ts"

/** What goes out after the commit, in the order of the commands. `fromLog`: it was read from the log later, and the recipients are those of then. */
export type Outgoing =
  | {
      readonly _tag: "Event"
      readonly event: TimelineEvent
      readonly recipients: ReadonlyArray<UserId>
      readonly fromLog?: true
    }
  | { readonly _tag: "Answer"; readonly node: string; readonly answer: Answer }
  | {
      readonly _tag: "Receipt"
      readonly conv: ConversationId
      readonly recipients: ReadonlyArray<UserId>
      readonly session: string
      /** Larger conversations count, and that is done at most once a second: hence not at once. */
      readonly counted: boolean
      readonly receipt: () => ReceiptChange
      readonly fromLog?: true
    }

/** The result of deciding a batch: what to append, and what to tell when that is done. */
export interface Decided {
  readonly append: Omit<AppendBatch, "relayed" | "at">
  readonly outgoing: ReadonlyArray<Outgoing>
  /** All events by partition, for the event bus. */
  readonly events: ReadonlyMap<number, ReadonlyArray<StoredEvent>>
  /** The conversations as they are after the batch. */
  readonly states: ReadonlyMap<ConversationId, Conversation>
  readonly commands: number
}

const HOUR_MS = 3_600_000
const cidKey = (conv: ConversationId, by: UserId, cid: string): string => `${conv}\n${by}\n${cid}`
const seqKey = (conv: ConversationId, seq: Seq): string => `${conv}\n${seq}`

/** The message that a command refers to. */
const targetOf = (command: Command): Seq | undefined => {
  const { intent } = command
  return "target" in intent ? intent.target : intent.type === "send" ? intent.replyTo : undefined
}

const recipientsOf = new WeakMap<Conversation["members"], ReadonlyArray<UserId>>()

/** The members as a list, made once for each set of members. */
const recipients = (state: Conversation): ReadonlyArray<UserId> => {
  const known = recipientsOf.get(state.members)
  if (known !== undefined) return known
  const list = [...HashMap.keys(state.members)]
  recipientsOf.set(state.members, list)
  return list
}

/**
 * One attempt at a batch. First `request` says what must be looked up, then `decide` judges the commands one after another, each
 * on the state that the former ones left.
 */
export class Batch {
  readonly #batches: ReadonlyArray<CommandBatch>
  readonly #cached: (conv: ConversationId) => Conversation | undefined

  readonly #states = new Map<ConversationId, Conversation>()
  readonly #priors = new Map<string, Prior>()
  readonly #authors = new Map<string, UserId>()
  readonly #opened = new Map<UserId, number>()

  constructor(batches: ReadonlyArray<CommandBatch>, cached: (conv: ConversationId) => Conversation | undefined) {
    this.#batches = batches
    this.#cached = cached
  }

  /** What has to be looked up in the log. */
  request(now: number): PrepareRequest {
    const conversations = new Set<ConversationId>()
    const cids = new Map<string, PrepareRequest["cids"][number]>()
    const targets = new Map<string, PrepareRequest["targets"][number]>()
    const openers = new Set<UserId>()
    for (const batch of this.#batches) {
      for (const command of batch.commands) {
        const { by, cid, conv } = command
        if (!this.#states.has(conv) && !conversations.has(conv)) {
          const cached = this.#cached(conv)
          if (cached === undefined) conversations.add(conv)
          else this.#states.set(conv, cached)
        }
        if (cid !== "") cids.set(cidKey(conv, by, cid), { conv, by, cid })
        const target = targetOf(command)
        if (target !== undefined) targets.set(seqKey(conv, target), { conv, seq: target })
        if (command.intent.type === "send" && conversations.has(conv) && conv.startsWith("dm:")) openers.add(by)
      }
    }
    return {
      conversations: [...conversations],
      cids: [...cids.values()],
      targets: [...targets.values()],
      openers: [...openers],
      openedSince: now - HOUR_MS
    }
  }

  /** Takes the answers to `request`. */
  prepared(request: PrepareRequest, found: Prepared): void {
    request.conversations.forEach((conv, i) => this.#states.set(conv, found.conversations[i] ?? initial(conv)))
    request.cids.forEach(({ by, cid, conv }, i) => {
      const prior = found.priors[i]
      if (prior !== undefined) this.#priors.set(cidKey(conv, by, cid), prior)
    })
    request.targets.forEach(({ conv, seq }, i) => {
      const author = found.authors[i]
      if (author !== undefined) this.#authors.set(seqKey(conv, seq), author)
    })
    request.openers.forEach((user, i) => this.#opened.set(user, found.opened[i] ?? 0))
  }

  /** Judges every command, in order. `heads` are this committer's partition heads before the batch. */
  decide(heads: ReadonlyMap<number, PartitionHead>, now: number, newDmsPerHour: number): Decided {
    const outgoing: Array<Outgoing> = []
    const events = new Map<number, Array<StoredEvent>>()
    const counters = new Map<number, Record<string, number>>()
    const changed = new Set<ConversationId>()
    const members = new Map<string, MemberRow>()
    let commands = 0

    for (const batch of this.#batches) {
      const head = heads.get(batch.partition)!
      const moved = counters.get(batch.partition) ?? {}
      const last = moved[batch.edge] ?? head.counters[batch.edge] ?? 0
      const isCounted = batch.counter > 0
      const isRepeat = isCounted && batch.counter <= last
      if (isCounted) moved[batch.edge] = Math.max(last, batch.counter)
      counters.set(batch.partition, moved)
      let run = events.get(batch.partition)
      if (run === undefined) events.set(batch.partition, (run = []))

      for (const command of batch.commands) {
        commands++
        const before = this.#states.get(command.conv)!
        const decision = this.#judge(before, command, now, newDmsPerHour)
        if (decision._tag === "Unchanged") continue
        if (decision._tag !== "Accepted") {
          outgoing.push(answerTo(command, decision))
          continue
        }
        // When the batch was first taken this was refused, and what was refused stays out.
        if (isRepeat) continue
        const position = head.position + run.length + 1
        const event = store(decision.event, command, batch.partition, position, before.position)
        const after = evolve(before, event, position)
        run.push(event)
        this.#states.set(command.conv, after)
        changed.add(command.conv)
        for (const user of changedMembers(before, event, after)) {
          members.set(cidKey(command.conv, user, ""), memberRow(after, user, position))
        }
        this.#remember(event, before)
        if (isTimeline(event)) {
          const gone = removedBy(event)
          outgoing.push({
            _tag: "Event",
            event,
            recipients: gone.length === 0 ? recipients(after) : [...recipients(after), ...gone]
          })
        } else {
          // Marks change the set of members but not who they are.
          recipientsOf.set(after.members, recipients(before))
          outgoing.push(receiptOf(after, event))
        }
      }
    }

    const runs: Array<PartitionRun> = []
    for (const [partition, moved] of counters) {
      const head = heads.get(partition)!
      runs.push({
        partition,
        epoch: head.epoch,
        position: head.position,
        events: events.get(partition) ?? [],
        counters: moved
      })
    }
    return {
      append: {
        runs,
        conversations: [...changed].map((conv) => this.#states.get(conv)!),
        members: [...members.values()]
      },
      outgoing,
      events,
      states: this.#states,
      commands
    }
  }

  #judge(state: Conversation, command: Command, now: number, newDmsPerHour: number): ReturnType<typeof decide> {
    const target = targetOf(command)
    try {
      return decide(state, command, {
        now,
        prior: this.#priors.get(cidKey(command.conv, command.by, command.cid)),
        author: target === undefined ? undefined : this.#authors.get(seqKey(command.conv, target)),
        recentDms: this.#opened.get(command.by) ?? 0,
        newDmsPerHour
      })
    } catch {
      // A defect in judging one command must not hold up those of others.
      return {
        _tag: "Rejected",
        rejection: { code: "internal", message: "This command could not be judged; nothing was changed." }
      }
    }
  }

  /** Lets the later commands of the batch see this event. */
  #remember(event: StoredEvent, before: Conversation): void {
    if (!isTimeline(event)) return
    this.#priors.set(cidKey(event.conv, event.by, event.cid), { seq: event.seq, at: event.at, digest: event.digest })
    if (event.type !== "message") return
    this.#authors.set(seqKey(event.conv, event.seq), event.by)
    if (before.seq === 0) this.#opened.set(event.by, (this.#opened.get(event.by) ?? 0) + 1)
  }
}

const store = (event: NewEvent, command: Command, partition: number, position: number, prev: number): StoredEvent => ({
  ...event,
  v: EVENT_VERSION,
  partition,
  position,
  prev,
  origin: command.traceparent === undefined ? command.origin : { ...command.origin, traceparent: command.traceparent }
})

const memberRow = (state: Conversation, user: UserId, position: number): MemberRow => {
  const member = memberOf(state, user)
  return member === undefined
    ? { ...newMember(user, false, 0), conv: state.conv, left: position }
    : { ...member, conv: state.conv, left: 0 }
}

const answerTo = (
  command: Command,
  decision: Exclude<ReturnType<typeof decide>, { readonly _tag: "Accepted" | "Unchanged" }>
): Outgoing => ({
  _tag: "Answer",
  node: command.origin.node,
  answer: {
    session: command.origin.session,
    ...(command.origin.rid === undefined ? {} : { rid: command.origin.rid }),
    cid: command.cid,
    conv: command.conv,
    outcome: decision
  }
})

/** What the others are told of a mark, given the conversation with it or later. */
export const receiptOf = (
  after: Conversation,
  event: StoredEvent & { readonly type: "marked" }
): Extract<Outgoing, { readonly _tag: "Receipt" }> => {
  const seq = event.data.seen ?? event.data.delivered ?? 0
  return {
    _tag: "Receipt",
    conv: event.conv,
    recipients: recipients(after),
    session: event.origin?.session ?? "",
    counted: HashMap.size(after.members) > NAMED_RECEIPTS_MAX,
    receipt: () => changeOf(after, event.by, seq)
  }
}
