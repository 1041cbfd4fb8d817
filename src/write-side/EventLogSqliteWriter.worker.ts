/** The thread that writes the log's SQLite file. It waits for the disk, so that the sockets need not. */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { serve } from "../platform/worker/serve.ts"
import { sqliteProblem, statements, transaction } from "../platform/worker/sqlite.ts"
import { glance, MAX_COUNTERS, MAX_ROWS } from "./EventLogRecords.ts"
import {
  cidKeys,
  type ConversationRow,
  ENTRY_BYTES,
  type LogFile,
  LogIndex,
  metaOf,
  openLog,
  SLICE,
  slicePositions
} from "./EventLogSqliteFile.ts"

/** What `append` writes. Flat lists: copying them between threads costs a fraction of what objects cost. */
export interface FlatBatch {
  readonly at: number
  /** partition, epoch, position, number of events */
  readonly runs: ReadonlyArray<number>
  /** partition, edge, counter */
  readonly counters: ReadonlyArray<number | string>
  /** id, record; in the order of the runs */
  readonly events: ReadonlyArray<number | string>
  /** conv, title, seq, at, position, seq before, position before, number of additions */
  readonly conversations: ReadonlyArray<string | number | null>
  /** The timeline events of these conversations, in their order: partition, position, sender, cid, target (0 for none) */
  readonly additions: ReadonlyArray<number | string>
  /** conv, user, admin (0 or 1), since, delivered, seen, left */
  readonly members: ReadonlyArray<string | number>
  /** user, at, conv: first messages of direct conversations */
  readonly openings: ReadonlyArray<string | number>
  /** at, partition, first */
  readonly relayed: ReadonlyArray<number>
}

/** Why nothing was appended; undefined when everything was. */
export type Refusal =
  | { readonly _tag: "Fenced"; readonly partitions: ReadonlyArray<number> }
  | { readonly _tag: "AlreadyInLog"; readonly detail: string }

/** partition, position, epoch, then edge and counter in turn, least recently moved first. */
export type FlatHead = readonly [partition: number, position: number, epoch: number, ...counters: Array<number | string>]
/** title, seq, at, position, then user, admin, since, delivered, seen in turn. */
export type FlatConversation = readonly [
  title: string | null,
  seq: number,
  at: number,
  position: number,
  ...members: Array<string | number>
]

/** The questions of `prepare`. */
export interface FlatQuestions {
  readonly conversations: ReadonlyArray<string>
  /** conv, partition, sender, cid */
  readonly cids: ReadonlyArray<string | number>
  /** conv, partition, seq */
  readonly targets: ReadonlyArray<string | number>
  readonly openers: ReadonlyArray<string>
  readonly openedSince: number
}

/** The answers, in their order. */
export interface FlatAnswers {
  readonly conversations: ReadonlyArray<FlatConversation | undefined>
  readonly priors: ReadonlyArray<{ readonly seq: number; readonly at: number; readonly digest: string } | undefined>
  readonly authors: ReadonlyArray<string | undefined>
  readonly opened: ReadonlyArray<number>
}

/** Rows that one INSERT takes. More are hardly faster. */
const MANY = 16

/** Thrown to roll a transaction back. */
class Refused extends Error {
  readonly refusal: Refusal
  constructor(refusal: Refusal) {
    super(refusal._tag)
    this.refusal = refusal
  }
}

const taken = (detail: string): Refused => new Refused({ _tag: "AlreadyInLog", detail })

