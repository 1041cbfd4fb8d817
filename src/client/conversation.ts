/** What a user interface needs to know of one conversation. */
import { dmMembers } from "../domain/ids.ts"
import type {
  ConversationItem,
  FoldedMessage,
  Live,
  TimelineEvent,
  Watermarks
} from "../domain/protocol/server-frames.ts"
import { amended, applyTo } from "./fold.ts"
import type { Command } from "./outbox.ts"

/** How many members got as far as a seq, in a group over 50. */
export interface ReceiptCount {
  readonly seq: number
  readonly delivered: number
  readonly seen: number
}

/** One conversation. The object stays the same and changes; the messages in it are replaced, never changed. */
export interface Conversation {
  readonly conv: string
  readonly kind: "dm" | "group"
  readonly title: string | undefined
  /** Of dms and of groups up to 50; `undefined` when there are more, or not known. */
  readonly members: readonly string[] | undefined
  /** The last seq there is. */
  readonly head: number
  readonly seen: number
  readonly unread: number
  /** The last message, for the list. */
  readonly last: FoldedMessage | undefined
  /** The newest messages without a gap among them, oldest first: 200, or as far as was scrolled, 5,000 at most. */
  readonly messages: readonly FoldedMessage[]
  /** Whether `messages` has the newest: `history` was read since the last `reset`. */
  readonly loaded: boolean
  /** Whether there are older messages than those in `messages`. */
  readonly more: boolean
  /** One's own commands that are not persisted, in order; `failed` ones stay until `discard` or `again`. */
  readonly outgoing: readonly Command[]
  /** Messages of others that are accepted and not yet in the log. */
  readonly live: readonly Live[]
  readonly receipts: ReadonlyMap<string, Watermarks>
  readonly counts: ReceiptCount | undefined
  /** Who types now, oneself excluded, and until when that holds without being said again (local clock, milliseconds). */
  readonly typing: ReadonlyMap<string, number>
  /** Goes up with each change. */
  readonly version: number
}

/** A conversation as the store changes it. */
export interface State extends Conversation {
  title: string | undefined
  members: readonly string[] | undefined
  head: number
  seen: number
  unread: number
  last: FoldedMessage | undefined
  readonly messages: FoldedMessage[]
  loaded: boolean
  more: boolean
  readonly outgoing: Command[]
  live: Live[]
  readonly receipts: Map<string, Watermarks>
  counts: ReceiptCount | undefined
  readonly typing: Map<string, number>
  version: number
  /** While pages are read: the events since, because a page may be older than they are. */
  loading: TimelineEvent[] | undefined
  busy: Promise<void> | undefined
  /** Goes up with each `reset`: a page asked for before it is void. */
  generation: number
  windowMax: number
  touched: number
}

/** Messages kept of a conversation that nobody scrolls in. */
export const WINDOW = 200
/** Messages kept of one that somebody scrolls in. */
export const WINDOW_MAX = 5_000
/** Events kept while a page is read; with more than that, it is read again. */
export const LOADING_MAX = 1_000
/** Members are listed up to this many. */
export const LISTED_MEMBERS = 50

/** A conversation of which nothing is known but its name. */
export const blank = (conv: string): State => ({
  conv,
  kind: conv.startsWith("dm:") ? "dm" : "group",
  title: undefined,
  members: dmMembers(conv),
  head: 0,
  seen: 0,
  unread: 0,
  last: undefined,
  messages: [],
  loaded: false,
  more: true,
  outgoing: [],
  live: [],
  receipts: new Map(),
  counts: undefined,
  typing: new Map(),
  version: 0,
  loading: undefined,
  busy: undefined,
  generation: 0,
  windowMax: WINDOW,
  touched: 0
})

/** Takes over a line of the conversation list, unless events have been seen that it does not know of. */
export const takeItem = (state: State, item: ConversationItem): void => {
  if (item.title !== undefined) state.title = item.title
  if (item.members !== undefined) state.members = item.members
  if (item.head < state.head) return
  state.head = item.head
  state.unread = item.seen >= state.seen ? item.unread : state.unread
  state.seen = Math.max(state.seen, item.seen)
  state.last = item.last ?? state.last
}

/** Applies an event that comes after all before it. */
export const applyEvent = (state: State, event: TimelineEvent, me: string): void => {
  if (state.loading !== undefined && state.loading.length <= LOADING_MAX) state.loading.push(event)
  applyTo(state.messages, event)
  trim(state)
  const isNew = event.seq > state.head
  state.head = Math.max(state.head, event.seq)
  switch (event.type) {
    case "message":
      state.typing.delete(event.by)
      state.live = state.live.filter((live) => live.cid !== event.cid || live.by !== event.by)
      if (isNew && event.by !== me && event.seq > state.seen) state.unread++
      break
    case "created":
      state.title = event.data.title
      state.members = listed(event.data.members)
      state.more = false
      break
    case "title":
      state.title = event.data.title
      break
    case "members":
      state.members = membersAfter(state.members, event.data.added, event.data.removed)
  }
  if (event.seq === 1) state.more = false
  if (event.type === "message" || event.type === "edited" || event.type === "deleted") {
    const one = state.last === undefined ? [] : [state.last]
    applyTo(one, event)
    state.last = one.at(-1)
  }
}

/** One's own mark, from here or another device: what is read up to it is not unread. */
export const applySeen = (state: State, seen: number, me: string): void => {
  if (seen <= state.seen) return
  state.seen = seen
  const first = state.messages[0]
  if (seen >= state.head) state.unread = 0
  else if (first !== undefined && (first.seq <= seen + 1 || !state.more)) {
    state.unread = state.messages.filter((message) => message.seq > seen && message.by !== me).length
  }
}

/** Keeps the window within its bound: the oldest messages go. */
export const trim = (state: State): void => {
  const over = state.messages.length - state.windowMax
  if (over <= 0) return
  state.messages.splice(0, over)
  state.more = true
}

/** A message as its reader should see it: with one's own edits, deletion and reactions that are not persisted yet. */
export const shown = (conversation: Conversation, message: FoldedMessage, me: string): FoldedMessage => {
  let result = message
  for (const { frame, cid, state } of conversation.outgoing) {
    if (state === "failed" || !("target" in frame) || frame.target !== message.seq) continue
    const base = { conv: conversation.conv, seq: 0, by: me, at: message.at, cid }
    if (frame.t === "edit") result = amended(result, { ...base, type: "edited", data: frame })
    else if (frame.t === "delete") result = amended(result, { ...base, type: "deleted", data: frame })
    else result = amended(result, { ...base, type: "reaction", data: frame })
  }
  return result
}

/** How far a persisted message got: `delivered` or `seen` when that is so of everyone else who is known. */
export const tick = (conversation: Conversation, seq: number, me: string): "persisted" | "delivered" | "seen" => {
  const others = (conversation.members ?? [...conversation.receipts.keys()]).filter((user) => user !== me)
  const reached = (mark: keyof Watermarks): boolean =>
    others.length > 0 && others.every((user) => (conversation.receipts.get(user)?.[mark] ?? 0) >= seq)
  return reached("seen") ? "seen" : reached("delivered") ? "delivered" : "persisted"
}

const listed = (members: readonly string[]): readonly string[] | undefined =>
  members.length > LISTED_MEMBERS ? undefined : members

const membersAfter = (
  members: readonly string[] | undefined,
  added: readonly string[] = [],
  removed: readonly string[] = []
): readonly string[] | undefined => {
  if (members === undefined) return undefined
  const gone = new Set(removed)
  return listed([...new Set([...members, ...added])].filter((user) => !gone.has(user)))
}
