/** What writes to the log in MongoDB: `append`, `claim` and `relayed`, one after another, in one session. */
import type { Binary, ClientSession, Db, Document } from "mongodb"
import type { ConversationId, Seq } from "../domain/ids.ts"
import type { MongoConnection } from "../platform/MongoConnection.ts"
import type { AppendBatch, OutboxEntry, PartitionHead, PartitionRun } from "./EventLog.ts"
import {
  claimId,
  type Collections,
  collectionsOf,
  edgeOf,
  type HeadDoc,
  headId,
  ID_BASE,
  memberId
} from "./EventLogMongoFormat.ts"
import { commandsOf, type Move, nextEpoch, type Operation, operationsOf } from "./EventLogMongoOperations.ts"
import { Certain, transact, TryAgain } from "./EventLogMongoTransaction.ts"
import { encodeEvent, type Growth, growthOf, MalformedBatch, MAX_COUNTERS } from "./EventLogRecords.ts"

/** Conversations whose newest event is remembered, some 150 bytes each. Of the others it is looked up. */
const REMEMBERED = 50_000
/** Longer than any write takes, and shorter than the driver waits for an answer: a write that is stuck ends here, and not later there. */
const WRITE_MS = 7_000
/**
 * How long taking entries out of the outbox may take; they are tried again soon. A head that is held by the transaction of a process that stands still
 * is not waited for, since the claim that ends it would wait too.
 */
const RELAYED_MS = 1_000
const DUPLICATE = 11000
/** No try will do better: the document is not as the collection's schema wants it, or too large. */
const MALFORMED: ReadonlyArray<number> = [121, 10334]

/** Another committer has written, or will: these partitions are not as the batch assumes. */
export class HeadsMoved extends Certain {
  readonly partitions: ReadonlyArray<number>
  constructor(partitions: ReadonlyArray<number>) {
    super(`partition ${partitions.join(", ")} has another head`)
    this.partitions = partitions
  }
}

/** The batch does not follow on what the log holds. */
export class NotNew extends Error {}

/** What a bulk write answers, as far as it is looked at. */
interface BulkAnswer {
  readonly nMatched: number
  readonly nUpserted: number
  readonly cursor: { readonly firstBatch: ReadonlyArray<WriteError> }
}

interface WriteError {
  readonly idx: number
  readonly code: number
  readonly errmsg: string
}

/** What is known of a partition while this process owns it. */
interface Owned {
  readonly epoch: number
  position: number
  /** Least recently moved first. */
  readonly edges: Set<string>
  /** The number of the last move. */
  moved: number
}

/**
 * The caller sees to it that one method ends before the next begins. They throw {@link HeadsMoved}, {@link NotNew}, `MalformedBatch` and `OutcomeUnknown`, and what
 * the driver throws: then nothing was written.
 */
export class Writer {
  readonly #mongo: MongoConnection
  readonly #partitions: number
  /** Made once: what a database is made of is looked up with every one that is made. */
  readonly #admin: Db
  readonly #is: Collections
  readonly #retried: () => void
  /** One for all transactions, so that whoever takes a partition over can end it: every head names it. */
  readonly #session: ClientSession
  readonly #owned = new Map<number, Owned>()
  /** The newest events of conversations, or such as were: an event that is in the log never changes. Least recently used first. */
  readonly #newest = new Map<ConversationId, { readonly seq: Seq; readonly position: number }>()

  constructor(mongo: MongoConnection, partitions: number, retried: () => void) {
    this.#mongo = mongo
    this.#partitions = partitions
    this.#admin = mongo.client.db("admin")
    this.#is = collectionsOf(mongo.db)
    this.#retried = retried
    this.#session = mongo.client.startSession({ causalConsistency: false })
  }

  close(): Promise<void> {
    return this.#session.endSession()
  }

