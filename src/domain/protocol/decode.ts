/** From a parsed JSON value to a `ClientFrame`, or to a sentence that says what is wrong with it. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SchemaIssue from "effect/SchemaIssue"
import {
  countCharacters,
  hasAtMost,
  isConversationId,
  isSeq,
  isWellFormedText,
  TOKEN_PATTERN,
  USER_PATTERN
} from "../ids.ts"
import { type ClientFrame, clientFrames, type ClientOp } from "./client-frames.ts"
import { isRid, KIND_PATTERN } from "./forms.ts"
import { explainIssue, show } from "./explain.ts"
import { BATCH_OBJECTS } from "./limits.ts"

/** Why a value is no frame. `rid` and `cid` are the frame's own where they are usable, for the `err` that answers it. */
export interface FrameProblem {
  readonly code: "bad_request" | "unknown_op" | "too_large"
  readonly message: string
  readonly rid?: string
  readonly cid?: string
}

/** What the server's settings say about frames. `bodyChars`: characters (Unicode code points) of a body. */
export interface DecodeLimits {
  readonly bodyChars: number
}

type Fields = { readonly [key: string]: unknown }
type Decoder = (input: unknown) => Result.Result<ClientFrame, Schema.SchemaError>

const strict = { onExcessProperty: "error" } as const
const decoders: ReadonlyMap<string, Decoder> = new Map(
  Object.entries(clientFrames).map(([op, schema]) => [
    op,
    Schema.decodeUnknownResult(schema as Schema.Codec<ClientFrame>, strict)
  ])
)

/**
 * Decodes one object of a client frame by the Schema of its `t`. The Schema is the rule; `decodeClientFrame` gives the
 * same answers faster.
 */
export const decodeBySchema = (value: unknown, limits: DecodeLimits): Result.Result<ClientFrame, FrameProblem> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const expected = `an object with a field t, or an array of 1 to ${BATCH_OBJECTS} of them`
    return Result.fail({ code: "bad_request", message: `expected ${expected}, got ${show(value)}` })
  }
  const fields = value as Fields
  const op = fields["t"]
  if (typeof op !== "string") {
    return problem(fields, "bad_request", `t: expected the name of an operation, got ${show(op)}`)
  }
  const decode = decoders.get(op)
  if (decode === undefined) {
    return problem(
      fields,
      "unknown_op",
      `t: there is no operation ${show(op)}; there are ${[...decoders.keys()].join(", ")}`
    )
  }
  const decoded = decode(value)
  if (Result.isFailure(decoded)) {
    return problem(fields, "bad_request", explain(op as ClientOp, fields, decoded.failure.issue))
  }
  const body = "body" in decoded.success ? decoded.success.body : ""
  if (!hasAtMost(body, limits.bodyChars)) return tooLarge(fields, body, limits)
  return Result.succeed(decoded.success)
}

/**
 * Decodes one object of a client frame: strict (a field that is not listed is `bad_request`), a body over
 * `limits.bodyChars` is `too_large`, an unknown `t` is `unknown_op`. The frames that are sent all the time are judged by
 * hand at about a tenth of the Schema's time; what those judges do not accept goes to the Schema, which explains.
 */
export const decodeClientFrame = (value: unknown, limits: DecodeLimits): Result.Result<ClientFrame, FrameProblem> => {
  const quick = value as Quick | null | undefined
  switch (quick?.t) {
    case "send":
      if (!isSend(quick)) break
      return hasAtMost(quick.body, limits.bodyChars)
        ? Result.succeed(value as ClientFrame)
        : tooLarge(quick, quick.body, limits)
    case "mark":
      if (isMark(quick)) return Result.succeed(value as ClientFrame)
      break
    case "typing":
      if (typeof quick.on === "boolean" && isConv(quick.conv) && size(quick) === 3)
        return Result.succeed(value as ClientFrame)
      break
    case "ping":
      if (size(quick) === 1) return Result.succeed(value as ClientFrame)
  }
  return decodeBySchema(value, limits)
}

/** What the quick judges look at, none of it trusted. */
interface Quick extends Fields {
  readonly t?: unknown
  readonly cid?: unknown
  readonly conv?: unknown
  readonly to?: unknown
  readonly body?: unknown
  readonly kind?: unknown
  readonly replyTo?: unknown
  readonly delivered?: unknown
  readonly seen?: unknown
  readonly on?: unknown
}

const size = (fields: Fields): number => {
  let count = 0
  for (const _ in fields) count++
  return count
}

const isConv = (value: unknown): boolean => typeof value === "string" && isConversationId(value)
const isSeqValue = (value: unknown): boolean => typeof value === "number" && isSeq(value)

const isSend = (frame: Quick): frame is Quick & { readonly body: string } => {
  const { cid, conv, to, body, kind, replyTo } = frame
  if (typeof body !== "string" || body.length === 0 || !isWellFormedText(body)) return false
  if (typeof cid !== "string" || !TOKEN_PATTERN.test(cid)) return false
  let fields = 4
  if (conv === undefined) {
    if (typeof to !== "string" || !USER_PATTERN.test(to)) return false
  } else if (to !== undefined || !isConv(conv)) return false
  if (kind !== undefined) {
    if (typeof kind !== "string" || !KIND_PATTERN.test(kind)) return false
    fields++
  }
  if (replyTo !== undefined) {
    if (!isSeqValue(replyTo)) return false
    fields++
  }
  return size(frame) === fields
}

const isMark = (frame: Quick): boolean => {
  const { conv, delivered, seen } = frame
  let fields = 2
  if (delivered !== undefined) {
    if (!isSeqValue(delivered)) return false
    fields++
  }
  if (seen !== undefined) {
    if (!isSeqValue(seen)) return false
    fields++
  }
  return fields > 2 && isConv(conv) && size(frame) === fields
}

const problem = (fields: Fields, code: FrameProblem["code"], message: string): Result.Result<never, FrameProblem> => {
  const { rid, cid } = fields
  return Result.fail({
    code,
    message,
    ...(isRid(rid) ? { rid } : {}),
    ...(typeof cid === "string" && TOKEN_PATTERN.test(cid) ? { cid } : {})
  })
}

const tooLarge = (fields: Fields, body: string, limits: DecodeLimits): Result.Result<never, FrameProblem> =>
  problem(
    fields,
    "too_large",
    `body: has ${countCharacters(body)} characters, at most ${limits.bodyChars} are allowed; send several messages`
  )

const explain = (op: ClientOp, fields: Fields, issue: SchemaIssue.Issue): string =>
  explainIssue(op, Object.keys(clientFrames[op].fields), fields, issue)
