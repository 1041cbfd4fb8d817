import { NAMED_RECEIPTS_MAX } from "../domain/conversation.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import { type Vector, zeroVector } from "../domain/partition.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"
import { foldedMessage, type MessageRow, react, reactionsOf } from "./messages.ts"
import { choose, fitting, jsonBytes, lookups, withinReactionBytes } from "./paging.ts"
import type { ConversationRow, MemberRow, Rows } from "./projection.ts"
import type { DumpRow } from "./ReadModels.ts"
import {
  applyRuns,
  compareKeys,
  conversationItem,
  dumpConversation,
  dumpMember,
  dumpMessage,
  receiptsOf,
  type Store
} from "./Store.ts"

interface Held {
  row: ConversationRow
  readonly members: Map<UserId, MemberRow>
  /** In seq order. */
  readonly messages: Array<{ readonly seq: Seq; row: MessageRow }>
  readonly reactions: Map<Seq, Map<string, Set<UserId>>>
}

/**
 * {@link Store} in maps, with everything there is as its `dump`. Grows with the log: for tests and simulations, which may break it on
 * purpose by `breaks`.
 */
export const makeMemoryStore = (
  partitions: number,
  breaks: (rows: Rows) => Rows = (rows) => rows
): Store & { readonly dump: () => ReadonlyArray<DumpRow> } => {
  const checkpoints = [...zeroVector(partitions)]
  const conversations = new Map<ConversationId, Held>()
  const byUser = new Map<UserId, Set<ConversationId>>()

  /** The index of the first message with this seq or a higher one. */
  const indexOf = ({ messages }: Held, seq: Seq): number => {
    let low = 0
    let high = messages.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (messages[middle]!.seq < seq) low = middle + 1
      else high = middle
    }
    return low
  }
  const messageAt = (held: Held | undefined, seq: Seq) => {
    const found = held?.messages[indexOf(held, seq)]
    return found?.seq === seq ? found : undefined
  }
  const here = (held: Held): ReadonlyArray<MemberRow> =>
    [...held.members.values()].filter((member) => member.left === 0).sort((a, b) => (a.user < b.user ? -1 : 1))
  const folded = (held: Held, index: number): FoldedMessage => {
    const { row, seq } = held.messages[index]!
    return foldedMessage(held.row.conv, seq, row, reactionsOf(held.reactions.get(seq)))
  }
  const answered = (held: Held, index: number): FoldedMessage => withinReactionBytes(folded(held, index))

  const rows: Rows = {
    conversation: (conv) => conversations.get(conv)?.row,
    putConversation: (row) => {
      const held = conversations.get(row.conv)
      if (held === undefined) {
        conversations.set(row.conv, { row, members: new Map(), messages: [], reactions: new Map() })
      } else held.row = row
    },
    member: (conv, user) => conversations.get(conv)?.members.get(user),
    putMember: (conv, row) => {
      conversations.get(conv)!.members.set(row.user, row)
      const convs = byUser.get(row.user)
      if (convs === undefined) byUser.set(row.user, new Set([conv]))
      else convs.add(conv)
    },
    successors: (conv, except) => {
      let admin: MemberRow | undefined
      let eldest: MemberRow | undefined
      for (const member of here(conversations.get(conv)!)) {
        if (except.has(member.user)) continue
        if (member.admin) admin ??= member
        if (eldest === undefined || member.since < eldest.since) eldest = member
      }
      return { admin, eldest }
    },
    message: (conv, seq) => messageAt(conversations.get(conv), seq)?.row,
    putMessage: (conv, seq, row) => {
      const held = conversations.get(conv)!
      const known = messageAt(held, seq)
      if (known === undefined) held.messages.push({ seq, row })
      else known.row = row
    },
    react: (conv, seq, emoji, user, on) => {
      const { reactions } = conversations.get(conv)!
      const ofMessage = reactions.get(seq) ?? new Map<string, Set<UserId>>()
      react(ofMessage, emoji, user, on)
      if (ofMessage.size === 0) reactions.delete(seq)
      else reactions.set(seq, ofMessage)
    },
    clearReactions: (conv, seq) => void conversations.get(conv)!.reactions.delete(seq),
    countByOthers: (conv, user, after, upTo) => {
      const held = conversations.get(conv)!
      let count = 0
      for (let i = indexOf(held, after + 1); i < held.messages.length && held.messages[i]!.seq <= upTo; i++) {
        if (held.messages[i]!.row.by !== user) count++
      }
      return count
    }
  }

  const used = breaks(rows)

  const memberships = (user: UserId): ReadonlyArray<{ readonly held: Held; readonly me: MemberRow }> =>
    Array.from(byUser.get(user) ?? [], (conv) => {
      const held = conversations.get(conv)!
      return { held, me: held.members.get(user)! }
    })

  return {
    checkpoints: () => [...checkpoints],
    apply: (runs) => {
      applyRuns(used, checkpoints, runs)
      return [...checkpoints]
    },
    access: (conv, user) => {
      const held = conversations.get(conv)
      return held && { member: held.members.get(user)?.left === 0, head: held.row.head }
    },
    page: (conv, request) => {
      const held = conversations.get(conv)
      if (held === undefined) return undefined
      const { newer, older } = lookups(request)
      const candidate = (index: number) => {
        const message = answered(held, index)
        return { message, bytes: jsonBytes(message) }
      }
      const below = older && indexOf(held, older.before)
      const above = newer && indexOf(held, newer.after + 1)
      const { chosen, more } = choose(
        request,
        below === undefined ? [] : range(below - 1, Math.max(-1, below - 1 - older!.limit), -1).map(candidate),
        above === undefined ? [] : range(above, Math.min(held.messages.length, above + newer!.limit), 1).map(candidate)
      )
      return {
        messages: chosen.map(({ message }) => message),
        head: held.row.head,
        more,
        ...(held.row.members > NAMED_RECEIPTS_MAX ? {} : { receipts: receiptsOf(here(held)) })
      }
    },
    roster: (conv, after, limit) => {
      const held = conversations.get(conv)
      if (held === undefined) return []
      return here(held)
        .filter(({ user }) => user > after)
        .slice(0, limit)
        .map(({ admin, since, user }) => ({ user, admin, since }))
    },
    conversations: (user, before, limit) => {
      const found = memberships(user)
        .filter(({ me }) => me.left === 0)
        .filter(
          ({ held: { row } }) =>
            before === undefined || row.at < before.at || (row.at === before.at && row.conv < before.conv)
        )
        .sort(({ held: { row: a } }, { held: { row: b } }) => (a.at !== b.at ? b.at - a.at : a.conv < b.conv ? 1 : -1))
      const items = found.slice(0, limit).map(({ held, me }) => {
        const small = held.row.members <= NAMED_RECEIPTS_MAX
        const last = held.messages.length === 0 ? undefined : answered(held, held.messages.length - 1)
        return conversationItem(held.row, me, small ? here(held).map((member) => member.user) : undefined, last)
      })
      const count = fitting(items.map(({ item }) => jsonBytes(item)))
      return { items: items.slice(0, count), more: found.length > count }
    },
    inbox: (user, vector, after, limit) =>
      memberships(user)
        .filter(({ held: { row }, me }) => row.conv > after && isMissed(row, me, vector))
        .sort(({ held: { row: a } }, { held: { row: b } }) => (a.conv < b.conv ? -1 : 1))
        .slice(0, limit)
        .map(({ held: { row }, me }) => ({
          conv: row.conv,
          head: row.head,
          position: row.position,
          left: me.left,
          members: row.members
        })),
    counts: () => {
      const counts = { conversations: conversations.size, members: 0, messages: 0, reactions: 0 }
      for (const held of conversations.values()) {
        counts.members += here(held).length
        counts.messages += held.messages.length
        for (const emojis of held.reactions.values())
          for (const users of emojis.values()) counts.reactions += users.size
      }
      return counts
    },
    dump: () =>
      [...conversations.values()]
        .flatMap((held) => [
          dumpConversation(held.row),
          ...Array.from(held.members.values(), (member) => dumpMember(held.row.conv, member)),
          ...held.messages.map((_, index) => dumpMessage(folded(held, index)))
        ])
        .sort((a, b) => compareKeys(a.key, b.key))
  }
}

/** Whether something happened for this user past the vector: anything while a member, otherwise the removal itself. */
const isMissed = (row: ConversationRow, me: MemberRow, vector: Vector): boolean =>
  (me.left === 0 ? row.position : me.left) > (vector[row.partition] ?? 0)

const range = (from: number, to: number, step: 1 | -1): Array<number> => {
  const out: Array<number> = []
  for (let i = from; i !== to; i += step) out.push(i)
  return out
}
