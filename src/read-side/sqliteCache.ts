import type { DatabaseSync } from "node:sqlite"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { statements } from "../platform/worker/sqlite.ts"
import type { MessageRow } from "./messages.ts"
import type { ConversationRow, MemberRow, Rows } from "./projection.ts"
import { conversationOf, memberOf, type Row } from "./sqliteRows.ts"

/** Entries in each of the two generations of a cache: some 10 MB when all are full. */
const CONVERSATIONS = 10_000
const MEMBERS = 20_000

/** What was used lately, in two generations: the older one is dropped when the younger is full. */
class Recent<V> {
  #young = new Map<string, V>()
  #old = new Map<string, V>()
  readonly #size: number
  constructor(size: number) {
    this.#size = size
  }
  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.#young.set(key, old)
    return old
  }
  set(key: string, value: V): void {
    this.#young.set(key, value)
  }
  /** Only when all is written: nothing else may be dropped. */
  trim(): void {
    if (this.#young.size < this.#size) return
    this.#old = this.#young
    this.#young = new Map()
  }
  clear(): void {
    this.#young.clear()
    this.#old.clear()
  }
}

interface CachedConversation {
  readonly id: number
  /** Made in this batch: all that is in it is in memory. */
  fresh: boolean
  row: ConversationRow
  dirty: boolean
}

interface CachedMember {
  readonly id: number
  row: MemberRow
  dirty: boolean
}

/**
 * {@link Rows} over the tables. Conversations and members are kept as objects and written by `flush`, before they are read or committed; messages and
 * reactions are written at once.
 */
