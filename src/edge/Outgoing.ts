import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Frame } from "./Frame.ts"
import type { Transport } from "./Transport.ts"

/** What one connection's queue holds at most: a client that is further behind is cut, and resumes. */
export const QUEUE_FRAMES = 1_024
export const QUEUE_BYTES = 1024 * 1024

const NONE: ReadonlyArray<Frame> = []

/**
 * The bounded queue before one socket. What is queued within a turn of the event loop, and while the socket is busy, is written as one; the socket's
 * answer is waited for, so that backpressure ends here and nowhere else. An idle queue holds nothing, no fiber either.
 */
export class Outgoing {
  readonly #transport: Transport
  #frames: Array<Frame> | undefined
  #bytes = 0
  #writing = false
  #ended: (() => void) | undefined
  #roomy: Latch.Latch | undefined

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Queues a frame; false when the queue is full, and then the frame is not in it. Frames after `end` are dropped. */
  push(frame: Frame): boolean {
    if (this.#ended !== undefined) return true
    const frames = (this.#frames ??= [])
    if (frames.length >= QUEUE_FRAMES || this.#bytes + frame.payload.length > QUEUE_BYTES) return false
    frames.push(frame)
    this.#bytes += frame.payload.length
    if (!this.#writing) {
      this.#writing = true
      queueMicrotask(() => this.#write())
    }
    return true
  }

  #write(): void {
    const frames = this.#frames ?? NONE
    this.#frames = undefined
    this.#bytes = 0
    this.#roomy?.openUnsafe()
    if (frames.length > 0) return this.#transport.write(frames, () => this.#write())
    this.#writing = false
    this.#ended?.()
  }

  get #hasRoom(): boolean {
    return (
      this.#ended !== undefined ||
      this.#frames === undefined ||
      (this.#frames.length < QUEUE_FRAMES / 2 && this.#bytes < QUEUE_BYTES / 2)
    )
  }

  /** Waits until less than half is queued, for what is sent page by page. */
  get room(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#hasRoom) return Effect.void
      const roomy = (this.#roomy ??= Latch.makeUnsafe(false))
      roomy.closeUnsafe()
      // All who wait are woken at once, and the first of them may have filled it again.
      return Effect.andThen(roomy.await, this.room)
    })
  }

  /** Takes no more frames, and calls `written` when what is queued has been written. */
  end(written: () => void): void {
    this.#ended ??= written
    this.#roomy?.openUnsafe()
    if (!this.#writing) this.#ended()
  }

  /** Takes no more frames and forgets those that are queued. */
  drop(): void {
    this.#ended ??= () => {}
    this.#frames = undefined
    this.#bytes = 0
    this.#roomy?.openUnsafe()
  }
}
