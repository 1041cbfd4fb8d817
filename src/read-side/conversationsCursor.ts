import { isConversationId } from "../domain/ids.ts"
import type { ConversationsBefore } from "./ReadModels.ts"

/** The first part says what the rest is, so that another kind of cursor is never taken for one. */
const VERSION = "c1"

/** The opaque `next` of a page of conversations: where it ended. */
export const encodeConversationsCursor = ({ at, conv }: ConversationsBefore): string =>
  Buffer.from(`${VERSION} ${at} ${conv}`).toString("base64url")

/** What {@link encodeConversationsCursor} made; undefined for anything else. */
export const decodeConversationsCursor = (cursor: string): ConversationsBefore | undefined => {
  // The longest conversation id and 16 digits, in base64url.
  if (cursor.length > 400) return undefined
  const [version, time, conv, ...rest] = Buffer.from(cursor, "base64url").toString("utf8").split(" ")
  if (version !== VERSION || time === undefined || conv === undefined || rest.length > 0) return undefined
  const at = Number(time)
  if (!/^\d{1,16}$/.test(time) || !Number.isSafeInteger(at) || !isConversationId(conv)) return undefined
  return encodeConversationsCursor({ at, conv }) === cursor ? { at, conv } : undefined
}