export const makeRowCache = (
  db: DatabaseSync
): { readonly rows: Rows; readonly flush: () => void; readonly clear: () => void } => {
  const sql = statements(db)
  const conversations = new Recent<CachedConversation>(CONVERSATIONS)
  const members = new Recent<CachedMember>(MEMBERS)
  const dirtyConversations: Array<CachedConversation> = []
  const dirtyMembers: Array<CachedMember> = []

  const afterLast = (): number =>
    ((sql("SELECT max(id) FROM conversations").get() as unknown as readonly [number | null])[0] ?? 0) + 1
  let nextId = afterLast()

  const conversation = (conv: ConversationId): CachedConversation | undefined => {
    const cached = conversations.get(conv)
    if (cached !== undefined) return cached
    const row = sql("SELECT * FROM conversations WHERE conv = ?").get(conv) as unknown as Row | undefined
    if (row === undefined) return undefined
    const loaded = { id: row[0] as number, fresh: false, row: conversationOf(row), dirty: false }
    conversations.set(conv, loaded)
    return loaded
  }
  const member = (conv: ConversationId, user: UserId): CachedMember | undefined => {
    const of = conversation(conv)
    if (of === undefined) return undefined
    const { fresh, id } = of
    const key = `${id} ${user}`
    const cached = members.get(key)
    if (cached !== undefined || fresh) return cached
    const row = sql("SELECT * FROM members WHERE conversation = ? AND user = ?").get(id, user) as unknown as
      | Row
      | undefined
    if (row === undefined) return undefined
    const loaded = { id, row: memberOf(row), dirty: false }
    members.set(key, loaded)
    return loaded
  }
  const writeMembers = (): void => {
    const put = sql(
      `INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (conversation, user) DO UPDATE SET admin = excluded.admin,
       since = excluded.since, delivered = excluded.delivered, seen = excluded.seen, own = excluded.own, read = excluded.read, gone = excluded.gone`
    )
    for (const entry of dirtyMembers) {
      const { admin, delivered, left, own, read, seen, since, user } = entry.row
      put.run(entry.id, user, admin ? 1 : 0, since, delivered, seen, own, read, left)
      entry.dirty = false
    }
    dirtyMembers.length = 0
  }

  const rows: Rows = {
    conversation: (conv) => conversation(conv)?.row,
    putConversation: (row) => {
      let entry = conversation(row.conv)
      if (entry === undefined) {
        entry = { id: nextId++, fresh: true, row, dirty: false }
        conversations.set(row.conv, entry)
      }
      entry.row = row
      if (entry.dirty) return
      entry.dirty = true
      dirtyConversations.push(entry)
    },
    member: (conv, user) => member(conv, user)?.row,
    putMember: (conv, row) => {
      let entry = member(conv, row.user)
      if (entry === undefined) {
        const { id } = conversation(conv)!
        entry = { id, row, dirty: false }
        members.set(`${id} ${row.user}`, entry)
      }
      entry.row = row
      if (entry.dirty) return
      entry.dirty = true
      dirtyMembers.push(entry)
    },
    successors: (conv, except) => {
      writeMembers()
      const { id } = conversation(conv)!
      let admin: MemberRow | undefined
      let eldest: MemberRow | undefined
      const candidates = sql("SELECT * FROM members WHERE conversation = ? AND gone = 0 ORDER BY user").iterate(
        id
      ) as unknown as Iterable<Row>
      for (const candidate of candidates) {
        if (except.has(candidate[1] as string)) continue
        if (admin === undefined && candidate[2] === 1) admin = memberOf(candidate)
        if (eldest === undefined || (candidate[3] as number) < eldest.since) eldest = memberOf(candidate)
      }
      return { admin, eldest }
    },
    message: (conv, seq) => {
      const found = sql("SELECT message FROM messages WHERE conversation = ? AND seq = ?").get(
        conversation(conv)!.id,
        seq
      ) as unknown as readonly [string] | undefined
      return found && (JSON.parse(found[0]) as MessageRow)
    },
    putMessage: (conv, seq, row) => {
      sql(
        `INSERT INTO messages VALUES (?, ?, ?, 0, ?) ON CONFLICT (conversation, seq) DO UPDATE SET message = excluded.message`
      ).run(conversation(conv)!.id, seq, row.by, JSON.stringify(row))
    },
    react: (conv, seq, emoji, user, on) => {
      const { id } = conversation(conv)!
      const { changes } = sql(
        on
          ? "INSERT OR IGNORE INTO reactions VALUES (?, ?, ?, ?)"
          : "DELETE FROM reactions WHERE conversation = ? AND seq = ? AND emoji = ? AND user = ?"
      ).run(id, seq, emoji, user)
      if (Number(changes) === 0) return
      sql("UPDATE messages SET reactions = reactions + ? WHERE conversation = ? AND seq = ?").run(on ? 1 : -1, id, seq)
    },
    clearReactions: (conv, seq) => {
      const { id } = conversation(conv)!
      sql("DELETE FROM reactions WHERE conversation = ? AND seq = ?").run(id, seq)
      sql("UPDATE messages SET reactions = 0 WHERE conversation = ? AND seq = ?").run(id, seq)
    },
    countByOthers: (conv, user, after, upTo) => {
      const [count] = sql(
        "SELECT count(*) FROM messages WHERE conversation = ? AND seq > ? AND seq <= ? AND author <> ?"
      ).get(conversation(conv)!.id, after, upTo, user) as unknown as readonly [number]
      return count
    }
  }

  return {
    rows,
    flush: () => {
      const add = sql("INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      const put = sql(
        `UPDATE conversations SET title = ?, head = ?, at = ?, position = ?, members = ?, messages = ?, last = ? WHERE id = ?`
      )
      for (const entry of dirtyConversations) {
        const { at, conv, head, kind, last, members, messages, partition, position, title } = entry.row
        if (entry.fresh)
          add.run(entry.id, conv, kind, title ?? null, partition, head, at, position, members, messages, last)
        else put.run(title ?? null, head, at, position, members, messages, last, entry.id)
        entry.dirty = false
        entry.fresh = false
      }
      dirtyConversations.length = 0
      writeMembers()
      conversations.trim()
      members.trim()
    },
    clear: () => {
      conversations.clear()
      members.clear()
      dirtyConversations.length = 0
      dirtyMembers.length = 0
      nextId = afterLast()
    }
  }
}
