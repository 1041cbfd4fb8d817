import type { DatabaseSync } from "node:sqlite"
import { NAMED_RECEIPTS_MAX } from "../domain/conversation.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { statements } from "../platform/worker/sqlite.ts"
import { choose, fitting, jsonBytes, lookups } from "./paging.ts"
import type { Counts, InboxEntry } from "./ReadModels.ts"
import { conversationOf, memberOf, messageReader, type Row } from "./sqliteRows.ts"
import { makeRowCache } from "./sqliteCache.ts"
import { applyRuns, conversationItem, receiptsOf, type Store } from "./Store.ts"

/** The version of the tables. A file of another one is thrown away and filled again from the log. */
export const FORMAT = 1

/** The tables of an empty file. */
export const createTables = (db: DatabaseSync, log: string, partitions: number): void => {
  db.exec(`
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE checkpoints (partition INTEGER PRIMARY KEY, position INTEGER NOT NULL) STRICT;
    CREATE TABLE conversations (
      id INTEGER PRIMARY KEY, conv TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, title TEXT, partition INTEGER NOT NULL, head INTEGER NOT NULL,
      at INTEGER NOT NULL, position INTEGER NOT NULL, members INTEGER NOT NULL, messages INTEGER NOT NULL, last INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE members (
      conversation INTEGER NOT NULL, user TEXT NOT NULL, admin INTEGER NOT NULL, since INTEGER NOT NULL, delivered INTEGER NOT NULL,
      seen INTEGER NOT NULL, own INTEGER NOT NULL, read INTEGER NOT NULL, gone INTEGER NOT NULL, PRIMARY KEY (conversation, user)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX members_by_user ON members (user, conversation);
    CREATE TABLE messages (
      conversation INTEGER NOT NULL, seq INTEGER NOT NULL, author TEXT NOT NULL, reactions INTEGER NOT NULL, message TEXT NOT NULL,
      PRIMARY KEY (conversation, seq)
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE reactions (
      conversation INTEGER NOT NULL, seq INTEGER NOT NULL, emoji TEXT NOT NULL, user TEXT NOT NULL,
      PRIMARY KEY (conversation, seq, emoji, user)
    ) WITHOUT ROWID, STRICT;
  `)
  const put = db.prepare("INSERT INTO meta VALUES (?, ?)")
  put.run("log", log)
  put.run("partitions", String(partitions))
  const checkpoint = db.prepare("INSERT INTO checkpoints VALUES (?, 0)")
  for (let partition = 0; partition < partitions; partition++) checkpoint.run(partition)
}

/** Whether the file's rows are a fold of this log, with this many partitions. */
export const isOfLog = (db: DatabaseSync, log: string, partitions: number): boolean => {
  const meta = new Map(
    db
      .prepare("SELECT key, value FROM meta")
      .all()
      .map((row) => [row["key"], row["value"]])
  )
  return meta.get("log") === log && meta.get("partitions") === String(partitions)
}

export const readCheckpoints = (db: DatabaseSync): Array<number> =>
  db
    .prepare("SELECT position FROM checkpoints ORDER BY partition")
    .all()
    .map((row) => row["position"] as number)

/**
 * Events in one transaction, unless {@link SqliteStore.commit} comes first. Many batches share one, because what a commit costs is the
 * pages that it touches: 5,000 events touch little more than 500.
 */
const COMMIT_EVENTS = 5_000

/** {@link Store} in an SQLite file. What was applied is readable at once, and in the file after `commit`. */
export interface SqliteStore extends Store {
  /** Writes what was applied, with its checkpoints. What throws here is lost, and the checkpoints fall back to the last commit. */
  readonly commit: () => void
}

