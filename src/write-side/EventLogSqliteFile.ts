/**
 * The tables of the log's SQLite file, and how events are found in them. Runs in worker threads: loads nothing but node.
 *
 * Finding an event by (conversation, seq) or by (conversation, sender, cid) would take two indexes whose every entry falls on another
 * page: 8 KiB to write for each event. So a conversation's row, which every commit writes anyway, carries the places of its newest
 * events (`tail`), and only each {@link SLICE} of them go to the indexes, together.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { openSqlite, statements, SqliteUnusable } from "../platform/worker/sqlite.ts"

/** "Drda" */
const APPLICATION_ID = 0x44726461
const FORMAT = 1
/** Events of one conversation that are indexed together. Part of the format. */
export const SLICE = 32
/** An entry of a tail: 6 bytes of {@link cidKey}, 6 bytes of position. */
export const ENTRY_BYTES = 12
const POSITION_BYTES = 6
/** Checkpoints are made beside the writer; only if that fails the write-ahead log grows to this many pages (256 MiB), and the writer makes one. */
const LAST_RESORT_PAGES = 65_536
/** An event's id is its partition times this, plus its position: below 2^53 for up to 512 partitions. */
export const ID_BASE = 2 ** 44

const tables = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE partition_heads (partition INTEGER PRIMARY KEY, position INTEGER NOT NULL, epoch INTEGER NOT NULL, owner TEXT NOT NULL,
    commits INTEGER NOT NULL);
  CREATE TABLE counters (partition INTEGER NOT NULL, edge TEXT NOT NULL, counter INTEGER NOT NULL, moved INTEGER NOT NULL,
    PRIMARY KEY (partition, edge)) WITHOUT ROWID;
  CREATE TABLE events (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
  CREATE TABLE conversations (id INTEGER PRIMARY KEY, conv TEXT NOT NULL UNIQUE, title TEXT, seq INTEGER NOT NULL, at INTEGER NOT NULL,
    position INTEGER NOT NULL, tail BLOB NOT NULL);
  CREATE TABLE slices (conversation INTEGER NOT NULL, slice INTEGER NOT NULL, positions BLOB NOT NULL,
    PRIMARY KEY (conversation, slice)) WITHOUT ROWID;
  CREATE TABLE cids (conversation INTEGER NOT NULL, key INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (conversation, key, position)) WITHOUT ROWID;
  CREATE TABLE amendments (conversation INTEGER NOT NULL, target INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (conversation, target, position)) WITHOUT ROWID;
  CREATE TABLE members (conversation INTEGER NOT NULL, user TEXT NOT NULL, admin INTEGER NOT NULL, since INTEGER NOT NULL,
    delivered INTEGER NOT NULL, seen INTEGER NOT NULL, left INTEGER NOT NULL, PRIMARY KEY (conversation, user)) WITHOUT ROWID;
  CREATE TABLE memberships (user TEXT NOT NULL, conv TEXT NOT NULL, left INTEGER NOT NULL, PRIMARY KEY (user, conv)) WITHOUT ROWID;
  CREATE TABLE openings (user TEXT NOT NULL, at INTEGER NOT NULL, conv TEXT NOT NULL, PRIMARY KEY (user, at, conv)) WITHOUT ROWID;
  CREATE TABLE outbox (at INTEGER NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (at, partition, first)) WITHOUT ROWID;
  -- For people who look into the file.
  CREATE VIEW log AS SELECT id >> 44 AS partition, id & ((1 << 44) - 1) AS position, record ->> 2 AS conv, record ->> 3 AS seq,
    record ->> 1 AS type, record ->> 5 AS sender, record ->> 6 AS at, record ->> 7 AS cid, record -> 9 AS data FROM events;
`

export interface LogFile {
  readonly file: string
  readonly partitions: number
}

/** Opens the log's file, making it when it is missing. Throws `SqliteUnusable`, also when it has another number of partitions. */
export const openLog = ({ file, partitions }: LogFile, { inspected = false } = {}): DatabaseSync => {
  const db = openSqlite({
    file,
    inspected,
    applicationId: APPLICATION_ID,
    version: FORMAT,
    synchronous: "FULL",
    cacheMiB: 32,
    create: (db) => {
      db.exec(tables)
      const meta = db.prepare("INSERT INTO meta VALUES (?, ?)")
      meta.run("id", crypto.randomUUID())
      meta.run("partitions", String(partitions))
      meta.run("created", new Date().toISOString())
      meta.run("salt", crypto.getRandomValues(new Uint32Array(2)).join(" "))
      const head = db.prepare("INSERT INTO partition_heads VALUES (?, 0, 0, '', 0)")
      for (let partition = 0; partition < partitions; partition++) head.run(partition)
    },
    check: (db) => {
      const found = Number(db.prepare("SELECT value FROM meta WHERE key = 'partitions'").get()?.["value"])
      if (found === partitions) return
      throw new SqliteUnusable(
        "other-partitions",
        `${file} has ${found} partitions, and PARTITIONS is ${partitions}. The number is fixed when a log is made: start with PARTITIONS=${found}.`
      )
    }
  })
  db.exec(`PRAGMA wal_autocheckpoint = ${LAST_RESORT_PAGES}`)
  return db
}

/** A value that was written with the file. */
export const metaOf = (db: DatabaseSync, key: string): string =>
  String(db.prepare("SELECT value FROM meta WHERE key = ?").get(key)?.["value"])

/**
 * Makes the 48 bits that find a sender's cid within a conversation; 0 for no cid. Others may share them: what is found is compared. FNV-1a twice,
 * with starts that nobody outside knows, so that nobody can send cids which all share theirs.
 */
export const cidKeys = (salt: string): ((by: string, cid: string) => number) => {
  const [startA = 0, startB = 0] = salt.split(" ").map(Number)
  return (by, cid) => {
    if (cid === "") return 0
    let a = startA
    let b = startB
    for (let i = 0; i < cid.length; i++) {
      const code = cid.charCodeAt(i)
      a = Math.imul(a ^ code, 0x01000193)
      b = Math.imul(b ^ code ^ (b >>> 15), 0x5bd1e995)
    }
    for (let i = 0; i < by.length; i++) {
      const code = by.charCodeAt(i)
      a = Math.imul(a ^ code, 0x01000193)
      b = Math.imul(b ^ code ^ (b >>> 15), 0x5bd1e995)
    }
    return (a >>> 0) * 0x10000 + ((b ^ (b >>> 15)) >>> 16) || 1
  }
}

/** A conversation's row. `id` is its number within this file. */
export interface ConversationRow {
  readonly id: number
  readonly conv: string
  readonly title: string | null
  readonly seq: number
  readonly at: number
  readonly position: number
  readonly tail: Buffer
}

/** Finds conversations and events. One for each connection. */
export class LogIndex {
  readonly #conversation: StatementSync
  readonly #slice: StatementSync
  readonly #slices: StatementSync
  readonly #cid: StatementSync
  readonly #event: StatementSync
  readonly #members: StatementSync

  constructor(db: DatabaseSync) {
    const sql = statements(db)
    this.#conversation = sql("SELECT id, title, seq, at, position, tail FROM conversations WHERE conv = ?")
    this.#slice = sql("SELECT positions FROM slices WHERE conversation = ? AND slice = ?")
    this.#slices = sql("SELECT slice, positions FROM slices WHERE conversation = ? AND slice BETWEEN ? AND ? ORDER BY slice")
    this.#cid = sql("SELECT position FROM cids WHERE conversation = ? AND key = ?")
    this.#event = sql("SELECT record FROM events WHERE id = ?")
    this.#members = sql("SELECT user, admin, since, delivered, seen FROM members WHERE conversation = ? AND left = 0")
  }

  conversation(conv: string): ConversationRow | undefined {
    const row = this.#conversation.get(conv) as unknown as
      | [number, string | null, number, number, number, Uint8Array]
      | undefined
    if (row === undefined) return undefined
    const [id, title, seq, at, position, tail] = row
    return { id, conv, title, seq, at, position, tail: Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength) }
  }

  /** The members as one flat list: user, admin, since, delivered, seen, user, … */
  members(id: number): Array<string | number> {
    return (this.#members.all(id) as unknown as Array<Array<string | number>>).flat()
  }

  /** The position of an event; undefined when the conversation has no such seq. */
  position(row: ConversationRow, seq: number): number | undefined {
    if (seq < 1 || seq > row.seq) return undefined
    const sliced = row.seq - row.tail.length / ENTRY_BYTES
    if (seq > sliced) return row.tail.readUIntLE((seq - sliced - 1) * ENTRY_BYTES + 6, 6)
    const slice = Math.floor((seq - 1) / SLICE)
    const found = this.#slice.get(row.id, slice) as unknown as [Uint8Array] | undefined
    if (found === undefined) throw missing(`slice ${slice} of conversation ${row.id}`)
    return Buffer.from(found[0]).readUIntLE(((seq - 1) % SLICE) * POSITION_BYTES, 6)
  }

  /** The positions of the events from `first` to `last`, which the conversation must have. */
  positions(row: ConversationRow, first: number, last: number): Array<number> {
    const positions: Array<number> = []
    const sliced = row.seq - row.tail.length / ENTRY_BYTES
    if (first <= sliced) {
      const rows = this.#slices.all(row.id, Math.floor((first - 1) / SLICE), Math.floor((Math.min(last, sliced) - 1) / SLICE))
      for (const [slice, bytes] of rows as unknown as Array<[number, Uint8Array]>) {
        const blob = Buffer.from(bytes)
        for (let i = 0; i < SLICE; i++) {
          const seq = slice * SLICE + i + 1
          if (seq >= first && seq <= last) positions.push(blob.readUIntLE(i * POSITION_BYTES, 6))
        }
      }
    }
    for (let seq = Math.max(first, sliced + 1); seq <= last; seq++) {
      positions.push(row.tail.readUIntLE((seq - sliced - 1) * ENTRY_BYTES + 6, 6))
    }
    if (positions.length !== Math.max(0, last - first + 1)) throw missing(`a slice of conversation ${row.id}`)
    return positions
  }

  /** The positions of events whose sender and cid have this key. */
  keyed(row: ConversationRow, key: number): Array<number> {
    const positions: Array<number> = []
    for (let at = 0; at < row.tail.length; at += ENTRY_BYTES) {
      if (row.tail.readUIntLE(at, 6) === key) positions.push(row.tail.readUIntLE(at + 6, 6))
    }
    if (row.seq > row.tail.length / ENTRY_BYTES) {
      for (const [position] of this.#cid.all(row.id, key) as unknown as Array<[number]>) positions.push(position)
    }
    return positions
  }

  /** The record of an event that the log must hold. */
  record(partition: number, position: number): string {
    const row = this.#event.get(partition * ID_BASE + position) as unknown as [string] | undefined
    if (row === undefined) throw missing(`event ${position} of partition ${partition}`)
    return row[0]
  }
}

const missing = (what: string): Error => new SqliteUnusable("corrupt", `the file is damaged: ${what} is missing; restore a backup`)

/** Packs the positions of the first {@link SLICE} entries of a tail. */
export const slicePositions = (tail: Buffer): Buffer => {
  const positions = Buffer.allocUnsafe(SLICE * POSITION_BYTES)
  for (let i = 0; i < SLICE; i++) tail.copy(positions, i * POSITION_BYTES, i * ENTRY_BYTES + 6, (i + 1) * ENTRY_BYTES)
  return positions
}
