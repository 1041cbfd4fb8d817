/** How events are found in the log's SQLite file. Runs in worker threads: loads nothing but node. */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { SqliteUnusable, statements } from "../platform/worker/sqlite.ts"
import { ID_BASE, SLICE } from "./EventLogSqliteFile.ts"

/** An entry of a tail: the key of its sender and cid, then its position. */
const ENTRY_BYTES = 12
const POSITION_BYTES = 6

/** A conversation's row. `id` is its number within this file. */
export interface ConversationRow {
  readonly id: number
  readonly conv: string
  readonly title: string | null
  readonly seq: number
  readonly at: number
  readonly position: number
  /** The events since the last whole slice: their keys, see {@link cidKeys}, and their positions. */
  readonly tail: { readonly keys: ReadonlyArray<number>; readonly positions: ReadonlyArray<number> }
}

/** Finds conversations and events, by what is in the file. One for each connection. */
export class LogIndex {
  readonly #conversation: StatementSync
  readonly #slices: StatementSync
  readonly #cid: StatementSync
  readonly #event: StatementSync
  readonly #members: StatementSync

  constructor(db: DatabaseSync) {
    const sql = statements(db)
    this.#conversation = sql("SELECT id, title, seq, at, position, tail FROM conversations WHERE conv = ?")
    this.#slices = sql(
      "SELECT slice, positions FROM slices WHERE conversation = ? AND slice BETWEEN ? AND ? ORDER BY slice"
    )
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
    return { id, conv, title, seq, at, position, tail: decodeTail(tail) }
  }

  /** The members as one flat list: user, admin, since, delivered, seen, user, … */
  members(id: number): Array<string | number> {
    return (this.#members.all(id) as unknown as Array<Array<string | number>>).flat()
  }

  /** The positions of the events from `first` to `last`, which the conversation must have. */
  positions(row: ConversationRow, first: number, last: number): Array<number> {
    const positions: Array<number> = []
    const sliced = row.seq - row.tail.positions.length
    if (first <= sliced) {
      const rows = this.#slices.all(
        row.id,
        Math.floor((first - 1) / SLICE),
        Math.floor((Math.min(last, sliced) - 1) / SLICE)
      )
      for (const [slice, bytes] of rows as unknown as Array<[number, Uint8Array]>) {
        const blob = bufferOf(bytes)
        const start = slice * SLICE
        for (let seq = Math.max(first, start + 1); seq <= Math.min(last, start + SLICE); seq++) {
          positions.push(blob.readUIntLE((seq - start - 1) * POSITION_BYTES, POSITION_BYTES))
        }
      }
    }
    for (let seq = Math.max(first, sliced + 1); seq <= last; seq++)
      positions.push(row.tail.positions[seq - sliced - 1]!)
    if (positions.length !== last - first + 1) throw missing(`a slice of ${row.conv}`)
    return positions
  }

  /** The positions of the events that have this key. */
  keyed({ id, seq, tail }: ConversationRow, key: number): Array<number> {
    const found: Array<number> = []
    for (let at = tail.keys.indexOf(key); at >= 0; at = tail.keys.indexOf(key, at + 1)) found.push(tail.positions[at]!)
    if (seq > tail.keys.length) {
      for (const [position] of this.#cid.all(id, key) as unknown as Array<[number]>) found.push(position)
    }
    return found
  }

  /** The record of an event that the log must hold. */
  record(partition: number, position: number): string {
    const row = this.#event.get(partition * ID_BASE + position) as unknown as [string] | undefined
    if (row === undefined) throw missing(`event ${position} of partition ${partition}`)
    return row[0]
  }
}

const missing = (what: string): Error =>
  new SqliteUnusable("corrupt", `the file is damaged: ${what} is missing; restore a backup`)

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A tail as it is in its column. */
export const encodeTail = ({ keys, positions }: ConversationRow["tail"]): Buffer => {
  const bytes = Buffer.allocUnsafe(keys.length * ENTRY_BYTES)
  for (let i = 0, at = 0; i < keys.length; i++, at += ENTRY_BYTES) {
    bytes.writeUIntLE(keys[i]!, at, 6)
    bytes.writeUIntLE(positions[i]!, at + 6, 6)
  }
  return bytes
}

const decodeTail = (bytes: Uint8Array): ConversationRow["tail"] => {
  const blob = bufferOf(bytes)
  const keys: Array<number> = []
  const positions: Array<number> = []
  for (let at = 0; at < blob.length; at += ENTRY_BYTES) {
    keys.push(blob.readUIntLE(at, 6))
    positions.push(blob.readUIntLE(at + 6, 6))
  }
  return { keys, positions }
}

/** The positions of a slice as they are in their column. */
export const encodeSlice = (positions: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.allocUnsafe(positions.length * POSITION_BYTES)
  positions.forEach((position, i) => bytes.writeUIntLE(position, i * POSITION_BYTES, POSITION_BYTES))
  return bytes
}

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
