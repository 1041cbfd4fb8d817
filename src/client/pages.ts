/** Reads pages of history into a conversation while events go on coming. */
import type { FoldedMessage, ReplyBody, TimelineEvent } from "../domain/protocol/server-frames.ts"
import type { DardaClient } from "./client.ts"
import { LOADING_MAX, type State, trim, WINDOW_MAX } from "./conversation.ts"
import { applyTo } from "./fold.ts"

type Page = ReplyBody["history"]

/** Reads the newest messages in place of those there are; `undefined` when too much happened meanwhile to use the page. */
export const newest = async (client: DardaClient, state: State): Promise<Page | undefined> => {
  const { generation } = state
  const page = await client.history({ conv: state.conv })
  const since = state.loading ?? []
  if (state.generation !== generation || since.length > LOADING_MAX) return undefined
  const messages = replayed(page, since)
  const known = messages.at(-1)?.seq ?? 0
  const later = state.messages.filter((message) => message.seq > page.head && message.seq > known)
  state.messages.splice(0, state.messages.length, ...messages, ...later)
  state.more = page.more
  state.loaded = true
  state.head = Math.max(state.head, page.head)
  state.last = state.messages.at(-1) ?? state.last
  return page
}

/** Reads the page before the messages there are; `undefined` when too much happened meanwhile to use it. */
export const older = async (client: DardaClient, state: State): Promise<Page | undefined> => {
  const { generation } = state
  const before = state.messages[0]?.seq
  const page = await client.history({ conv: state.conv, ...(before === undefined ? {} : { before }) })
  const since = state.loading ?? []
  if (state.generation !== generation || state.messages[0]?.seq !== before || since.length > LOADING_MAX)
    return undefined
  const messages = replayed(page, since).filter((message) => before === undefined || message.seq < before)
  state.windowMax = Math.min(WINDOW_MAX, Math.max(state.windowMax, state.messages.length + messages.length))
  state.messages.unshift(...messages)
  state.more = page.more
  trim(state)
  return page
}

/** A page's messages with what happened since it was made. */
const replayed = (page: Page, since: readonly TimelineEvent[]): FoldedMessage[] => {
  const messages = [...page.messages]
  for (const event of since) if (event.seq > page.head) applyTo(messages, event)
  return messages
}
