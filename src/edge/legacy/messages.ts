/** The shapes of Darda-chat's own API. */
import type { TimelineEvent } from "../../domain/events.ts"
import { type ConversationId, otherMember, type UserId } from "../../domain/ids.ts"
import type { FoldedMessage } from "../../domain/protocol/server-frames.ts"

/** What a client without an id is told, over HTTP and at the socket. */
export const NO_USER = "user ID is required"
/** What a client with an id that is none is told. */
export const BAD_USER = "user IDs are 1 to 128 of A-Z a-z 0-9 _ . @ | + = ~ -"
/** Where Darda-chat's clients read what was said before. */
export const LEGACY_MESSAGES = "/api/v1/messages/:other"
/** Where they connect. */
export const LEGACY_SOCKET = "/api/v1/ws"

/** A message as Darda-chat's clients know it. `timestamp` is RFC 3339 in UTC. */
export interface LegacyMessage {
  readonly id: string
  readonly conversation_id: ConversationId
  readonly sender: UserId
  readonly destination: UserId
  readonly content: string
  readonly timestamp: string
}

/** What a socket is sent. */
export interface LegacyFrame {
  readonly type: "Message"
  readonly event_id: string
  readonly timestamp: string
  readonly content: LegacyMessage
}

/** A time in milliseconds, as RFC 3339 has it. */
const rfc3339 = (at: number): string => new Date(at).toISOString()

/** A folded message of a direct conversation, by the id that its sender gave it; one that was deleted is empty. */
export const legacyMessage = ({ at, body, by, cid, conv }: FoldedMessage): LegacyMessage => ({
  id: cid,
  conversation_id: conv,
  sender: by,
  destination: otherMember(conv, by) ?? by,
  content: body ?? "",
  timestamp: rfc3339(at)
})

/** What a socket is sent for an event; undefined for all but messages of direct conversations, which is all that these clients know. */
export const legacyFrame = (event: TimelineEvent): LegacyFrame | undefined => {
  const { at, by, cid, conv, data, seq, type } = event
  if (type !== "message" || !conv.startsWith("dm:")) return undefined
  const content = legacyMessage({ conv, seq, by, at, cid, kind: data.kind, body: data.body })
  return { type: "Message", event_id: `${conv}:${seq}`, timestamp: content.timestamp, content }
}
