import type { StatementSync } from "node:sqlite"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"
import { foldedMessage, type MessageRow, react, reactionsOf } from "./messages.ts"
import { REACTIONS_BYTES, withinReactionBytes } from "./paging.ts"
import type { ConversationRow, MemberRow } from "./projection.ts"

/** Column values in the order in which the tables were made. */
export type Row = ReadonlyArray<string | number | null>

export const conversationOf = (row: Row): ConversationRow => ({
  conv: row[1] as string,
  kind: row[2] as "dm" | "group",
  ...(row[3] === null ? {} : { title: row[3] as string }),
  partition: row[4] as number,
  head: row[5] as number,
  at: row[6] as number,
  position: row[7] as number,
  members: row[8] as number,
  messages: row[9] as number,
  last: row[10] as number
})

export const memberOf = (row: Row): MemberRow => ({
  user: row[1] as string,
  admin: row[2] === 1,
  since: row[3] as number,
  delivered: row[4] as number,
  seen: row[5] as number,
  own: row[6] as number,
  read: row[7] as number,
  left: row[8] as number
})

/** A message that may become part of an answer, parsed only when it does. */
export interface StoredMessage {
  readonly bytes: number
  readonly message: () => FoldedMessage
}

/** Reads messages of a conversation (by its row id), nearest to the bound first. */
export const messageReader = (sql: (text: string) => StatementSync) => {
  const reactions = (id: number, seq: Seq, bytes: number): FoldedMessage["reactions"] => {
    const found = new Map<string, Set<UserId>>()
    const rows = sql(
      "SELECT emoji, user FROM reactions WHERE conversation = ? AND seq = ? ORDER BY emoji, user"
    ).iterate(id, seq) as unknown as Iterable<readonly [string, UserId]>
    let size = 0
    for (const [emoji, user] of rows) {
      react(found, emoji, user, true)
      size += user.length + 3
      if (size > bytes) break
    }
    return reactionsOf(found)
  }
  /** Whole, however large. */
  const whole = (id: number, conv: ConversationId, [seq, reacted, json]: Row): FoldedMessage =>
    foldedMessage(
      conv,
      seq as number,
      JSON.parse(json as string) as MessageRow,
      reacted === 0 ? undefined : reactions(id, seq as number, Infinity)
    )
  const stored = (id: number, conv: ConversationId, rows: ReadonlyArray<Row>): ReadonlyArray<StoredMessage> =>
    rows.map(([seq, reacted, json]) => {
      const place = conv.length + 40
      if (reacted === 0) {
        return {
          bytes: Buffer.byteLength(json as string) + place,
          message: () => foldedMessage(conv, seq as number, JSON.parse(json as string) as MessageRow, undefined)
        }
      }
      const all = reactions(id, seq as number, REACTIONS_BYTES)
      const message = withinReactionBytes(
        foldedMessage(conv, seq as number, JSON.parse(json as string) as MessageRow, all)
      )
      return { bytes: Buffer.byteLength(JSON.stringify(message)) + 1, message: () => message }
    })
  return {
    whole,
    below: (id: number, conv: ConversationId, before: Seq, limit: number) =>
      stored(
        id,
        conv,
        sql(
          "SELECT seq, reactions, message FROM messages WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
        ).all(id, before, limit) as unknown as ReadonlyArray<Row>
      ),
    above: (id: number, conv: ConversationId, after: Seq, limit: number) =>
      stored(
        id,
        conv,
        sql("SELECT seq, reactions, message FROM messages WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?").all(
          id,
          after,
          limit
        ) as unknown as ReadonlyArray<Row>
      )
  }
}
