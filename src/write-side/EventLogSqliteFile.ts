/**
 * The tables of the log's SQLite file. Runs in worker threads: loads nothing but node.
 *
 * Finding an event by (conversation, seq) or by (conversation, sender, cid) would take two indexes whose every entry falls on another
 * page: 8 KiB to write for each event. So a conversation's row, which every commit writes anyway, carries the places of its newest
 * events (`tail`), and every {@link SLICE} of them go to the indexes `slices` and `cids` together.
 */
import type { DatabaseSync } from "node:sqlite"
import { openSqlite, SqliteUnusable } from "../platform/worker/sqlite.ts"

/** "Drda" */
const APPLICATION_ID = 0x44726461
/** The version of the file's tables, from 1. */
export const FORMAT = 1
/** Events of one conversation that are indexed together. Part of the format. */
export const SLICE = 32
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
