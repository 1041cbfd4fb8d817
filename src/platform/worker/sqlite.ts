/** What the SQLite workers share: opening a file that is really theirs, and telling its errors apart. Loads nothing but node. */
import * as fs from "node:fs"
import * as path from "node:path"
import { DatabaseSync, type StatementSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import type { Problem } from "./serve.ts"
import { problemOf } from "./serve.ts"

/**
 * Why SQLite could not do something.
 *
 * - `full`, `io`, `busy`: passes; the transaction was rolled back and the same call may be made again
 * - `corrupt`, `not-sqlite`, `foreign` (another program's file), `newer`, `older` (another version's), `other-partitions`: the file cannot
 *   be used
 * - `read-only`, `cannot-open`: the file or its folder has the wrong rights, or is missing
 */
export type SqliteCode =
  | "full"
  | "io"
  | "busy"
  | "corrupt"
  | "not-sqlite"
  | "foreign"
  | "newer"
  | "older"
  | "other-partitions"
  | "read-only"
  | "cannot-open"

/** A file that cannot be used as it is. Its message is for people: what is wrong and what to do. */
export class SqliteUnusable extends Error {
  override readonly name = "SqliteUnusable"
  readonly code: SqliteCode
  constructor(code: SqliteCode, message: string) {
    super(message)
    this.code = code
  }
}

export interface SqliteOptions {
  readonly file: string
  /** 32 bits that mark the file as ours, of this kind. */
  readonly applicationId: number
  /** The version of the tables, from 1. */
  readonly version: number
  /** Makes the tables of a new file. Runs in the transaction that marks it as ours. */
  readonly create: (db: DatabaseSync) => void
  /** Looks at an existing file through a connection that cannot write; throws {@link SqliteUnusable} to refuse it. */
  readonly check?: (db: DatabaseSync) => void
  /** `FULL` fsyncs every commit; `NORMAL` only checkpoints, so that a power cut may take the newest commits (never half of one). */
  readonly synchronous: "FULL" | "NORMAL"
  /** Page cache in MiB. */
  readonly cacheMiB: number
  /** Another connection of this process has made and looked at the file already. */
  readonly inspected?: boolean
  /** A connection that only reads; the file must exist. */
  readonly readOnly?: boolean
}

/** How long a statement waits for another connection's lock before it fails as `busy`. */
const BUSY_MS = 5_000
/** Files up to this size are read through at the start (some 100 ms); `doctor` does so with larger ones. */
const CHECKED_BYTES = 64 * 1024 * 1024
/** The file keeps this much of its write-ahead log when it starts over, so that it need not grow again. */
const JOURNAL_BYTES = 64 * 1024 * 1024
const MAGIC = "SQLite format 3\0"

/** Opens a file in WAL mode, making it when it is missing or empty. Throws {@link SqliteUnusable}, and then has not changed the file. */
export const openSqlite = (options: SqliteOptions): DatabaseSync => {
  checkHeader(options)
  let db: DatabaseSync | undefined
  try {
    const trusted = options.readOnly === true || options.inspected === true
    if (!trusted) inspect(options)
    db = new DatabaseSync(options.file, { readOnly: options.readOnly ?? false, timeout: BUSY_MS })
    if (!trusted) create(db, options)
    db.exec(`
      PRAGMA synchronous = ${options.synchronous};
      PRAGMA cache_size = ${-1024 * options.cacheMiB};
      PRAGMA journal_size_limit = ${JOURNAL_BYTES};
      PRAGMA temp_store = MEMORY;
    `)
    return db
  } catch (cause) {
    db?.close()
    throw cause instanceof SqliteUnusable ? cause : unusable(options.file, cause)
  }
}

/** Runs `work` in one transaction; what it throws rolls everything back. */
export const transaction = <A>(db: DatabaseSync, work: () => A): A => {
  db.exec("BEGIN IMMEDIATE")
  try {
    const result = work()
    db.exec("COMMIT")
    return result
  } catch (cause) {
    // SQLite has rolled back by itself after some errors (a full disk is one).
    if (db.isTransaction) db.exec("ROLLBACK")
    throw cause
  }
}

/** Statements by their SQL, prepared once each. Rows come as arrays of column values. For SQL from a fixed set only. */
export const statements = (db: DatabaseSync): ((sql: string) => StatementSync) => {
  const known = new Map<string, StatementSync>()
  return (sql) => {
    let statement = known.get(sql)
    if (statement === undefined) {
      statement = db.prepare(sql)
      statement.setReturnArrays(true)
      known.set(sql, statement)
    }
    return statement
  }
}

/** Explains what a worker's method threw: an error of SQLite by its {@link SqliteCode} and a sentence, any other as it is. */
export const sqliteProblem = (cause: unknown): Problem => {
  const known = meaning(cause)
  return known === undefined
    ? problemOf(cause)
    : { name: "SqliteError", code: known.code, message: `${known.text} (SQLite: ${(cause as Error).message})` }
}

const primaryCodes: Readonly<Record<number, { readonly code: SqliteCode; readonly text: string }>> = {
  5: { code: "busy", text: "another process holds the file" },
  6: { code: "busy", text: "another connection holds the file" },
  8: { code: "read-only", text: "the file may not be written; change its rights" },
  10: { code: "io", text: "the disk answered with an error" },
  11: { code: "corrupt", text: "the file is damaged" },
  13: { code: "full", text: "the disk is full" },
  14: { code: "cannot-open", text: "the file cannot be opened; see whether its folder exists and may be written" },
  26: { code: "not-sqlite", text: "the file is not an SQLite database" }
}
/** Growing the shared index of the write-ahead log fails like this when the disk is full. */
const SQLITE_IOERR_SHMSIZE = 4874

const meaning = (cause: unknown): { readonly code: SqliteCode; readonly text: string } | undefined => {
  const { errcode } = cause as { errcode?: unknown }
  if (typeof errcode !== "number") return undefined
  return primaryCodes[errcode === SQLITE_IOERR_SHMSIZE ? 13 : errcode & 0xff]
}

const unusable = (file: string, cause: unknown): SqliteUnusable => {
  const known = meaning(cause)
  return new SqliteUnusable(
    known?.code ?? "cannot-open",
    `${file}: ${known?.text ?? "it cannot be opened"} (${cause instanceof Error ? cause.message : String(cause)}).`
  )
}

/** Looks at the first bytes before SQLite does, which would write to a file that it takes for an old journal's. */
/** Throws {@link SqliteUnusable} for a file that does not begin as an SQLite database does. An absent or empty one may. */
export const checkHeader = ({ file, readOnly }: Pick<SqliteOptions, "file" | "readOnly">): void => {
  let header: Buffer
  try {
    if (readOnly !== true) fs.accessSync(path.dirname(file), fs.constants.W_OK | fs.constants.X_OK)
    header = head(file)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === "ENOENT" && readOnly !== true && fs.existsSync(path.dirname(file))) return
    throw unusable(file, cause)
  }
  if (header.length === 0) return
  if (header.length < 100 || header.toString("latin1", 0, 16) !== MAGIC) {
    throw new SqliteUnusable(
      "not-sqlite",
      `${file} is not an SQLite database. It was left as it is; move it away to start anew.`
    )
  }
}

