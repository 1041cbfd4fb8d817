/** Names and documents of Darda-chat's way. */
import type { EventFrame } from "../../src/domain/protocol/server-frames.ts"

/** A message on its way to the writer. */
export interface ChatMessage {
  readonly conv: string
  readonly by: string
  readonly cid: string
  readonly body: string
}

/** What the outbox holds, and the fan-out exchange brings. */
export type ChatEvent = EventFrame

export const chatNames = (name: string) => ({
  messages: `${name}.messages`,
  exchange: `${name}.events`,
  cacheQueue: `${name}.events.reader`,
  user: (user: string) => `${name}:user:${user}`,
  conversation: (conv: string) => `${name}:conversation:${conv}:`
})
