/**
 * A WebSocket client that costs as little as can be, so that thousands of them measure a server and not themselves: bytes are read into one buffer
 * that all of them share, and of what comes only the marks are counted.
 */
import * as net from "node:net"
import { randomBytes } from "node:crypto"

/** Every body begins with it, and nothing else that a server sends holds it. */
export const MARK = "#"
const MARK_BYTE = MARK.charCodeAt(0)
const READ_BYTES = 256 * 1024
const OPEN_WITHIN_MS = 30_000
const TEXT = 1
const CLOSE = 8
const PING = 9

/** Header of a masked, unfragmented frame. The mask is four zeros, which leaves the payload as it is. */
const header = (opcode: number, length: number): Buffer => {
  if (length < 126) return Buffer.from([0x80 | opcode, 0x80 | length, 0, 0, 0, 0])
  const head = Buffer.alloc(length < 65_536 ? 8 : 14)
  head[0] = 0x80 | opcode
  head[1] = 0x80 | (length < 65_536 ? 126 : 127)
  if (length < 65_536) head.writeUInt16BE(length, 2)
  else head.writeBigUInt64BE(BigInt(length), 2)
  return head
}

const frameOf = (opcode: number, payload: Buffer): Buffer => Buffer.concat([header(opcode, payload.length), payload])

const shared = Buffer.alloc(READ_BYTES)

export interface LightSocketHandlers {
  /** This many marks have come. */
  readonly marks: (count: number) => void
  /** A mark is in this data, at this place. */
  readonly mark?: (data: Buffer, at: number) => void
  /** It has ended, and nobody had asked for that. */
  readonly lost: (why: string) => void
}

export class LightSocket {
  readonly #socket: net.Socket
  readonly #handlers: LightSocketHandlers
  /** Given every text as long as it is set, before anything is measured. */
  onText: ((text: string) => void) | undefined
  #greeted: (() => void) | undefined
  #closed = false
  /** What is left of a header, or of the answer to the upgrade, that has come in parts. */
  #partial: Buffer | undefined
  #opcode = 0
  #left = 0
  #pieces: Array<Buffer> = []

  private constructor(url: URL, handlers: LightSocketHandlers, greeted: () => void) {
    this.#handlers = handlers
    this.#greeted = greeted
    this.#socket = net.connect({
      host: url.hostname,
      port: Number(url.port),
      noDelay: true,
      onread: { buffer: shared, callback: (bytes, buffer) => this.#read((buffer as Buffer).subarray(0, bytes)) }
    })
    this.#socket.on("error", () => {})
    this.#socket.on("close", () => this.#lost("the connection was cut"))
    this.#socket.write(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`
    )
  }

  /** Opens one; answers when the server has agreed. */
  static open(url: string, handlers: LightSocketHandlers): Promise<LightSocket> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${url} was not opened in time`)), OPEN_WITHIN_MS)
      const socket = new LightSocket(new URL(url), handlers, () => {
        clearTimeout(timer)
        resolve(socket)
      })
    })
  }

  send(text: string): void {
    this.#socket.write(frameOf(TEXT, Buffer.from(text)))
  }

  /** Waits for a text that is wanted. */
  next(wanted: (text: string) => boolean): Promise<string> {
    return new Promise((resolve) => {
      this.onText = (text) => {
        if (!wanted(text)) return
        this.onText = undefined
        resolve(text)
      }
    })
  }

  /** Reads no more, as one that hangs; the operating system takes what its buffer holds. */
  stall(): void {
    this.#socket.pause()
  }

  close(): void {
    this.#closed = true
    this.#socket.destroy()
  }

  #lost(why: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#handlers.lost(why)
  }

  /** Always answers true: go on reading. */
  #read(chunk: Buffer): boolean {
    let data = chunk
    if (this.#partial !== undefined) {
      data = Buffer.concat([this.#partial, chunk])
      this.#partial = undefined
    }
    let at = 0
    if (this.#greeted !== undefined) {
      const end = data.indexOf("\r\n\r\n")
      if (end === -1) {
        this.#partial = Buffer.from(data)
        return true
      }
      const status = data.subarray(0, data.indexOf("\r\n")).toString()
      if (!status.includes(" 101 ")) this.#lost(status)
      else this.#greeted()
      this.#greeted = undefined
      at = end + 4
    }
    let marks = 0
    while (at < data.length) {
      if (this.#left === 0) {
        const size = this.#header(data, at)
        if (size === 0) {
          this.#partial = Buffer.from(data.subarray(at))
          break
        }
        at += size
      }
      const end = Math.min(data.length, at + this.#left)
      if (this.#opcode !== TEXT || this.onText !== undefined) this.#pieces.push(Buffer.from(data.subarray(at, end)))
      if (this.#opcode === TEXT) marks += this.#countMarks(data, at, end)
      this.#left -= end - at
      at = end
      if (this.#left === 0) this.#whole()
    }
    if (marks > 0) this.#handlers.marks(marks)
    return true
  }

  #countMarks(data: Buffer, from: number, to: number): number {
    let marks = 0
    let at = data.indexOf(MARK_BYTE, from)
    while (at !== -1 && at < to) {
      marks++
      this.#handlers.mark?.(data, at)
      at = data.indexOf(MARK_BYTE, at + 1)
    }
    return marks
  }

  /** Takes a header; answers its size, 0 when not all of it has come. */
  #header(data: Buffer, at: number): number {
    if (data.length < at + 2) return 0
    const short = data[at + 1]! & 0x7f
    const size = short < 126 ? 2 : short === 126 ? 4 : 10
    if (data.length < at + size) return 0
    this.#opcode = data[at]! & 0x0f
    this.#left = short < 126 ? short : short === 126 ? data.readUInt16BE(at + 2) : Number(data.readBigUInt64BE(at + 2))
    if (this.#left === 0) this.#whole()
    return size
  }

  #whole(): void {
    const payload = this.#pieces.length === 0 ? undefined : Buffer.concat(this.#pieces)
    this.#pieces = []
    if (this.#opcode === PING) this.#socket.write(frameOf(10, payload ?? Buffer.alloc(0)))
    else if (this.#opcode === CLOSE) this.#lost(`closed with ${payload?.readUInt16BE(0) ?? 1005}`)
    else if (payload !== undefined) this.onText?.(payload.toString())
  }
}
