/** The thread that writes the log's SQLite file. It waits for the disk, so that the sockets need not. */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { serve } from "../platform/worker/serve.ts"
import { sqliteProblem, statements, transaction } from "../platform/worker/sqlite.ts"
import { glance, MAX_COUNTERS, MAX_ROWS } from "./EventLogRecords.ts"
import { type LogFile, openLog } from "./EventLogSqliteFile.ts"
import { Conversations, NotNew, type PriorEvent } from "./EventLogSqliteGrowth.ts"
import { insertRows } from "./EventLogSqliteRows.ts"

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
export type FlatHead = readonly [
  partition: number,
  position: number,
  epoch: number,
  ...counters: Array<number | string>
]
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
  readonly priors: ReadonlyArray<PriorEvent | undefined>
  readonly authors: ReadonlyArray<string | undefined>
  readonly opened: ReadonlyArray<number>
}

/** Another committer has moved these heads. */
class StaleHeads extends Error {
  readonly partitions: ReadonlyArray<number>
  constructor(partitions: ReadonlyArray<number>) {
    super(`Partition ${partitions.join(", ")} has another head.`)
    this.partitions = partitions
  }
}

class Writer {
  readonly #db: DatabaseSync
  readonly #conversations: Conversations
  readonly #sql: (sql: string) => StatementSync
  readonly #insertEvents: (values: ReadonlyArray<number | string>) => void
  readonly #insertOpenings: (values: ReadonlyArray<number | string>) => void

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#conversations = new Conversations(db)
    this.#sql = statements(db)
    this.#insertEvents = insertRows(db, "events", 2)
    this.#insertOpenings = insertRows(db, "openings", 3)
  }

  claim(partitions: ReadonlyArray<number>, owner: string): ReadonlyArray<FlatHead> {
    return transaction(this.#db, () =>
      partitions.map((partition): FlatHead => {
        const head = this.#sql(
          "UPDATE partition_heads SET epoch = epoch + 1, owner = ? WHERE partition = ? RETURNING position, epoch"
        ).get(owner, partition) as unknown as [number, number] | undefined
        if (head === undefined) throw new Error(`There is no partition ${partition}.`)
        const counters = this.#sql("SELECT edge, counter FROM counters WHERE partition = ? ORDER BY moved").all(
          partition
        )
        return [partition, ...head, ...(counters as unknown as Array<[string, number]>).flat()]
      })
    )
  }

  append(batch: FlatBatch): Refusal | undefined {
    try {
      transaction(this.#db, () => {
        this.#conversations.refresh()
        this.#moveHeads(batch)
        this.#insertEvents(batch.events)
        this.#members(batch.members, this.#grow(batch))
        this.#insertOpenings(batch.openings)
        this.#remove(batch.relayed)
      })
      return undefined
    } catch (cause) {
      this.#conversations.forget()
      if (cause instanceof StaleHeads) return { _tag: "Fenced", partitions: cause.partitions }
      if (cause instanceof NotNew) return { _tag: "AlreadyInLog", detail: cause.message }
      throw cause
    }
  }

  prepare(questions: FlatQuestions): FlatAnswers {
    const known = this.#conversations
    known.refresh()
    const priors: Array<FlatAnswers["priors"][number]> = []
    const { cids, targets } = questions
    for (let i = 0; i < cids.length; i += 4) {
      const row = known.get(cids[i] as string)
      priors.push(row && known.prior(row, cids[i + 1] as number, cids[i + 2] as string, cids[i + 3] as string))
    }
    const authors: Array<string | undefined> = []
    for (let i = 0; i < targets.length; i += 3) {
      const row = known.get(targets[i] as string)
      const seq = targets[i + 2] as number
      if (row === undefined || seq < 1 || seq > row.seq) {
        authors.push(undefined)
        continue
      }
      const [position] = known.index.positions(row, seq, seq) as [number]
      const { by, type } = glance(known.index.record(targets[i + 1] as number, position))
      authors.push(type === "message" ? by : undefined)
    }
    const opened = this.#sql("SELECT count(*) FROM openings WHERE user = ? AND at >= ?")
    return {
      conversations: questions.conversations.map((conv) => {
        const row = known.get(conv)
        return row && [row.title, row.seq, row.at, row.position, ...known.index.members(row.id)]
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
        ? this.#sql(
            "SELECT partition, first, last, at FROM outbox WHERE at <= ? ORDER BY at, partition, first LIMIT ?"
          ).all(until, most)
        : this.#sql(
            "SELECT partition, first, last, at FROM outbox WHERE at <= ? AND partition = ? ORDER BY at, partition, first LIMIT ?"
          ).all(until, partition, most)
    return (rows as unknown as Array<Array<number>>).flat()
  }

  relayed(entries: ReadonlyArray<number>): void {
    transaction(this.#db, () => this.#remove(entries))
  }

  #remove(entries: ReadonlyArray<number>): void {
    const remove = this.#sql("DELETE FROM outbox WHERE at = ? AND partition = ? AND first = ?")
    for (let i = 0; i < entries.length; i += 3) remove.run(entries[i]!, entries[i + 1]!, entries[i + 2]!)
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
    if (fenced.length > 0) throw new StaleHeads(fenced)
    for (let i = 0; i < counters.length; i += 3) {
      this.#count(counters[i] as number, counters[i + 1] as string, counters[i + 2] as number)
    }
  }

  #count(partition: number, edge: string, counter: number): void {
    const moved = "(SELECT commits FROM partition_heads WHERE partition = ?2)"
    const update = this.#sql(`UPDATE counters SET counter = ?1, moved = ${moved} WHERE partition = ?2 AND edge = ?3`)
    if (update.run(counter, partition, edge).changes > 0) return
    this.#sql(`INSERT INTO counters (partition, edge, counter, moved) VALUES (?2, ?3, ?1, ${moved})`).run(
      counter,
      partition,
      edge
    )
    this.#sql(
      `DELETE FROM counters WHERE partition = ?1 AND edge IN
        (SELECT edge FROM counters WHERE partition = ?1 ORDER BY moved DESC LIMIT -1 OFFSET ${MAX_COUNTERS})`
    ).run(partition)
  }

  /** Answers the numbers of the conversations that grew. */
  #grow({ additions, conversations }: FlatBatch): Map<string, number> {
    const ids = new Map<string, number>()
    let from = 0
    for (let i = 0; i < conversations.length; i += 8) {
      const [conv, title, seq, at, position, beforeSeq, beforePosition, count] = conversations.slice(
        i,
        i + 8
      ) as unknown as [string, string | null, number, number, number, number, number, number]
      const to = from + 5 * count
      ids.set(
        conv,
        this.#conversations.grow({ conv, title, seq, at, position, beforeSeq, beforePosition }, additions, from, to)
      )
      from = to
    }
    return ids
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
        id = this.#conversations.get(conv)?.id
        if (id === undefined) throw new Error(`${user} cannot be a member of ${conv}, in which nothing has happened.`)
        ids.set(conv, id)
      }
      if (marks.run(delivered, seen, id, user, admin, since, left).changes > 0) continue
      member.run(id, user, admin, since, delivered, seen, left)
      membership.run(user, conv, left)
    }
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
