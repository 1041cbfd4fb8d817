/** Why the command side refused a command. The codes are those of the wire protocol. */
export interface Rejection {
  readonly code: "bad_request" | "forbidden" | "not_found" | "conflict" | "rate_limited" | "too_large" | "internal"
  /** For a person: what was wrong, where, and what is allowed. */
  readonly message: string
  readonly retryAfterMs?: number
}

/** The one answer for what does not exist and for what one may not know of, so that ids cannot be probed. */
export const noConversation = (conv: string): Rejection => ({
  code: "not_found",
  message: `There is no conversation ${conv} that you are a member of.`
})

export const noMessage = (conv: string, seq: number): Rejection => ({
  code: "not_found",
  message: `There is no message ${seq} in ${conv}.`
})
