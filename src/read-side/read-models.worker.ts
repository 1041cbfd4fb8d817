/** The thread that holds a file of read models: everything that waits for the disk waits here. */
import * as fs from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { problemOf, serve } from "../platform/worker/serve.ts"
import { openSqlite, sqliteProblem, SqliteUnusable } from "../platform/worker/sqlite.ts"
import { shadowFile } from "./shadowFile.ts"
import { makeSqliteDump } from "./sqliteDump.ts"
import type { Store } from "./Store.ts"
import { createTables, FORMAT, isOfLog, makeSqliteStore, readCheckpoints, type SqliteStore } from "./StoreSqlite.ts"

/** What the worker is started with. */
export interface ReadModelsFile {
  readonly file: string
  /** The id of the log that the file is a fold of. */
  readonly log: string
  readonly partitions: number
  /** Whether what is there is to be thrown away. */
  readonly fresh: boolean
}

/** "Drrm" */
const APPLICATION_ID = 0x4472_726d
const CACHE_MIB = 32
/** Pages of the write-ahead log (16 MiB) before it is moved into the file: an fsync in a while rather than many a second. */
const CHECKPOINT_PAGES = 4_000

/** What makes a file of ours useless, and is no reason to lose a file that is not ours. */
const REPLACEABLE = new Set(["corrupt", "not-sqlite", "newer", "older"])

/** Milliseconds after which what was applied is committed. A crash loses no more than that, and the log has it. */
const COMMIT_MS = 1_000

const remove = (file: string): void => {
  for (const suffix of ["", "-wal", "-shm", "-journal"]) fs.rmSync(file + suffix, { force: true })
}

const open = ({ file, log, partitions }: ReadModelsFile): DatabaseSync => {
  const db = openSqlite({
    file,
    applicationId: APPLICATION_ID,
    version: FORMAT,
    create: (db) => createTables(db, log, partitions),
    synchronous: "NORMAL",
    cacheMiB: CACHE_MIB
  })
  db.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`)
  return db
}

/** Opens the file, or a new one in its place with the reason why. */
const openOrReplace = (options: ReadModelsFile): { readonly db: DatabaseSync; readonly replaced?: string } => {
  const { file, log, partitions } = options
  if (options.fresh) {
    remove(file)
    return { db: open(options) }
  }
  const missing = !fs.existsSync(file)
  if (missing) remove(file)
  // Left by a crash in a rebuild.
  remove(shadowFile(file))
  let why: string
  try {
    const db = open(options)
    if (isOfLog(db, log, partitions)) return { db }
    db.close()
    why = "it belongs to another log"
  } catch (cause) {
    const code = cause instanceof SqliteUnusable ? cause.code : sqliteProblem(cause).code
    if (!REPLACEABLE.has(code)) throw cause
    why = code === "older" || code === "newer" ? `its format is ${code} than this Darda's` : "it is damaged"
  }
  remove(file)
  return { db: open(options), replaced: why }
}

const make = (options: ReadModelsFile) => {
  const opened = openOrReplace(options)
  let { db } = opened
  let store: SqliteStore = makeSqliteStore(db)
  const snapshots = new Map<number, { readonly db: DatabaseSync; readonly rows: ReturnType<typeof makeSqliteDump> }>()
  let lastSnapshot = 0

  const reopen = (between: () => void): void => {
    if (snapshots.size > 0) throw new Error("somebody is still reading a snapshot of the file")
    try {
      if (db.isOpen) db.close()
      between()
    } finally {
      usable()
    }
  }
  /** The store; after a failure that closed the file it is opened again. */
  const usable = (): SqliteStore => {
    if (!db.isOpen) {
      db = open(options)
      store = makeSqliteStore(db)
    }
    return store
  }
  const committing = setInterval(() => {
    try {
      if (db.isOpen) store.commit()
    } catch {
      // The store has fallen back and says so to the next one who asks.
    }
  }, COMMIT_MS)

  const methods = {
    /** Why an earlier file was thrown away, if it was. */
    replaced: () => opened.replaced,
    checkpoints: () => usable().checkpoints(),
    apply: (...args: Parameters<Store["apply"]>) => usable().apply(...args),
    access: (...args: Parameters<Store["access"]>) => usable().access(...args),
    page: (...args: Parameters<Store["page"]>) => usable().page(...args),
    roster: (...args: Parameters<Store["roster"]>) => usable().roster(...args),
    conversations: (...args: Parameters<Store["conversations"]>) => usable().conversations(...args),
    inbox: (...args: Parameters<Store["inbox"]>) => usable().inbox(...args),
    counts: () => usable().counts(),
    /** A second connection whose read transaction keeps seeing what is there now. */
    snapshot: () => {
      usable().commit()
      const reader = new DatabaseSync(options.file, { readOnly: true })
      reader.exec("BEGIN")
      snapshots.set(++lastSnapshot, { db: reader, rows: makeSqliteDump(reader) })
      return { id: lastSnapshot, checkpoints: readCheckpoints(reader) }
    },
    snapshotRows: (id: number, after: ReadonlyArray<string> | undefined, limit: number) =>
      snapshots.get(id)!.rows(after, limit),
    endSnapshot: (id: number) => {
      snapshots.get(id)?.db.close()
      snapshots.delete(id)
    },
    /** An empty file in place of this one. */
    reset: () => reopen(() => remove(options.file)),
    /** Puts another file, which nobody has open, in place of this one. The rename is the one step that counts. */
    replaceBy: (other: string) => {
      reopen(() => {
        // What a leftover write-ahead log holds would be read into the new file.
        if (fs.existsSync(`${options.file}-wal`)) throw new Error(`${options.file}-wal is still there`)
        fs.renameSync(other, options.file)
      })
      return store.checkpoints()
    }
  }
  const close = (): void => {
    clearInterval(committing)
    for (const snapshot of snapshots.values()) snapshot.db.close()
    if (!db.isOpen) return
    store.commit()
    db.close()
  }
  return { methods, close }
}

/** What the thread can be asked. */
export type ReadModelsMethods = ReturnType<typeof make>["methods"]

serve(make, (cause) => (cause instanceof SqliteUnusable ? problemOf(cause) : sqliteProblem(cause)))
