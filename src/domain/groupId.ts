/** Apart from `ids.ts`, because browsers import that file and have no `node:crypto`. */
import { hash } from "node:crypto"
import type { ClientId, ConversationId, UserId } from "./ids.ts"

/**
 * The id of the group that `creator` makes with the command `cid`: a version 8 uuid of their SHA-256, so that a resent
 * `create` names the same group without anyone having to remember the first one. NUL is in neither id, so no two pairs
 * hash the same text.
 */
export const groupConversation = (creator: UserId, cid: ClientId): ConversationId => {
  const hex = hash("sha256", `${creator}\u0000${cid}`, "hex")
  const variant = ((parseInt(hex.charAt(16), 16) & 0x3) | 0x8).toString(16)
  return `g:${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
