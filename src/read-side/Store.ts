import type { ConversationId, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { FoldedMessage, Member } from "../domain/protocol/server-frames.ts"
import { type ConversationRow, type MemberRow, project, type Rows, unreadOf } from "./projection.ts"
import type {
  Access,
  Conversations,
  ConversationsBefore,
  Counts,
  DumpRow,
  InboxEntry,
  Page,
  PageRequest,
  Run
} from "./ReadModels.ts"

/** The read models of one process, answered without waiting: in memory, or in the thread that holds their file. As the port says. */
export interface Store {
  readonly checkpoints: () => Vector
  readonly apply: (runs: ReadonlyArray<Run>) => Vector
  readonly access: (conv: ConversationId, user: UserId) => Access | undefined
  readonly page: (conv: ConversationId, request: PageRequest) => Page | undefined
  readonly roster: (conv: ConversationId, after: UserId, limit: number) => ReadonlyArray<Member>
  readonly conversations: (user: UserId, before: ConversationsBefore | undefined, limit: number) => Conversations
  readonly inbox: (user: UserId, vector: Vector, after: ConversationId, limit: number) => ReadonlyArray<InboxEntry>
  readonly counts: () => Counts
}

/** Applies what follows on the checkpoints and moves them; what is before them is skipped, and so is what comes after a hole. */
export const applyRuns = (rows: Rows, checkpoints: Array<number>, runs: ReadonlyArray<Run>): void => {
  for (const { events, partition } of runs) {
    let checkpoint = checkpoints[partition]!
    for (const event of events) {
      if (event.position <= checkpoint) continue
      if (event.position !== checkpoint + 1) break
      project(rows, event)
      checkpoint++
    }
    checkpoints[partition] = checkpoint
  }
}

/** A line of the conversation list. `members` in the order of ids, undefined where there are more than 50. */
export const conversationItem = (
  row: ConversationRow,
  me: MemberRow,
  members: ReadonlyArray<UserId> | undefined,
  last: FoldedMessage | undefined
): Conversations["items"][number] => ({
  at: row.at,
  item: {
    conv: row.conv,
    kind: row.kind,
    ...(row.title === undefined ? {} : { title: row.title }),
    ...(members === undefined ? {} : { members }),
    head: row.head,
    seen: me.seen,
    unread: unreadOf(row, me),
    ...(last === undefined ? {} : { last })
  }
})

/** How far everyone is. From entries, because a user may be called `__proto__`. */
export const receiptsOf = (
  members: Iterable<{ readonly user: UserId; readonly delivered: number; readonly seen: number }>
): NonNullable<Page["receipts"]> =>
  Object.fromEntries(Array.from(members, ({ delivered, seen, user }) => [user, { delivered, seen }]))

export const KINDS = { conversation: "conversation", member: "member", message: "message" } as const

/** The canonical rows. Seqs are padded, so that their text is in the order of their numbers. */
export const dumpConversation = (row: ConversationRow): DumpRow => ({
  key: [row.conv, KINDS.conversation],
  value: JSON.stringify([
    row.kind,
    row.title ?? null,
    row.partition,
    row.head,
    row.at,
    row.position,
    row.members,
    row.messages,
    row.last
  ])
})

export const dumpMember = (conv: ConversationId, row: MemberRow): DumpRow => ({
  key: [conv, KINDS.member, row.user],
  value: JSON.stringify([row.admin, row.since, row.delivered, row.seen, row.own, row.read, row.left])
})

export const dumpMessage = (message: FoldedMessage): DumpRow => ({
  key: [message.conv, KINDS.message, String(message.seq).padStart(16, "0")],
  value: JSON.stringify(message)
})

/** The order of dump keys: part by part by code unit; a shorter key before the longer ones that begin with it. */
export const compareKeys = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): number => {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a[i]! !== b[i]!) return a[i]! < b[i]! ? -1 : 1
  }
  return a.length - b.length
}