  /** The log holds this event of a conversation. */
  remember(conv: ConversationId, seq: Seq, position: number): void {
    this.#newest.delete(conv)
    this.#newest.set(conv, { seq, position })
    if (this.#newest.size > REMEMBERED) this.#newest.delete(this.#newest.keys().next().value!)
  }

  async append(batch: AppendBatch, signal: AbortSignal): Promise<void> {
    const grown = growthOf(batch, this.#partitions)
    await this.#checkNewest(grown)
    const moves = new Map<number, Move>()
    const moved: Array<number> = []
    for (const run of batch.runs) {
      const owned = await this.#ownedBy(run)
      if (owned.position !== run.position) moved.push(run.partition)
      moves.set(run.partition, moveOf(run, owned))
    }
    if (moved.length > 0) throw new HeadsMoved(moved)
    const { matches, operations } = operationsOf(batch, grown, moves)
    if (operations.length === 0) return
    try {
      await transact(this.#session, {
        signal,
        retried: this.#retried,
        work: (inDoubt) => this.#write(batch, operations, matches, inDoubt),
        landed: () => this.#landed(batch)
      })
    } catch (cause) {
      // What is known of the partitions may be true no longer, unless the batch was refused.
      if (!(cause instanceof NotNew)) for (const { partition } of batch.runs) this.#owned.delete(partition)
      throw cause
    }
    for (const { counters, events, partition } of batch.runs) {
      const owned = this.#owned.get(partition)!
      const { gone, moved } = moves.get(partition)!
      owned.position += events.length
      owned.moved = moved
      for (const edge of Object.keys(counters)) {
        owned.edges.delete(edge)
        owned.edges.add(edge)
      }
      for (const edge of gone) owned.edges.delete(edge)
    }
    for (const { conv, events } of grown.values()) {
      const last = events[events.length - 1]!
      this.remember(conv, last.seq, last.position)
    }
  }

  /**
   * The sessions of the former owners are ended first, and those of others who claimed: one that died or was stopped within its transaction would hold the head for a minute. That
   * is done before every try, since an owner that is well goes on until it finds that it is none.
   */
  async claim(
    partitions: ReadonlyArray<number>,
    owner: string,
    signal: AbortSignal
  ): Promise<ReadonlyArray<PartitionHead>> {
    const wrong = partitions.find((partition) => !(partition >= 0 && partition < this.#partitions))
    if (wrong !== undefined) throw new MalformedBatch(`There is no partition ${wrong}.`)
    const claimed = { partition: { $in: [...new Set(partitions)] } }
    for (const partition of partitions) this.#owned.delete(partition)
    const session = this.#session.id!.id
    const heads = await transact(this.#session, {
      signal,
      retried: this.#retried,
      work: async () => {
        const rivals = await this.#announce(partitions)
        const owners = await this.#is.heads.find(claimed, { projection: { session: 1 } }).toArray()
        await this.#endSessions([...owners.map((head) => head.session), ...rivals])
        await this.#forgetRivals(partitions, rivals)
        const heads = await this.#is.heads.find(claimed, { session: this.#session }).toArray()
        const operations: Array<Operation> = []
        const raised = heads.map((head) => {
          const [next, ...replaced] = nextEpoch(head, owner, session)
          operations.push(...replaced)
          return next
        })
        const { error } = await this.#bulk(operations)
        if (error !== undefined) throw error
        return new Map(raised.map((head) => [head.partition, head]))
      },
      // Epochs only have to grow: one that nobody was told of does no harm.
      landed: async () => undefined
    })
    return partitions.map((partition) => {
      const head = heads.get(partition)
      if (head === undefined) throw new MalformedBatch(`The head of partition ${partition} is missing.`)
      return this.#own(head)
    })
  }

  async relayed(entries: ReadonlyArray<OutboxEntry>): Promise<void> {
    const fields = new Map<number, Record<string, 1>>()
    for (const { from, partition } of entries)
      fields.set(partition, { ...fields.get(partition), [`outbox.${from}`]: 1 })
    await this.#is.heads.bulkWrite(
      [...fields].map(([partition, $unset]) => ({ updateOne: { filter: { partition }, update: { $unset } } })),
      { ordered: false, maxTimeMS: RELAYED_MS }
    )
  }

  #own(head: HeadDoc): PartitionHead {
    const moves = Object.entries(head.counters)
      .map(([field, [counter, moved]]) => ({ edge: edgeOf(field), counter, moved }))
      .sort((a, b) => a.moved - b.moved)
    this.#owned.set(head.partition, {
      epoch: head.epoch,
      position: head.position,
      edges: new Set(moves.map(({ edge }) => edge)),
      moved: moves.at(-1)?.moved ?? 0
    })
    return {
      partition: head.partition,
      position: head.position,
      epoch: head.epoch,
      counters: Object.fromEntries(moves.map(({ counter, edge }) => [edge, counter]))
    }
  }

  /** What is known of a partition; learned anew when it is not known, or not since the epoch that the run has. */
  async #ownedBy({ epoch, partition }: PartitionRun): Promise<Owned> {
    const known = this.#owned.get(partition)
    if (known?.epoch === epoch) return known
    const session = this.#session.id!.id
    const head = await this.#is.heads.findOneAndUpdate(
      { _id: headId(partition, epoch) },
      { $set: { session } },
      { returnDocument: "after" }
    )
    if (head === null) throw new HeadsMoved([partition])
    this.#own(head)
    return this.#owned.get(partition)!
  }

  /** That the conversations are where the batch builds on. The index on (conv, seq) sees to it that nothing is there yet. */
  async #checkNewest(grown: ReadonlyMap<ConversationId, Growth>): Promise<void> {
    const unknown: Array<Growth> = []
    for (const growth of grown.values()) {
      const { position, seq } = growth.before
      const newest = this.#newest.get(growth.conv)
      if (newest?.seq === seq && newest.position === position) continue
      if (seq === 0 && position === 0) continue
      unknown.push(growth)
    }
    if (unknown.length === 0) return
    const ids = unknown.map(({ before, events }) => events[0]!.partition * ID_BASE + before.position)
    const found = new Map(
      (await this.#is.events.find({ _id: { $in: ids } }, { projection: { conv: 1, seq: 1 } }).toArray()).map(
        (event) => [event._id, event]
      )
    )
    unknown.forEach(({ before, conv }, i) => {
      const event = found.get(ids[i]!)
      if (event?.conv !== conv || event.seq !== before.seq) {
        throw new NotNew(
          `${conv} has no event ${before.seq} at position ${before.position}, and the batch builds on it.`
        )
      }
      this.remember(conv, before.seq, before.position)
    })
  }

  async #write(
    batch: AppendBatch,
    operations: ReadonlyArray<Operation>,
    matches: number,
    inDoubt: boolean
  ): Promise<true> {
    const { error, matched } = await this.#bulk(operations)
    if (error === undefined && matched === matches) return true
    // Nothing will come of this transaction, and what is looked at now is what is outside of it.
    await this.#session.abortTransaction()
    const partition = { $in: batch.runs.map((run) => run.partition) }
    const found = await this.#is.heads.find({ partition }).toArray()
    const heads = new Map(found.map((head) => [head.partition, head]))
    const differ = (field: "epoch" | "position"): ReadonlyArray<number> =>
      batch.runs.filter((run) => heads.get(run.partition)?.[field] !== run[field]).map(({ partition }) => partition)
    const taken = differ("epoch")
    if (taken.length > 0) throw new HeadsMoved([...new Set([...taken, ...differ("position")])])
    // It may be what this batch wrote itself, and is not told apart from that of others before a majority has it.
    if (inDoubt) throw new TryAgain(error?.message ?? "a head was not found as it should be")
    const moved = differ("position")
    if (moved.length > 0) throw new HeadsMoved(moved)
    if (error !== undefined) throw error
    if (await this.#lacksMembers(batch)) throw new MalformedBatch("Somebody who is no member is to be changed as one.")
    throw new TryAgain("a head was not found as it should be")
  }

  async #lacksMembers({ members }: AppendBatch): Promise<boolean> {
    const ids = members.map(({ conv, user }) => memberId(conv, user))
    return (await this.#is.members.countDocuments({ _id: { $in: ids } })) < new Set(ids).size
  }

  /** Whether the log holds what the batch adds to it, at the places where the batch puts it. */
  async #landed({ runs }: AppendBatch): Promise<true | undefined> {
    const last = runs.flatMap(({ events }) => events.slice(-1))
    if (last.length === 0) return undefined
    const texts = new Map(last.map((event) => [event.partition * ID_BASE + event.position, encodeEvent(event)]))
    const found = await this.#is.events.find({ _id: { $in: [...texts.keys()] } }).toArray()
    return found.length === texts.size && found.every(({ _id, event }) => texts.get(_id) === event) ? true : undefined
  }

  /** Writes within the transaction; stops at what the server refuses. */
  async #bulk(operations: ReadonlyArray<Operation>): Promise<{ readonly matched: number; readonly error?: Error }> {
    let matched = 0
    let done = 0
    for (const command of commandsOf(this.#mongo.db.databaseName, operations)) {
      const answer = (await this.#admin.command(
        { ...command, maxTimeMS: WRITE_MS },
        { session: this.#session }
      )) as unknown as BulkAnswer
      matched += answer.nMatched + answer.nUpserted
      const [refused] = answer.cursor.firstBatch
      if (refused !== undefined) return { matched, error: errorOf(refused, operations[done + refused.idx]!) }
      done += (command["ops"] as ReadonlyArray<Document>).length
    }
    return { matched }
  }

  /**
   * Says who is about to claim, before the transaction that does: the heads name it only once that is committed. Answers who else has said so and was not ended
   * since.
   */
  async #announce(partitions: ReadonlyArray<number>): Promise<ReadonlyArray<Binary>> {
    const own = this.#session.id!.id
    await this.#is.claims.bulkWrite(
      partitions.map((partition) => ({
        updateOne: { filter: { _id: claimId(partition) }, update: { $addToSet: { sessions: own } }, upsert: true }
      })),
      { ordered: false, maxTimeMS: WRITE_MS }
    )
    const claims = await this.#is.claims.find({ _id: { $in: partitions.map(claimId) } }).toArray()
    return claims.flatMap(({ sessions }) =>
      sessions.filter((session) => session.toString("hex") !== own.toString("hex"))
    )
  }

  async #forgetRivals(partitions: ReadonlyArray<number>, rivals: ReadonlyArray<Binary>): Promise<void> {
    if (rivals.length === 0) return
    await this.#is.claims.updateMany(
      { _id: { $in: partitions.map(claimId) } },
      { $pullAll: { sessions: [...rivals] } },
      { maxTimeMS: WRITE_MS }
    )
  }

  async #endSessions(sessions: ReadonlyArray<Binary | null>): Promise<void> {
    const ids = new Map(sessions.flatMap((session) => (session === null ? [] : [[session.toString("hex"), session]])))
    if (ids.size === 0) return
    await this.#admin.command({ killSessions: [...ids.values()].map((id) => ({ id })) })
  }
}

/** What the run's counters come to, and which edges are forgotten because of them. */
const moveOf = ({ counters }: PartitionRun, { edges, moved }: Owned): Move => {
  const fresh = Object.keys(counters).filter((edge) => !edges.has(edge)).length
  const gone: Array<string> = []
  let over = edges.size + fresh - MAX_COUNTERS
  for (const edge of edges) {
    if (over <= 0) break
    if (counters[edge] !== undefined) continue
    gone.push(edge)
    over--
  }
  return { moved: moved + 1, gone }
}

const errorOf = ({ code, errmsg }: WriteError, operation: Operation): Error => {
  if (MALFORMED.includes(code)) return new MalformedBatch(`MongoDB refuses what is to be written: ${errmsg}`)
  if (code !== DUPLICATE || !("insert" in operation)) return new Error(errmsg)
  const { _id, conv, seq } = operation.document
  if (conv === undefined || seq === undefined) return new NotNew(`there is a document ${String(_id)} already`)
  return errmsg.includes("index: key ")
    ? new NotNew(`the cid of ${conv}/${seq} has been used by its sender before.`)
    : new NotNew(`${conv} has an event ${seq} already.`)
}
