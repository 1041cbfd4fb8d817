/** What the composer is at. */
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"

/** A new message, an answer to one, or a change of one's own. */
export type Writing =
  | { readonly kind: "new" }
  | { readonly kind: "reply"; readonly to: FoldedMessage }
  | { readonly kind: "edit"; readonly message: FoldedMessage }