const head = (file: string): Buffer => {
  const descriptor = fs.openSync(file, "r")
  try {
    const bytes = Buffer.alloc(100)
    return bytes.subarray(0, fs.readSync(descriptor, bytes, 0, 100, 0))
  } finally {
    fs.closeSync(descriptor)
  }
}

const hasContent = (file: string): boolean => (fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0

/** Looks through an existing file by a connection that cannot write. */
const inspect = (options: SqliteOptions): void => {
  const { file } = options
  if (!hasContent(file)) return
  const url = pathToFileURL(path.resolve(file))
  // Without a write-ahead log nobody writes, and a connection that knows so leaves no files of its own behind.
  if (!hasContent(`${file}-wal`)) url.searchParams.set("immutable", "1")
  const db = new DatabaseSync(url, { readOnly: true, timeout: BUSY_MS })
  try {
    const applicationId = pragma(db, "application_id")
    const version = pragma(db, "user_version")
    if (applicationId !== options.applicationId) {
      throw new SqliteUnusable(
        "foreign",
        `${file} is an SQLite database, but not one of this kind. It was left as it is; name another file.`
      )
    }
    if (version !== options.version) {
      const code = version > options.version ? "newer" : "older"
      throw new SqliteUnusable(
        code,
        `${file} has format ${version}; this Darda reads format ${options.version}. It was left as it is; start ${
          code === "newer" ? "the version that wrote it, or a newer one" : "a version that reads it"
        }.`
      )
    }
    options.check?.(db)
    if (fs.statSync(file).size > CHECKED_BYTES) return
    const found = db.prepare("PRAGMA quick_check(1)").get()
    const verdict = found === undefined ? "ok" : Object.values(found)[0]
    if (verdict !== "ok") {
      throw new SqliteUnusable(
        "corrupt",
        `${file} is damaged (${String(verdict).replaceAll("\n", " ")}). It was left as it is; restore a backup.`
      )
    }
  } catch (cause) {
    if (!(cause instanceof SqliteUnusable) && meaning(cause)?.code === "corrupt") {
      throw new SqliteUnusable(
        "corrupt",
        `${file} is damaged (${(cause as Error).message}). It was left as it is; restore a backup.`
      )
    }
    throw cause
  } finally {
    db.close()
  }
}

/**
 * Marks and fills a new file, before WAL is switched on: so the marks are in the file itself from the start, and a crash on the
 * way leaves an empty file.
 */
const create = (db: DatabaseSync, options: SqliteOptions): void => {
  transaction(db, () => {
    if (pragma(db, "user_version") !== 0) return
    options.create(db)
    db.exec(`PRAGMA application_id = ${options.applicationId}; PRAGMA user_version = ${options.version}`)
  })
  db.exec("PRAGMA journal_mode = WAL")
}

const pragma = (db: DatabaseSync, name: string): number =>
  Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0] as number