class Writer {
  readonly #db: DatabaseSync
  readonly #index: LogIndex
  readonly #cidKey: (by: string, cid: string) => number
  readonly #sql: (sql: string) => StatementSync
  readonly #inserts = new Map<string, { readonly many: StatementSync; readonly one: StatementSync }>()

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#index = new LogIndex(db)
    this.#cidKey = cidKeys(metaOf(db, "salt"))
    this.#sql = statements(db)
  }

  claim(partitions: ReadonlyArray<number>, owner: string): ReadonlyArray<FlatHead> {
    return transaction(this.#db, () =>
      partitions.map((partition): FlatHead => {
        const head = this.#sql(
          "UPDATE partition_heads SET epoch = epoch + 1, owner = ? WHERE partition = ? RETURNING position, epoch"
        ).get(owner, partition) as unknown as [number, number] | undefined
        if (head === undefined) throw new Error(`There is no partition ${partition}.`)
        const counters = this.#sql("SELECT edge, counter FROM counters WHERE partition = ? ORDER BY moved").all(partition)
        return [partition, ...head, ...(counters as unknown as Array<[string, number]>).flat()]
      })
    )
  }

  append(batch: FlatBatch): Refusal | undefined {
    try {
      transaction(this.#db, () => {
        this.#moveHeads(batch)
        this.#insert("events", 2, batch.events)
        const ids = this.#grow(batch)
        this.#members(batch.members, ids)
        this.#insert("openings", 3, batch.openings)
        this.relayedIn(batch.relayed)
      })
      return undefined
    } catch (cause) {
      if (cause instanceof Refused) return cause.refusal
      throw cause
    }
  }

  prepare(questions: FlatQuestions): FlatAnswers {
    const rows = new Map<string, ConversationRow | undefined>()
    const row = (conv: string): ConversationRow | undefined => {
      if (!rows.has(conv)) rows.set(conv, this.#index.conversation(conv))
      return rows.get(conv)
    }
    const priors: Array<FlatAnswers["priors"][number]> = []
    const { cids, targets } = questions
    for (let i = 0; i < cids.length; i += 4) {
      const conversation = row(cids[i] as string)
      priors.push(
        conversation && this.#prior(conversation, cids[i + 1] as number, cids[i + 2] as string, cids[i + 3] as string)
      )
    }
    const authors: Array<string | undefined> = []
    for (let i = 0; i < targets.length; i += 3) {
      const conversation = row(targets[i] as string)
      const position = conversation && this.#index.position(conversation, targets[i + 2] as number)
      const found = position === undefined ? undefined : glance(this.#index.record(targets[i + 1] as number, position))
      authors.push(found?.type === "message" ? found.by : undefined)
    }
    const opened = this.#sql("SELECT count(*) FROM openings WHERE user = ? AND at >= ?")
    return {
      conversations: questions.conversations.map((conv) => {
        const found = row(conv)
        return found && [found.title, found.seq, found.at, found.position, ...this.#index.members(found.id)]
      }),
      priors,
      authors,
      opened: questions.openers.map((user) => (opened.get(user, questions.openedSince) as unknown as [number])[0])
    }
  }

  outbox(until: number, limit: number, partition: number | undefined): ReadonlyArray<number> {
    const most = Math.min(limit, MAX_ROWS)
    const rows =
      partition === undefined
        ? this.#sql("SELECT partition, first, last, at FROM outbox WHERE at <= ? ORDER BY at, partition, first LIMIT ?").all(until, most)
        : this.#sql(
            "SELECT partition, first, last, at FROM outbox WHERE at <= ? AND partition = ? ORDER BY at, partition, first LIMIT ?"
          ).all(until, partition, most)
    return (rows as unknown as Array<Array<number>>).flat()
  }

  relayed(entries: ReadonlyArray<number>): void {
    transaction(this.#db, () => this.relayedIn(entries))
  }

  relayedIn(entries: ReadonlyArray<number>): void {
    const remove = this.#sql("DELETE FROM outbox WHERE at = ? AND partition = ? AND first = ?")
    for (let i = 0; i < entries.length; i += 3) remove.run(entries[i]!, entries[i + 1]!, entries[i + 2]!)
  }

  #prior(row: ConversationRow, partition: number, by: string, cid: string) {
    for (const position of this.#index.keyed(row, this.#cidKey(by, cid))) {
      const found = glance(this.#index.record(partition, position))
      if (found.by === by && found.cid === cid) return { seq: found.seq, at: found.at, digest: found.digest }
    }
    return undefined
  }

  #moveHeads({ at, counters, runs }: FlatBatch): void {
    const move = this.#sql(
      "UPDATE partition_heads SET position = ?, commits = commits + 1 WHERE partition = ? AND epoch = ? AND position = ?"
    )
    const entry = this.#sql("INSERT INTO outbox (at, partition, first, last) VALUES (?, ?, ?, ?)")
    const fenced: Array<number> = []
    for (let i = 0; i < runs.length; i += 4) {
      const partition = runs[i]!
      const position = runs[i + 2]!
      const last = position + runs[i + 3]!
      if (move.run(last, partition, runs[i + 1]!, position).changes === 0) fenced.push(partition)
      else if (last > position) entry.run(at, partition, position + 1, last)
    }
    if (fenced.length > 0) throw new Refused({ _tag: "Fenced", partitions: fenced })
    for (let i = 0; i < counters.length; i += 3) {
      this.#count(counters[i] as number, counters[i + 1] as string, counters[i + 2] as number)
    }
  }

  #count(partition: number, edge: string, counter: number): void {
    const moved = "(SELECT commits FROM partition_heads WHERE partition = ?2)"
    const update = this.#sql(`UPDATE counters SET counter = ?1, moved = ${moved} WHERE partition = ?2 AND edge = ?3`)
    if (update.run(counter, partition, edge).changes > 0) return
    this.#sql(`INSERT INTO counters (partition, edge, counter, moved) VALUES (?2, ?3, ?1, ${moved})`).run(counter, partition, edge)
    this.#sql(
      `DELETE FROM counters WHERE partition = ?1 AND edge IN
        (SELECT edge FROM counters WHERE partition = ?1 ORDER BY moved DESC LIMIT -1 OFFSET ${MAX_COUNTERS})`
    ).run(partition)
  }

  /** Moves the heads of the conversations that grew, and makes their events findable. Answers their numbers. */
  #grow({ additions, conversations }: FlatBatch): Map<string, number> {
    const ids = new Map<string, number>()
    const move = this.#sql("UPDATE conversations SET title = ?, seq = ?, at = ?, position = ?, tail = ? WHERE id = ?")
    let next = 0
    for (let i = 0; i < conversations.length; i += 8) {
      const conv = conversations[i] as string
      const beforeSeq = conversations[i + 5] as number
      const row = this.#index.conversation(conv) ?? this.#newConversation(conv)
      if (row.seq !== beforeSeq || row.position !== conversations[i + 6]) {
        throw taken(`${conv} is at ${row.seq}, and the batch builds on ${beforeSeq}.`)
      }
      const end = next + 5 * (conversations[i + 7] as number)
      const tail = this.#add(row, additions.slice(next, end))
      next = end
      const [title, seq, at, position] = conversations.slice(i + 1, i + 5) as [string | null, number, number, number]
      move.run(title, seq, at, position, tail, row.id)
      ids.set(conv, row.id)
    }
    return ids
  }

  /** Makes a conversation's new events findable, and answers its new tail. */
  #add(row: ConversationRow, additions: ReadonlyArray<number | string>): Buffer {
    const amendment = this.#sql("INSERT INTO amendments (conversation, target, position) VALUES (?, ?, ?)")
    const entries = Buffer.allocUnsafe(SLICE * ENTRY_BYTES)
    let used = row.tail.copy(entries)
    let seq = row.seq
    for (let i = 0; i < additions.length; i += 5) {
      const [partition, position, by, cid, target] = additions.slice(i, i + 5) as [number, number, string, string, number]
      const key = this.#cidKey(by, cid)
      const prior = key === 0 ? undefined : this.#prior({ ...row, seq, tail: entries.subarray(0, used) }, partition, by, cid)
      if (prior !== undefined) throw taken(`${by} has used the cid ${cid} in ${row.conv} before, for ${prior.seq}.`)
      if (target > 0) amendment.run(row.id, target, position)
      entries.writeUIntLE(key, used, 6)
      entries.writeUIntLE(position, used + 6, 6)
      used += ENTRY_BYTES
      seq++
      if (used < entries.length) continue
      this.#addSlice(row.id, seq / SLICE - 1, entries)
      used = 0
    }
    return entries.subarray(0, used)
  }

  #newConversation(conv: string): ConversationRow {
    const tail = Buffer.alloc(0)
    const insert = this.#sql("INSERT INTO conversations (conv, seq, at, position, tail) VALUES (?, 0, 0, 0, ?)")
    const id = Number(insert.run(conv, tail).lastInsertRowid)
    return { id, conv, title: null, seq: 0, at: 0, position: 0, tail }
  }

  #addSlice(id: number, slice: number, entries: Buffer): void {
    this.#sql("INSERT INTO slices (conversation, slice, positions) VALUES (?, ?, ?)").run(id, slice, slicePositions(entries))
    const cids: Array<number> = []
    for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
      const key = entries.readUIntLE(at, 6)
      if (key !== 0) cids.push(id, key, entries.readUIntLE(at + 6, 6))
    }
    this.#insert("cids", 3, cids)
  }

  #members(members: ReadonlyArray<string | number>, ids: Map<string, number>): void {
    // What a mark changes is not in the membership, so most of these touch one row.
    const marks = this.#sql(
      "UPDATE members SET delivered = ?, seen = ? WHERE conversation = ? AND user = ? AND admin = ? AND since = ? AND left = ?"
    )
    const member = this.#sql(
      `INSERT INTO members (conversation, user, admin, since, delivered, seen, left) VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET (admin, since, delivered, seen, left) =
          (excluded.admin, excluded.since, excluded.delivered, excluded.seen, excluded.left)`
    )
    const membership = this.#sql(
      `INSERT INTO memberships (user, conv, left) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET left = excluded.left`
    )
    for (let i = 0; i < members.length; i += 7) {
      const [conv, user, admin, since, delivered, seen, left] = members.slice(i, i + 7) as [
        string,
        string,
        number,
        number,
        number,
        number,
        number
      ]
      let id = ids.get(conv)
      if (id === undefined) {
        id = this.#index.conversation(conv)?.id
        if (id === undefined) throw new Error(`${user} cannot be a member of ${conv}, in which nothing has happened.`)
        ids.set(conv, id)
      }
      if (marks.run(delivered, seen, id, user, admin, since, left).changes > 0) continue
      member.run(id, user, admin, since, delivered, seen, left)
      membership.run(user, conv, left)
    }
  }

  /** Inserts rows from a flat list of their columns. */
  #insert(table: string, columns: number, values: ReadonlyArray<string | number>): void {
    let insert = this.#inserts.get(table)
    if (insert === undefined) {
      const row = `(${new Array<string>(columns).fill("?").join()})`
      const prepare = (rows: number): StatementSync =>
        this.#db.prepare(`INSERT INTO ${table} VALUES ${new Array<string>(rows).fill(row).join()}`)
      insert = { many: prepare(MANY), one: prepare(1) }
      this.#inserts.set(table, insert)
    }
    let i = 0
    for (; i + MANY * columns <= values.length; i += MANY * columns) insert.many.run(...values.slice(i, i + MANY * columns))
    for (; i < values.length; i += columns) insert.one.run(...values.slice(i, i + columns))
  }
}

const methodsOf = (writer: Writer) => ({
  claim: (partitions: ReadonlyArray<number>, owner: string) => writer.claim(partitions, owner),
  append: (batch: FlatBatch) => writer.append(batch),
  prepare: (questions: FlatQuestions) => writer.prepare(questions),
  outbox: (until: number, limit: number, partition?: number) => writer.outbox(until, limit, partition),
  relayed: (entries: ReadonlyArray<number>) => writer.relayed(entries)
})

export type WriterMethods = ReturnType<typeof methodsOf>

serve((file: LogFile) => {
  const db = openLog(file)
  return { methods: methodsOf(new Writer(db)), close: () => db.close() }
}, sqliteProblem)
