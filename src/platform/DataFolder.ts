/**
 * The folder that holds everything that is kept: made when missing, held by one process at a time, with paths for all who keep something in it.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"

/** The data folder cannot be used as it is; nothing in it was changed. */
export class DataFolderUnusable extends Schema.TaggedError<DataFolderUnusable>()("DataFolderUnusable", {
  folder: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `The data folder ${this.folder} cannot be used: ${this.reason}`
  }
}

/** Another process holds the data folder. */
export class DataFolderLocked extends Schema.TaggedError<DataFolderLocked>()("DataFolderLocked", {
  folder: Schema.String,
  holder: Schema.optionalKey(Schema.Struct({ pid: Schema.Number, since: Schema.String }))
}) {
  override get message(): string {
    const who = this.holder === undefined ? "another process" : `process ${this.holder.pid} since ${this.holder.since}`
    return `The data folder ${this.folder} is in use by ${who}; stop it first, or set another DATA_DIR.`
  }
}

/** Where things are. `folder` is as it was given, for people; the others are absolute. */
export interface DataPaths {
  readonly folder: string
  readonly root: string
  /** The event log: the one file that must never be lost. */
  readonly log: string
  /** The read models: may be deleted while nothing runs. */
  readonly readModels: string
  readonly control: string
  readonly lock: string
  readonly lockHolder: string
  readonly clusterSecret: string
}

/** The paths within a data folder; touches nothing. */
export const dataPaths = (folder: string): DataPaths => {
  const root = path.resolve(folder)
  return {
    folder,
    root,
    log: path.join(root, "log.sqlite"),
    readModels: path.join(root, "read-models.sqlite"),
    control: path.join(root, "control.sock"),
    lock: path.join(root, "lock"),
    lockHolder: path.join(root, "lock.holder"),
    clusterSecret: path.join(root, "cluster-secret")
  }
}

/**
 * Bytes that must be free to start. The log's write-ahead file and the read models grow before anything is given back, and a start that ends in the
 * middle of that helps nobody.
 */
export const MIN_FREE_BYTES = 32 * 1024 * 1024

/** Bytes that this user may still write to the file system of a path. */
export const freeBytes = (of: string): number => {
  const { bavail, bsize } = fs.statfsSync(of)
  return bavail * bsize
}

/** What a file system error means, for a person. */
export const explainFileError = (cause: unknown): string => {
  const { code, message } = cause as NodeJS.ErrnoException
  switch (code) {
    case "EACCES":
    case "EPERM":
      return "this user may not read and write it; change its owner or its rights"
    case "EROFS":
      return "its file system is read-only"
    case "ENOSPC":
    case "EDQUOT":
      return "the disk is full; free some space"
    case "ENOTDIR":
    case "EEXIST":
      return "a file is where a folder should be"
    case "ENAMETOOLONG":
      return "its path is too long"
    default:
      return message ?? String(cause)
  }
}

const attempt = <A>(folder: string, work: () => A): Effect.Effect<A, DataFolderUnusable> =>
  Effect.try({ try: work, catch: (cause) => new DataFolderUnusable({ folder, reason: explainFileError(cause) }) })

/** Makes a folder and those above it. Not by `recursive`, which never ends where a folder is there and takes none, as under /proc. */
const makeFolder = (folder: string): void => {
  const found = fs.statSync(folder, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) return
  const above = path.dirname(folder)
  if (found === undefined && above !== folder) makeFolder(above)
  fs.mkdirSync(folder, { mode: 0o700 })
}

/** Makes the folder when it is missing, for this user alone, checks that it can be written to and that there is space, and takes its lock. */
export const openDataFolder = Effect.fn("DataFolder.open")(function* (folder: string) {
  const paths = dataPaths(folder)
  yield* attempt(folder, () => {
    makeFolder(paths.root)
    fs.accessSync(paths.root, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK)
  })
  yield* lockDataFolder(paths)
  const free = yield* attempt(folder, () => freeBytes(paths.root))
  if (free < MIN_FREE_BYTES) {
    return yield* new DataFolderUnusable({
      folder,
      reason: `its disk has ${mebibytes(free)} free and at least ${mebibytes(MIN_FREE_BYTES)} are needed; free some space`
    })
  }
  return paths
})

/** A number of bytes for a person. */
export const mebibytes = (bytes: number): string =>
  bytes >= 1024 ** 3 ? `${(bytes / 1024 ** 3).toFixed(1)} GiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`

/** Who holds the lock according to the note beside it; undefined without a readable one. */
export const lockHolder = (paths: DataPaths): { readonly pid: number; readonly since: string } | undefined => {
  try {
    const { pid, since } = JSON.parse(fs.readFileSync(paths.lockHolder, "utf8")) as Record<string, unknown>
    return typeof pid === "number" && typeof since === "string" ? { pid, since } : undefined
  } catch {
    return undefined
  }
}

/**
 * Takes the lock of a folder that exists until the scope closes. It is the lock of an SQLite file in an exclusive transaction, so the operating
 * system gives it back when the process dies, however it dies. The note beside it is for people and decides nothing.
 */
export const lockDataFolder = (
  paths: DataPaths
): Effect.Effect<void, DataFolderUnusable | DataFolderLocked, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend((): Effect.Effect<DatabaseSync, DataFolderUnusable | DataFolderLocked> => {
      let file: DatabaseSync | undefined
      try {
        file = new DatabaseSync(paths.lock, { timeout: 0 })
        file.exec("BEGIN EXCLUSIVE")
        held.add(file)
        writeHolder(paths)
        return Effect.succeed(file)
      } catch (cause) {
        file?.close()
        const code = (cause as { errcode?: unknown }).errcode
        if (code === SQLITE_BUSY) {
          const holder = lockHolder(paths)
          return new DataFolderLocked({ folder: paths.folder, ...(holder === undefined ? {} : { holder }) })
        }
        const reason =
          code === undefined ? explainFileError(cause) : `its lock file ${paths.lock}: ${(cause as Error).message}`
        return new DataFolderUnusable({ folder: paths.folder, reason })
      }
    }),
    (file) =>
      Effect.sync(() => {
        fs.rmSync(paths.lockHolder, { force: true })
        held.delete(file)
        file.close()
      })
  ).pipe(Effect.asVoid)

/** The locks of this process: a database that nothing refers to is closed when memory is cleaned up, and its lock with it. */
const held = new Set<DatabaseSync>()

const SQLITE_BUSY = 5

const writeHolder = (paths: DataPaths): void => {
  try {
    fs.writeFileSync(paths.lockHolder, JSON.stringify({ pid: process.pid, since: new Date().toISOString() }), {
      mode: 0o600
    })
  } catch {
    // A full disk: the lock holds all the same, only nobody can say whose it is.
  }
}

const SECRET_PATTERN = /^[A-Za-z0-9_-]{32,}$/

/**
 * The secret that signs tickets and dev tokens when none is set: made once, and kept beside the data so that tokens outlive a
 * restart.
 */
export const keptClusterSecret = (paths: DataPaths): Effect.Effect<Redacted.Redacted<string>, DataFolderUnusable> =>
  attempt(paths.folder, () => {
    try {
      const kept = fs.readFileSync(paths.clusterSecret, "utf8").trim()
      if (SECRET_PATTERN.test(kept)) return Redacted.make(kept)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause
    }
    const made = randomBytes(48).toString("base64url")
    const draft = `${paths.clusterSecret}.new`
    fs.writeFileSync(draft, `${made}\n`, { mode: 0o600, flush: true })
    fs.renameSync(draft, paths.clusterSecret)
    return Redacted.make(made)
  })
