import { Buffer } from "node:buffer"
import { type StoredEvent, type TimelineEvent, toEventFrame } from "../domain/events.ts"
import { BATCH_OBJECTS, FRAME_BYTES } from "../domain/protocol/limits.ts"
import type { Signal } from "../platform/Router.ts"
import type { ServerFrame } from "../domain/protocol/server-frames.ts"

/** Header of an unmasked, unfragmented text frame (RFC 6455, 5.2). */
const header = (length: number): Buffer => {
  if (length < 126) return Buffer.from([0x81, length])
  const head = Buffer.allocUnsafe(length < 65_536 ? 4 : 10)
  head[0] = 0x81
  if (length < 65_536) {
    head[1] = 126
    head.writeUInt16BE(length, 2)
  } else {
    head[1] = 127
    head.writeBigUInt64BE(BigInt(length), 2)
  }
  return head
}

const OPEN = Buffer.from("[")
const COMMA = Buffer.from(",")
const CLOSE = Buffer.from("]")

/** One object on its way to clients. Encoded once, however many queues hold it. */
export class Frame {
  /** The object as JSON in UTF-8. */
  readonly payload: Buffer
  /** A queue that has little room does without it. */
  readonly isOptional: boolean
  #wire: Buffer | undefined

  /** Of an object, or of one that is encoded already. */
  constructor(frame: ServerFrame | Buffer, isOptional = false) {
    this.isOptional = isOptional
    this.payload = Buffer.isBuffer(frame) ? frame : Buffer.from(JSON.stringify(frame))
  }

  /** The object as a WebSocket frame of its own. */
  get wire(): Buffer {
    return (this.#wire ??= Buffer.concat([header(this.payload.length), this.payload]))
  }
}

/** WebSocket frames for these objects: one as it is, several as arrays of at most 64 objects and about 64 KiB. */
export const coalesce = (frames: ReadonlyArray<Frame>): ReadonlyArray<Buffer> => {
  if (frames.length === 1) return [frames[0]!.wire]
  const parts: Array<Buffer> = []
  let start = 0
  while (start < frames.length) {
    let end = start
    let length = 1
    while (
      end < frames.length &&
      end - start < BATCH_OBJECTS &&
      (end === start || length + frames[end]!.payload.length + 1 <= FRAME_BYTES)
    )
      length += frames[end++]!.payload.length + 1
    if (end - start === 1) {
      parts.push(frames[start]!.wire)
    } else {
      parts.push(header(length))
      for (let i = start; i < end; i++) parts.push(i === start ? OPEN : COMMA, frames[i]!.payload)
      parts.push(CLOSE)
    }
    start = end
  }
  return parts
}

/** Up to this many bytes several buffers are copied into one, which is cheaper than a vectored write. */
const COPY_BYTES = 128 * 1024

/** What was written last, and as what: where many talk to many, the same frames are in one queue after the other. */
let last: { readonly frames: ReadonlyArray<Frame>; readonly buffers: ReadonlyArray<Buffer> } = {
  frames: [],
  buffers: []
}

const isLast = (frames: ReadonlyArray<Frame>): boolean =>
  frames === last.frames ||
  (frames.length === last.frames.length && frames.every((frame, index) => frame === last.frames[index]))

/** The buffers to write for these objects, at least one, which must not change any more. */
export const buffersOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<Buffer> => {
  if (!isLast(frames)) {
    const parts = coalesce(frames)
    let bytes = 0
    for (const part of parts) bytes += part.length
    const buffers = parts.length > 1 && bytes <= COPY_BYTES ? [Buffer.concat(parts, bytes)] : parts
    last = { frames, buffers }
  }
  return last.buffers
}

/** The event as everybody but the session that caused it is given it. */
export const eventFrame = (event: TimelineEvent): Frame => new Frame(toEventFrame(event))

/** What stands for the event towards the session that caused it: `reply` to a request, `ack` to the rest. */
export const answerFrame = (
  command: Pick<StoredEvent, "conv" | "cid" | "seq" | "at"> & { readonly rid?: string | undefined },
  dup: boolean
): Frame => {
  const { at, cid, conv, rid, seq } = command
  return new Frame(
    rid === undefined
      ? { t: "ack", cid, conv, state: "persisted", seq, at, ...(dup ? { dup } : {}) }
      : { t: "reply", rid, conv, seq, at, ...(dup ? { dup } : {}) }
  )
}

/** A signal about a conversation, as everybody but the session that sent it is told of it. */
export const signalFrame = (signal: Extract<Signal, { readonly _tag: "Live" | "Unlive" }>): Frame => {
  switch (signal._tag) {
    case "Live": {
      const { at, by, cid, conv, data } = signal
      return new Frame({ t: "live", conv, cid, by, at, type: "message", data })
    }
    case "Unlive": {
      const { by, cid, code, conv } = signal
      return new Frame({ t: "unlive", conv, cid, by, code })
    }
  }
}
