/** The conversations of the log's SQLite file, as its writer knows and grows them. Runs in a worker thread: loads nothing but node. */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { statements } from "../platform/worker/sqlite.ts"
import { glance } from "./EventLogRecords.ts"
import { metaOf, SLICE } from "./EventLogSqliteFile.ts"
import { cidKeys, type ConversationRow, encodeSlice, encodeTail, LogIndex } from "./EventLogSqliteIndex.ts"
import { insertRows } from "./EventLogSqliteRows.ts"

/** Conversations that are remembered, some 600 bytes each. The others are read again. */
const REMEMBERED = 10_000

/** An event that a (sender, cid) names already. */
export interface PriorEvent {
  readonly seq: number
  readonly at: number
  readonly digest: string
}

/** A conversation is not as a batch assumes. */
export class NotNew extends Error {}

/** A row that grows as events are added to it. */
interface GrowingRow extends ConversationRow {
  title: string | null
  seq: number
  at: number
  position: number
  tail: { keys: Array<number>; positions: Array<number> }
}

/** What a conversation is after a batch; `beforeSeq` and `beforePosition` are what the batch assumes that it was. */
export interface NextHead {
  readonly conv: string
  readonly title: string | null
  readonly seq: number
  readonly at: number
  readonly position: number
  readonly beforeSeq: number
  readonly beforePosition: number
}

/**
 * Remembers the rows of busy conversations, so that a message in one does not read it. What is remembered is forgotten when someone else has
 * written to the file, and must be by {@link Conversations.forget} when a transaction is rolled back.
 */
export class Conversations {
  readonly index: LogIndex
  readonly #rows = new Map<string, GrowingRow>()
  readonly #cidKey: (by: string, cid: string) => number
  readonly #sql: (sql: string) => StatementSync
  readonly #insertCids: (values: ReadonlyArray<number>) => void
  #version = -1

  constructor(db: DatabaseSync) {
    this.index = new LogIndex(db)
    this.#cidKey = cidKeys(metaOf(db, "salt"))
    this.#sql = statements(db)
    this.#insertCids = insertRows(db, "cids", 3)
  }

  /** To be called in every transaction, before the first look-up. */
  refresh(): void {
    const [version] = this.#sql("PRAGMA data_version").get() as unknown as [number]
    if (version !== this.#version) this.forget()
    this.#version = version
  }

  forget(): void {
    this.#rows.clear()
  }

  get(conv: string): ConversationRow | undefined {
    return this.#get(conv)
  }

  /** The event of this sender and cid in a conversation of this partition. */
  prior(row: ConversationRow, partition: number, by: string, cid: string): PriorEvent | undefined {
    const key = this.#cidKey(by, cid)
    return key === 0 ? undefined : this.#prior(row, partition, by, cid, key)
  }

  /**
   * Moves the head of a conversation, and makes its new events findable. `additions`: partition, position, sender, cid, target (0 for none) of each,
   * from `from` to `to`. Answers the conversation's number; throws {@link NotNew}.
   */
  grow(next: NextHead, additions: ReadonlyArray<number | string>, from: number, to: number): number {
    const { conv } = next
    const row = this.#get(conv) ?? this.#make(conv)
    if (row.seq !== next.beforeSeq || row.position !== next.beforePosition) {
      throw new NotNew(`${conv} is at ${row.seq}, and the batch builds on ${next.beforeSeq}.`)
    }
    for (let i = from; i < to; i += 5) {
      const partition = additions[i] as number
      const position = additions[i + 1] as number
      const by = additions[i + 2] as string
      const cid = additions[i + 3] as string
      const target = additions[i + 4] as number
      const key = this.#cidKey(by, cid)
      const prior = key === 0 ? undefined : this.#prior(row, partition, by, cid, key)
      if (prior !== undefined) throw new NotNew(`${by} has used the cid ${cid} in ${conv} before, for ${prior.seq}.`)
      if (target > 0) {
        this.#sql("INSERT INTO amendments (conversation, target, position) VALUES (?, ?, ?)").run(
          row.id,
          target,
          position
        )
      }
      row.seq++
      row.tail.keys.push(key)
      row.tail.positions.push(position)
      if (row.tail.keys.length === SLICE) this.#slice(row)
    }
    row.title = next.title
    row.at = next.at
    row.position = next.position
    this.#sql("UPDATE conversations SET title = ?, seq = ?, at = ?, position = ?, tail = ? WHERE id = ?").run(
      row.title,
      row.seq,
      row.at,
      row.position,
      encodeTail(row.tail),
      row.id
    )
    return row.id
  }

  #get(conv: string): GrowingRow | undefined {
    const known = this.#rows.get(conv)
    if (known !== undefined) {
      // The map's order is that of the last use.
      this.#rows.delete(conv)
      this.#rows.set(conv, known)
      return known
    }
    const found = this.index.conversation(conv) as GrowingRow | undefined
    return found && this.#remember(found)
  }

  #remember(row: GrowingRow): GrowingRow {
    this.#rows.set(row.conv, row)
    if (this.#rows.size > REMEMBERED) this.#rows.delete(this.#rows.keys().next().value!)
    return row
  }

  #make(conv: string): GrowingRow {
    const tail = { keys: [], positions: [] }
    const insert = this.#sql("INSERT INTO conversations (conv, seq, at, position, tail) VALUES (?, 0, 0, 0, ?)")
    const id = Number(insert.run(conv, encodeTail(tail)).lastInsertRowid)
    return this.#remember({ id, conv, title: null, seq: 0, at: 0, position: 0, tail })
  }

  #prior(row: ConversationRow, partition: number, by: string, cid: string, key: number): PriorEvent | undefined {
    for (const position of this.index.keyed(row, key)) {
      const found = glance(this.index.record(partition, position))
      if (found.by === by && found.cid === cid) return { seq: found.seq, at: found.at, digest: found.digest }
    }
    return undefined
  }

  /** Moves a full tail to the indexes. */
  #slice(row: GrowingRow): void {
    const { keys, positions } = row.tail
    this.#sql("INSERT INTO slices (conversation, slice, positions) VALUES (?, ?, ?)").run(
      row.id,
      row.seq / SLICE - 1,
      encodeSlice(positions)
    )
    this.#insertCids(keys.flatMap((key, i) => (key === 0 ? [] : [row.id, key, positions[i]!])))
    row.tail = { keys: [], positions: [] }
  }
}