/** The store of a file that has its tables. */
export const makeSqliteStore = (db: DatabaseSync): SqliteStore => {
  const sql = statements(db)
  const all = (text: string, ...values: Array<string | number>) =>
    sql(text).all(...values) as unknown as ReadonlyArray<Row>
  const one = (text: string, ...values: Array<string | number>) =>
    sql(text).get(...values) as unknown as Row | undefined
  const cache = makeRowCache(db)
  const messages = messageReader(sql)
  let committed = readCheckpoints(db)
  let checkpoints = committed
  let uncommitted = 0
  /** Whether checkpoints that were told have fallen back, and nobody has asked since. */
  let fellBack = false

  /** A failure takes the whole open transaction: nobody may go on believing in what was in it. */
  const orFallBack = <A>(work: () => A): A => {
    try {
      return work()
    } catch (cause) {
      if (db.isOpen && db.isTransaction) db.exec("ROLLBACK")
      cache.clear()
      fellBack ||= uncommitted > 0
      checkpoints = committed
      uncommitted = 0
      throw cause
    }
  }
  const commit = (): void => {
    if (!db.isTransaction) return
    orFallBack(() => {
      cache.flush()
      for (let partition = 0; partition < checkpoints.length; partition++) {
        if (checkpoints[partition] === committed[partition]) continue
        sql("UPDATE checkpoints SET position = ? WHERE partition = ?").run(checkpoints[partition]!, partition)
      }
      db.exec("COMMIT")
    })
    committed = checkpoints
    uncommitted = 0
  }
  /** Reads see what was applied, or fail: never less than the checkpoints that were told. */
  const reading =
    <Args extends ReadonlyArray<unknown>, A>(read: (...args: Args) => A) =>
    (...args: Args): A => {
      if (fellBack) throw new Error("what was applied last was lost; it is taken from the log again")
      if (uncommitted > 0) orFallBack(cache.flush)
      return read(...args)
    }

  const names = (id: number): ReadonlyArray<UserId> =>
    all("SELECT user FROM members WHERE conversation = ? AND gone = 0 ORDER BY user", id).map(
      ([user]) => user as string
    )
  const find = (conv: ConversationId) => {
    const row = one("SELECT * FROM conversations WHERE conv = ?", conv)
    return row && { id: row[0] as number, row: conversationOf(row) }
  }

  return {
    checkpoints: () => {
      fellBack = false
      return [...checkpoints]
    },
    apply: (runs) => {
      const next = [...checkpoints]
      orFallBack(() => {
        if (!db.isTransaction) db.exec("BEGIN IMMEDIATE")
        applyRuns(cache.rows, next, runs)
      })
      for (let partition = 0; partition < next.length; partition++)
        uncommitted += next[partition]! - checkpoints[partition]!
      checkpoints = next
      if (uncommitted >= COMMIT_EVENTS) commit()
      fellBack = false
      return [...next]
    },
    commit,
    access: reading<Parameters<Store["access"]>, ReturnType<Store["access"]>>((conv, user) => {
      const row = one(
        `SELECT c.head, m.gone FROM conversations c LEFT JOIN members m ON m.conversation = c.id AND m.user = ? WHERE c.conv = ?`,
        user,
        conv
      )
      return row && { member: row[1] === 0, head: row[0] as number }
    }),
    page: reading<Parameters<Store["page"]>, ReturnType<Store["page"]>>((conv, request) => {
      const found = find(conv)
      if (found === undefined) return undefined
      const { id, row } = found
      const { newer, older } = lookups(request)
      const { chosen, more } = choose(
        request,
        older === undefined ? [] : messages.below(id, conv, older.before, older.limit),
        newer === undefined ? [] : messages.above(id, conv, newer.after, newer.limit)
      )
      const receipts =
        row.members > NAMED_RECEIPTS_MAX
          ? undefined
          : all("SELECT * FROM members WHERE conversation = ? AND gone = 0 ORDER BY user", id).map(memberOf)
      return {
        messages: chosen.map(({ message }) => message()),
        head: row.head,
        more,
        ...(receipts === undefined ? {} : { receipts: receiptsOf(receipts) })
      }
    }),
    roster: reading<Parameters<Store["roster"]>, ReturnType<Store["roster"]>>((conv, after, limit) =>
      all(
        `SELECT m.user, m.admin, m.since FROM conversations c JOIN members m ON m.conversation = c.id
         WHERE c.conv = ? AND m.user > ? AND m.gone = 0 ORDER BY m.user LIMIT ?`,
        conv,
        after,
        limit
      ).map(([user, admin, since]) => ({ user: user as string, admin: admin === 1, since: since as number }))
    ),
    conversations: reading<Parameters<Store["conversations"]>, ReturnType<Store["conversations"]>>(
      (user, before, limit) => {
        const found = all(
          `SELECT c.*, m.* FROM members m JOIN conversations c ON c.id = m.conversation
         WHERE m.user = ? AND m.gone = 0 AND (c.at, c.conv) < (?, ?) ORDER BY c.at DESC, c.conv DESC LIMIT ?`,
          user,
          before?.at ?? Number.MAX_SAFE_INTEGER,
          before?.conv ?? "",
          limit + 1
        )
        const items = found.slice(0, limit).map((columns) => {
          const id = columns[0] as number
          const row = conversationOf(columns)
          const last = row.last === 0 ? undefined : messages.above(id, row.conv, row.last - 1, 1)[0]?.message()
          return conversationItem(
            row,
            memberOf(columns.slice(11)),
            row.members > NAMED_RECEIPTS_MAX ? undefined : names(id),
            last
          )
        })
        const count = fitting(items.map(({ item }) => jsonBytes(item)))
        return { items: items.slice(0, count), more: found.length > count }
      }
    ),
    inbox: reading<Parameters<Store["inbox"]>, ReturnType<Store["inbox"]>>((user, vector, after, limit) => {
      const found: Array<InboxEntry> = []
      const rows = sql(
        `SELECT c.conv, c.partition, c.head, c.position, m.gone, c.members FROM members m JOIN conversations c ON c.id = m.conversation
         WHERE m.user = ? AND c.conv > ? ORDER BY c.conv`
      ).iterate(user, after) as unknown as Iterable<Row>
      for (const [conv, partition, head, position, left, members] of rows as Iterable<
        [string, number, number, number, number, number]
      >) {
        if ((left === 0 ? position : left) <= (vector[partition] ?? 0)) continue
        found.push({ conv, head, position, left, members })
        if (found.length >= limit) break
      }
      return found
    }),
    counts: reading(() => countsOf(db))
  }
}

const countsOf = (db: DatabaseSync): Counts =>
  ({
    ...db
      .prepare(
        `SELECT (SELECT count(*) FROM conversations) AS conversations, (SELECT count(*) FROM members WHERE gone = 0) AS members,
       (SELECT count(*) FROM messages) AS messages, (SELECT count(*) FROM reactions) AS reactions`
      )
      .get()
  }) as unknown as Counts
