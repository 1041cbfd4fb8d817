import type { Err, ErrorCode } from "../domain/protocol/server-frames.ts"

/**
 * Why something failed. `code` is the server's, or `timeout` (no answer within the time a request has), `closed` (the
 * client was stopped) or `full` (the client's own bound was reached). `retryable`: the same again may succeed.
 */
export class DardaError extends Error {
  override readonly name = "DardaError"
  readonly code: ErrorCode | "timeout" | "closed" | "full"
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined

  constructor(code: DardaError["code"], message: string, retryable = false, retryAfterMs?: number) {
    super(message)
    this.code = code
    this.retryable = retryable
    this.retryAfterMs = retryAfterMs
  }

  /** The server's `err` as an error. */
  static fromFrame(err: Err): DardaError {
    return new DardaError(err.code, err.message, err.retryable, err.retryAfterMs)
  }
}
