import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import type { Command, Intent } from "../../src/domain/commands.ts"
import type { Conversation, Member } from "../../src/domain/conversation.ts"
import { isTimeline, type StoredEvent, type TimelineEvent } from "../../src/domain/events.ts"
import type { ConversationId, Seq, UserId } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { Batch, type Decided } from "../../src/write-side/Batch.ts"
import type { AppendBatch, EventLog, PartitionHead } from "../../src/write-side/EventLog.ts"

type Log = EventLog["Service"]

/** A wish with what the domain needs to judge it. */
export interface Wish {
  readonly conv: ConversationId
  readonly by: UserId
  readonly cid: string
  readonly intent: Intent
}

export const say = (conv: ConversationId, by: UserId, cid: string, body: string, replyTo?: Seq): Wish => ({
  conv,
  by,
  cid,
  intent: { type: "send", kind: "text", body, ...(replyTo === undefined ? {} : { replyTo }) }
})

export const mark = (conv: ConversationId, by: UserId, seen: Seq): Wish => ({
  conv,
  by,
  cid: "",
  intent: { type: "mark", seen }
})

/** Committers made so far: each has an edge of its own, since a batch of an edge that was taken before is a repeat. */
let made = 0

/** A committer reduced to its talk with the log: decides wishes by the real rules, and appends what comes of them. */
export class LogCommitter {
  readonly heads = new Map<number, PartitionHead>()
  readonly edge: string
  readonly #log: Log
  #counter = 0

  private constructor(log: Log, edge: string) {
    this.#log = log
    this.edge = edge
  }

  /** Takes partitions over, all of them unless some are named. */
  static readonly claim = Effect.fnUntraced(function* (
    log: Log,
    options: { readonly owner?: string; readonly edge?: string; readonly partitions?: ReadonlyArray<number> } = {}
  ) {
    const committer = new LogCommitter(log, options.edge ?? `edge-${process.pid}-${++made}`)
    const partitions = options.partitions ?? Array.from({ length: log.partitions }, (_, partition) => partition)
    for (const head of yield* log.claim(partitions, options.owner ?? "test")) committer.heads.set(head.partition, head)
    return committer
  })

  /** What these wishes come to. Nothing is appended yet. */
  readonly decide = Effect.fnUntraced(
    { self: this },
    function* (this: LogCommitter, wishes: ReadonlyArray<Wish>, now = Date.now()) {
      const byPartition = new Map<number, Array<Command>>()
      for (const wish of wishes) {
        const partition = partitionOf(wish.conv, this.#log.partitions)
        const commands = byPartition.get(partition) ?? []
        byPartition.set(partition, commands)
        commands.push({ ...wish, origin: { node: "node", session: "session" } })
      }
      const batch = new Batch(
        [...byPartition].map(([partition, commands]) => ({
          partition,
          edge: this.edge,
          counter: ++this.#counter,
          commands
        })),
        () => undefined
      )
      const request = batch.request(now)
      batch.prepared(request, yield* this.#log.prepare(request))
      return batch.decide(this.heads, now, 1_000_000)
    }
  )

  /** Appends a decision and moves the heads. Answers its events, in the order of partitions. */
  readonly append = Effect.fnUntraced(
    { self: this },
    function* (this: LogCommitter, decided: Decided, rest: Partial<Pick<AppendBatch, "relayed" | "at">> = {}) {
      yield* this.#log.append({ ...decided.append, relayed: [], at: Date.now(), ...rest })
      for (const { counters, events, partition } of decided.append.runs) {
        const head = this.heads.get(partition)!
        const position = head.position + events.length
        this.heads.set(partition, { ...head, position, counters: { ...head.counters, ...counters } })
      }
      return decided.append.runs.flatMap(({ events }) => events)
    }
  )

  /** Decides and appends. */
  readonly commit = Effect.fnUntraced(
    { self: this },
    function* (this: LogCommitter, wishes: ReadonlyArray<Wish>, rest?: Partial<Pick<AppendBatch, "relayed" | "at">>) {
      return yield* this.append(yield* this.decide(wishes, rest?.at), rest)
    }
  )
}

/**
 * Commits one wish after another as the real committer does: what is in doubt is made certain by a claim, and tried again. `acked` is told of
 * each when it is committed.
 */
export const commitAll = Effect.fnUntraced(function* (
  log: Log,
  wishes: ReadonlyArray<Wish>,
  acked: (wish: Wish) => void
) {
  const claim = LogCommitter.claim(log).pipe(Effect.retry({ times: 10 }))
  let committer = yield* claim
  for (const wish of wishes) {
    while (true) {
      const result = yield* Effect.result(committer.commit([wish]))
      if (result._tag === "Success") break
      if (result.failure._tag !== "LogUnavailable") return yield* Effect.fail(result.failure)
      committer = yield* claim
    }
    acked(wish)
  }
})

/** A conversation that can be compared. */
export const plain = (state: Conversation | undefined) =>
  state && {
    ...state,
    members: [...HashMap.values(state.members)].sort((a: Member, b: Member) => (a.user < b.user ? -1 : 1))
  }

export const onlyTimeline = (events: ReadonlyArray<StoredEvent>): ReadonlyArray<TimelineEvent> =>
  events.filter(isTimeline)

/** Everything that the log holds, partition by partition. */
export const everything = Effect.fnUntraced(function* (log: Log) {
  const events: Array<StoredEvent> = []
  for (let partition = 0; partition < log.partitions; partition++) {
    for (let after = 0; ;) {
      const page = yield* log.read(partition, after, 1_000)
      if (page.length === 0) break
      events.push(...page)
      after = page[page.length - 1]!.position
    }
  }
  return events
})
