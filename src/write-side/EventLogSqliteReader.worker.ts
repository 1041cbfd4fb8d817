/** The thread that reads the log's SQLite file, so that reads do not wait for a commit's disk; and that moves the write-ahead log into the file. */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { serve } from "../platform/worker/serve.ts"
import { sqliteProblem, statements } from "../platform/worker/sqlite.ts"
import { MAX_ROWS } from "./EventLogRecords.ts"
import { ID_BASE, type LogFile, metaOf, openLog } from "./EventLogSqliteFile.ts"
import { LogIndex } from "./EventLogSqliteIndex.ts"
import type { FlatConversation } from "./EventLogSqliteWriter.worker.ts"

/** position, record, position, record, … */
export type FlatEvents = Array<number | string>

/** Pages in the write-ahead log from which on a checkpoint holds writers up for the moment that it takes to let it start over: 32 MiB. */
const LONG_JOURNAL_PAGES = 8_192
/** How long such a checkpoint waits for readers outside this process while it holds writers up. */
const CHECKPOINT_BUSY_MS = 20
const BUSY_MS = 5_000

class Reader {
  readonly #db: DatabaseSync
  readonly #index: LogIndex
  readonly #sql: (sql: string) => StatementSync

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#index = new LogIndex(db)
    this.#sql = statements(db)
  }

  heads(): Array<number> {
    return (
      this.#sql("SELECT position FROM partition_heads ORDER BY partition").all() as unknown as Array<Array<number>>
    ).flat()
  }

  read(partition: number, after: number, limit: number): FlatEvents {
    const base = partition * ID_BASE
    const rows = this.#sql("SELECT id - ?, record FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?").all(
      base,
      base + after,
      base + ID_BASE,
      Math.min(limit, MAX_ROWS)
    )
    return (rows as unknown as Array<FlatEvents>).flat()
  }

  timeline(conv: string, partition: number, after: number, before: number, limit: number, newest: boolean): FlatEvents {
    return this.#snapshot(() => {
      const row = this.#index.conversation(conv)
      if (row === undefined) return []
      let first = Math.max(1, after + 1)
      let last = Math.min(row.seq, before - 1)
      const most = Math.min(limit, MAX_ROWS)
      if (newest) first = Math.max(first, last - most + 1)
      else last = Math.min(last, first + most - 1)
      return first > last ? [] : this.#events(partition, this.#index.positions(row, first, last))
    })
  }

  amendments(conv: string, partition: number, targets: ReadonlyArray<number>): FlatEvents {
    return this.#snapshot(() => {
      const row = this.#index.conversation(conv)
      if (row === undefined) return []
      const find = this.#sql("SELECT position FROM amendments WHERE conversation = ? AND target = ?")
      const positions = [...new Set(targets)].flatMap((target) =>
        (find.all(row.id, target) as unknown as Array<Array<number>>).flat()
      )
      return this.#events(
        partition,
        positions.sort((a, b) => a - b)
      )
    })
  }

  conversation(conv: string): FlatConversation | undefined {
    return this.#snapshot(() => {
      const row = this.#index.conversation(conv)
      return row && [row.title, row.seq, row.at, row.position, ...this.#index.members(row.id)]
    })
  }

  /** conv, seq, position, left in turn */
  memberships(user: string, after: string, limit: number): Array<string | number> {
    const rows = this.#sql(
      `SELECT conv, seq, position, left FROM memberships JOIN conversations USING (conv)
        WHERE user = ? AND conv > ? ORDER BY conv LIMIT ?`
    ).all(user, after, Math.min(limit, MAX_ROWS))
    return (rows as unknown as Array<Array<string | number>>).flat()
  }

  /**
   * Moves what the write-ahead log holds into the file, beside the writer. What is written meanwhile keeps it from starting over, so when it has
   * become long the rest is moved while writers wait: little, after two rounds without them.
   */
  checkpoint(): void {
    const passive = this.#sql("PRAGMA wal_checkpoint(PASSIVE)")
    const [, pages] = passive.get() as unknown as [number, number]
    if (pages < LONG_JOURNAL_PAGES) return
    passive.get()
    this.#db.exec(`PRAGMA busy_timeout = ${CHECKPOINT_BUSY_MS}`)
    try {
      this.#sql("PRAGMA wal_checkpoint(FULL)").get()
    } finally {
      this.#db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`)
    }
  }

  #events(partition: number, positions: ReadonlyArray<number>): FlatEvents {
    const events: FlatEvents = []
    for (const position of positions) events.push(position, this.#index.record(partition, position))
    return events
  }

  /** Several statements that see one state of the log. */
  #snapshot<A>(work: () => A): A {
    this.#db.exec("BEGIN")
    try {
      return work()
    } finally {
      this.#db.exec("COMMIT")
    }
  }
}

const methodsOf = (reader: Reader, id: string) => ({
  id: () => id,
  heads: () => reader.heads(),
  read: (partition: number, after: number, limit: number) => reader.read(partition, after, limit),
  timeline: (conv: string, partition: number, after: number, before: number, limit: number, newest: boolean) =>
    reader.timeline(conv, partition, after, before, limit, newest),
  amendments: (conv: string, partition: number, targets: ReadonlyArray<number>) =>
    reader.amendments(conv, partition, targets),
  conversation: (conv: string) => reader.conversation(conv),
  memberships: (user: string, after: string, limit: number) => reader.memberships(user, after, limit),
  checkpoint: () => reader.checkpoint()
})

export type ReaderMethods = ReturnType<typeof methodsOf>

serve((file: LogFile) => {
  // The writer has looked at the file already.
  const db = openLog(file, { inspected: true })
  return { methods: methodsOf(new Reader(db), metaOf(db, "id")), close: () => db.close() }
}, sqliteProblem)
