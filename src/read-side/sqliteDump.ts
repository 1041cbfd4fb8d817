import type { DatabaseSync } from "node:sqlite"
import { statements } from "../platform/worker/sqlite.ts"
import type { DumpRow } from "./ReadModels.ts"
import { conversationOf, memberOf, messageReader, type Row } from "./sqliteRows.ts"
import { dumpConversation, dumpMember, dumpMessage, KINDS } from "./Store.ts"

/** The canonical rows of a file, a page at a time: conversation by conversation, each with its members and messages. */
export const makeSqliteDump = (
  db: DatabaseSync
): ((after: ReadonlyArray<string> | undefined, limit: number) => ReadonlyArray<DumpRow>) => {
  const sql = statements(db)
  const all = (text: string, ...values: Array<string | number>) =>
    sql(text).all(...values) as unknown as ReadonlyArray<Row>
  const messages = messageReader(sql)
  return (after, limit) => {
    const found: Array<DumpRow> = []
    const room = (): number => limit - found.length
    const within = (id: number, conv: string, user: string, seq: number): void => {
      // A user in the key of the last row means: members after it; a seq means that the members are done.
      if (seq === 0) {
        for (const row of all(
          "SELECT * FROM members WHERE conversation = ? AND user > ? ORDER BY user LIMIT ?",
          id,
          user,
          room()
        )) {
          found.push(dumpMember(conv, memberOf(row)))
        }
      }
      const rows = all(
        "SELECT seq, reactions, message FROM messages WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?",
        id,
        seq,
        room()
      )
      for (const row of rows) found.push(dumpMessage(messages.whole(id, conv, row)))
    }
    let [conv = "", kind, place = ""] = after ?? []
    if (kind !== undefined) {
      const row = all("SELECT id FROM conversations WHERE conv = ?", conv)[0]
      if (row !== undefined) {
        within(row[0] as number, conv, kind === KINDS.member ? place : "", kind === KINDS.message ? Number(place) : 0)
      }
    }
    while (room() > 0) {
      const row = all("SELECT * FROM conversations WHERE conv > ? ORDER BY conv LIMIT 1", conv)[0]
      if (row === undefined) break
      conv = row[1] as string
      found.push(dumpConversation(conversationOf(row)))
      within(row[0] as number, conv, "", 0)
    }
    return found
  }
}
