import * as Effect from "effect/Effect"
import { adds, removedBy, type TimelineEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import { REPLAY_PER_CONVERSATION } from "../domain/protocol/limits.ts"
import type { MetricsWriter } from "../platform/Metrics.ts"
import type { MissedConversation, Queries, QueryRefused } from "../read-side/Queries.ts"
import { answerFrame, eventFrame, Frame } from "./Frame.ts"
import type { Outgoing } from "./Outgoing.ts"
import type { Run } from "./Run.ts"

/** Events that are read at once to fill a hole. */
const PULL_EVENTS = 100
/** Conversations whose last seq is remembered before what the cursor covers is forgotten. */
const REMEMBERED = 2_048
/** Tries to read what is missing before the conversation is reset instead. */
const PULL_ATTEMPTS = 5

/** Where a reset conversation's head is: perhaps past every vector there is, so it is remembered until its next event. */
const UNKNOWN = Number.MAX_SAFE_INTEGER

interface Given {
  /** 0 when they were told to be gone and nothing else: what comes before their return is not theirs. */
  seq: Seq | 0
  position: number
  /** The user was removed: kept, since a later return continues from here. */
  gone: boolean
}

interface Pull {
  /** Given up to here; undefined when the conversation was not touched since the floor. */
  after: Seq | undefined
  to: Seq
  /** Up to here, in the conversation's partition, everything had been given when it was found out that something is missing. */
  readonly floor: number
}

/** The connection that a feed belongs to. */
export interface FeedOwner {
  readonly id: string
  readonly user: UserId
  readonly out: Outgoing
  readonly node: {
    readonly metrics: Pick<MetricsWriter, "update">
    readonly partitionOf: (conv: ConversationId) => number
    readonly queries: Queries["Service"]
    /** Starts repairing, in the background. */
    readonly fork: (effect: Effect.Effect<void>) => void
  }
  /** Queues a frame, or cuts the connection when its queue is full. */
  push(frame: Frame): void
  /** The same for all frames of a run. */
  pushRun(run: Run): void
  /** An event of this session is about to be answered. */
  settled(event: TimelineEvent): void
}

/** The vector that is as far as the further of two in each partition. */
const furthest = (a: Vector, b: Vector): Vector => a.map((position, partition) => Math.max(position, b[partition] ?? 0))

const NONE: ReadonlyMap<ConversationId, never> = new Map<ConversationId, never>()

/**
 * What one connection is given of the log: every conversation's events in seq order, without a hole, none twice.
 *
 * The floor is a vector up to which everything was given, or belonged to what was missed. From there on the last seq of each conversation is
 * remembered; an event that does not follow on is a hole, and what lies between is read from the log first.
 *
 * Something that is missing at the end is no hole: nothing follows it. So when the node has lost a part of its stream, the feed is suspended: it goes on, and
 * gives no cursor until it was told what has been missed.
 */
export class Feed {
  readonly #owner: FeedOwner
  #floor: Vector | undefined
  // Made when first needed: most connections are idle, and an idle one costs little.
  #given: Map<ConversationId, Given> | undefined
  #pulls: Map<ConversationId, Pull> | undefined
  #held: Map<ConversationId, TimelineEvent> | undefined
  #pulling = false
  /** Whether a cursor is due however far it gets. */
  #dirty = false
  /** Positions that were given past the last cursor, by partition. */
  #beyond: Map<number, number> | undefined
  #ended = false
  /** Losses of the node's stream that concern this feed. */
  #losses = 0
  #suspended = false
  /** Before the loss everything up to here had come. */
  #since: Vector | undefined
  /** The losses when it began to hold events back; undefined while it does not. */
  #holding: number | undefined

  constructor(owner: FeedOwner) {
    this.#owner = owner
  }

  /** Everything that is due has been given. */
  get #settled(): boolean {
    return this.#floor !== undefined && !this.#suspended && (this.#pulls?.size ?? 0) === 0
  }

  /** Something may be missing that nothing will show: until `resume`, or until it starts. */
  get isSuspended(): boolean {
    return this.#suspended
  }

  /** Before its loss everything up to here had come; undefined for one that has not started. */
  get since(): Vector | undefined {
    return this.#since
  }

  /** Whether what is said about a conversation now follows on what was given of it: nothing of it is still being read, and the user is not gone. */
  isLive(conv: ConversationId): boolean {
    const isBehind = this.#floor === undefined || this.#holding !== undefined || this.#pulls?.has(conv) === true
    return !isBehind && this.#given?.get(conv)?.gone !== true
  }

  /** The newest seq of a conversation that this connection was given. */
  headOf(conv: ConversationId): Seq | undefined {
    return this.#given?.get(conv)?.seq
  }

  /** Goes live from `floor`, after the replay of what was missed before it. */
  start(floor: Vector, missed: ReadonlyArray<MissedConversation>): void {
    this.#floor = floor
    if (this.#suspended) this.#since = floor
    for (const item of missed) {
      if (item._tag !== "Replay") continue
      const pull = { after: item.after, to: item.head, floor: floor[this.#owner.node.partitionOf(item.conv)]! }
      ;(this.#pulls ??= new Map()).set(item.conv, pull)
    }
    const held: ReadonlyMap<ConversationId, TimelineEvent> = this.#held ?? NONE
    this.#held = undefined
    for (const event of held.values()) {
      // A conversation that was reset is known up to its head, which may be past the floor.
      const given = this.#given?.get(event.conv)?.seq
      const isNew = given === undefined ? event.position > floor[event.partition]! : event.seq > given
      if (isNew) this.#hole(event.conv, given === 0 ? undefined : given, event.seq)
    }
    this.#dirty = missed.length > 0
    this.#repair()
  }

  /** Some of the node's stream is missing, which had brought everything up to `progress`. */
  suspend(progress: Vector): void {
    this.#losses++
    if (this.#suspended) return
    this.#suspended = true
    if (this.#floor !== undefined) this.#since = furthest(this.#floor, progress)
  }

  /** What was lost until now is in what is about to be read, since this has not started yet. */
  begin(): void {
    this.#suspended = false
  }

  /** Holds events back, so that they come after what is about to be read. Answers which loss it is about, for `resume`. */
  hold(): number {
    return (this.#holding = this.#losses)
  }

  /**
   * Goes on after a loss. Since `hold` the route was there and `barrier` was read; `missed` is what happened after {@link since} and up to it. Of that
   * some may have been given. After another loss since that `hold` it stays suspended, also where that one has begun to hold meanwhile: this barrier was read before its routes
   * were made.
   */
  resume(loss: number, barrier: Vector, missed: ReadonlyArray<MissedConversation>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (const item of missed) {
        if (item._tag !== "Replay") yield* this.#owner.out.room
        if (this.#ended) return
        this.#missed(item)
      }
      if (loss !== this.#losses) return
      this.#floor = furthest(this.#floor!, barrier)
      this.#suspended = false
      this.#since = this.#holding = undefined
      const held: ReadonlyMap<ConversationId, TimelineEvent> = this.#held ?? NONE
      this.#held = undefined
      for (const event of held.values()) this.event(event, () => eventFrame(event))
    })
  }

  #missed(item: MissedConversation): void {
    const { conv } = item
    const given = this.#given?.get(conv)
    if (item._tag === "Gone") {
      if (given?.gone === true) return
      this.#pulls?.delete(conv)
      this.#tell(item)
      // Should they come back, it goes on from what this connection was given.
      if (given !== undefined && given.seq > 0) this.#remember(conv, { ...given, gone: true })
      return
    }
    const pull = this.#pulls?.get(conv)
    if (pull === undefined && given !== undefined && given.seq >= item.head) return
    // One who was told to be gone has come back, and begins there.
    if (item._tag === "Replay") return this.#hole(conv, given?.seq === 0 ? undefined : given?.seq, item.head)
    this.#pulls?.delete(conv)
    this.#tell({ ...item, head: Math.max(item.head, pull?.to ?? 0) })
    this.#dirty = true
  }

  /** Tells of conversations of which nothing will be replayed. Waits for room in the queue. */
  announce(missed: ReadonlyArray<MissedConversation>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (const item of missed) {
        if (item._tag === "Replay") continue
        yield* this.#owner.out.room
        this.#tell(item)
      }
    })
  }

  #tell(item: Exclude<MissedConversation, { readonly _tag: "Replay" }>): void {
    const { conv } = item
    if (item._tag === "Gone") {
      this.#owner.push(new Frame({ t: "gone", conv }))
      this.#remember(conv, { seq: 0, position: 0, gone: true })
    } else {
      this.#owner.push(new Frame({ t: "reset", conv, head: item.head }))
      this.#remember(conv, { seq: item.head, position: UNKNOWN, gone: false })
    }
  }

  /** Takes events that were addressed to this user, as {@link event} does each of them; mostly in one step, since they follow on what was given. */
  run(run: Run): void {
    const { conv, first, last } = run
    const given = this.#given?.get(conv)
    const follows = given !== undefined && given.seq > 0 && first.seq === given.seq + 1
    if (!follows || !run.isPlain || this.#ended || !this.isLive(conv)) return this.#each(run, () => true)
    given.seq = last.seq
    given.position = last.position
    this.#gave(last)
    this.#owner.pushRun(run)
  }

  /** Takes a run of which this session has sent some events: those, and the others where they are addressed to its user. */
  own(run: Run, isAddressed: boolean): void {
    this.#each(run, (event) => isAddressed || event.origin?.session === this.#owner.id)
  }

  #each(run: Run, isMine: (event: TimelineEvent) => boolean): void {
    run.items.forEach(({ event }, index) => {
      if (isMine(event)) this.event(event, () => run.frames[index]!)
    })
  }

  /** Takes an event that was addressed to this user. `frame` is made once for all who are given it. */
  event(event: TimelineEvent, frame: () => Frame): void {
    if (this.#ended) return
    const floor = this.#floor
    if (floor === undefined || this.#holding !== undefined) {
      const held = (this.#held ??= new Map<ConversationId, TimelineEvent>())
      // What is looked up, or told again, may be older.
      if (event.seq > (held.get(event.conv)?.seq ?? 0)) held.set(event.conv, event)
      return
    }
    const pull = this.#pulls?.get(event.conv)
    if (pull !== undefined) {
      if (event.seq > pull.to) pull.to = event.seq
      return
    }
    const given = this.#given?.get(event.conv)
    if (given !== undefined && given.seq > 0) {
      if (event.seq <= given.seq) return
      if (event.seq === given.seq + 1) this.#give(event, frame)
      else this.#missing(event, given.seq)
      return
    }
    const start = floor[event.partition]!
    if (event.position <= start) return
    const follows = event.prev <= start && given === undefined
    if (follows || adds(event, this.#owner.user)) this.#give(event, frame)
    else this.#missing(event, undefined)
  }

  /** Something came that does not follow on. */
  #missing(event: TimelineEvent, after: Seq | undefined): void {
    this.#owner.node.metrics.update("holes", 1)
    this.#hole(event.conv, after, event.seq)
  }

  /**
   * A cursor is due when it covers something that was given since the last one and nothing is being repaired. `progress` is what this node's
   * stream has brought; the answer is the vector up to which this connection was given everything.
   */
  cursor(progress: Vector): Vector | undefined {
    if ((!this.#dirty && this.#beyond === undefined) || !this.#settled) return undefined
    const floor = this.#floor!
    let isDue = this.#dirty
    for (const [partition, position] of this.#beyond ?? []) {
      if (position > Math.max(floor[partition]!, progress[partition] ?? 0)) continue
      this.#beyond!.delete(partition)
      isDue = true
    }
    if (this.#beyond?.size === 0) this.#beyond = undefined
    if (!isDue) return undefined
    this.#dirty = false
    const vector = furthest(floor, progress)
    if ((this.#given?.size ?? 0) > REMEMBERED) this.#compact(vector)
    return vector
  }

  /** Ends every repair. */
  end(): void {
    this.#ended = true
    this.#pulls = undefined
    this.#given = undefined
  }

  #compact(vector: Vector): void {
    this.#floor = vector
    for (const [conv, given] of this.#given!) {
      if (!given.gone && given.position <= vector[this.#owner.node.partitionOf(conv)]!) this.#given!.delete(conv)
    }
  }

  #remember(conv: ConversationId, given: Given): void {
    this.#given ??= new Map()
    this.#given.set(conv, given)
  }

  #give(event: TimelineEvent, frame: () => Frame, isBack = false): void {
    const owner = this.#owner
    const gone = !isBack && removedBy(event).includes(owner.user)
    this.#remember(event.conv, { seq: event.seq, position: event.position, gone })
    this.#gave(event)
    if (event.origin?.session === owner.id) {
      owner.settled(event)
      owner.push(answerFrame({ ...event, rid: event.origin.rid }, false))
    } else {
      owner.push(frame())
    }
    if (gone) owner.push(new Frame({ t: "gone", conv: event.conv }))
  }

  /** A cursor is due that covers it. */
  #gave({ partition, position }: TimelineEvent): void {
    this.#beyond ??= new Map()
    this.#beyond.set(partition, Math.max(position, this.#beyond.get(partition) ?? 0))
  }

  #hole(conv: ConversationId, after: Seq | undefined, to: Seq): void {
    const pulls = (this.#pulls ??= new Map<ConversationId, Pull>())
    const pull = pulls.get(conv)
    if (pull === undefined) pulls.set(conv, { after, to, floor: this.#floor![this.#owner.node.partitionOf(conv)]! })
    else pull.to = Math.max(pull.to, to)
    this.#repair()
  }

  #repair(): void {
    if (this.#pulling || (this.#pulls?.size ?? 0) === 0) return
    this.#pulling = true
    this.#owner.node.fork(
      Effect.gen({ self: this }, function* () {
        while (!this.#ended && this.#pulls !== undefined && this.#pulls.size > 0) {
          for (const [conv, pull] of this.#pulls) yield* this.#fill(conv, pull)
        }
        this.#pulling = false
      })
    )
  }

  /** Gives what is missing of one conversation, page by page as the queue empties. */
  #fill(conv: ConversationId, pull: Pull): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      let failures = 0
      // A reset, or being told to be gone, makes it superfluous.
      const isOver = (): boolean => this.#ended || this.#pulls?.get(conv) !== pull
      while (!isOver()) {
        const page = yield* Effect.result(this.#page(conv, pull))
        if (isOver()) return
        if (page._tag === "Failure" && ++failures < PULL_ATTEMPTS) {
          yield* Effect.sleep(50 * 2 ** failures)
          continue
        }
        // What cannot be given here the client reads itself.
        if (page._tag === "Failure" || page.success === undefined) return this.#reset(conv, pull)
        failures = 0
        for (const event of page.success) {
          yield* this.#owner.out.room
          if (isOver()) return
          if (event.seq > pull.to) break
          // One who is in it again by the end of this was away for a while, and is not gone.
          this.#give(event, () => eventFrame(event), event.seq < pull.to)
          pull.after = event.seq
        }
        if ((pull.after ?? 0) >= pull.to) {
          this.#pulls?.delete(conv)
          return
        }
        if (page.success.length > 0) continue
        // Nothing of it is for one who is gone.
        if (this.#given?.get(conv)?.seq === 0) this.#pulls?.delete(conv)
        else this.#reset(conv, pull)
        return
      }
    })
  }

  #reset(conv: ConversationId, pull: Pull): void {
    if (this.#ended) return
    this.#pulls?.delete(conv)
    this.#tell({ _tag: "Reset", conv, head: pull.to })
    this.#dirty = true
  }

  /** The next events that are missing; undefined when they are too many to find out from where. */
  #page(conv: ConversationId, pull: Pull): Effect.Effect<ReadonlyArray<TimelineEvent> | undefined, QueryRefused> {
    const { queries } = this.#owner.node
    if (pull.after !== undefined) return queries.pull(conv, pull.after, PULL_EVENTS)
    const from = Math.max(0, pull.to - REPLAY_PER_CONVERSATION - 1)
    return queries.pull(conv, from, REPLAY_PER_CONVERSATION + 1).pipe(
      Effect.map((events) => {
        const { user } = this.#owner
        const missing = events.filter((event) => event.position > pull.floor && event.seq <= pull.to)
        const back = missing.findIndex((event) => adds(event, user))
        // One who was told to be gone, or was no member at the floor, begins where they are taken in.
        const isGone = this.#given?.get(conv)?.seq === 0
        if (isGone && back >= 0) return missing.slice(back)
        if (missing.length > REPLAY_PER_CONVERSATION) return undefined
        if (isGone) return []
        const wasMember = back < 0 || missing.slice(0, back).some((event) => removedBy(event).includes(user))
        return wasMember ? missing : missing.slice(back)
      })
    )
  }
}
