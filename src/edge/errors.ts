import type { Err, ErrorCode } from "../domain/protocol/server-frames.ts"
import { Frame } from "./Frame.ts"

/** Codes after which the same request may succeed. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set(["rate_limited", "busy", "unavailable"])

/** An `err` frame. */
export const errFrame = (
  code: ErrorCode,
  message: string,
  about: {
    readonly rid?: string | undefined
    readonly cid?: string | undefined
    readonly retryAfterMs?: number | undefined
  } = {}
): Frame =>
  new Frame({
    t: "err",
    ...(about.rid === undefined ? {} : { rid: about.rid }),
    ...(about.cid === undefined || about.cid === "" ? {} : { cid: about.cid }),
    code,
    message,
    retryable: RETRYABLE.has(code),
    ...(about.retryAfterMs === undefined ? {} : { retryAfterMs: about.retryAfterMs })
  } satisfies Err)
