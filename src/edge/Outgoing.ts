import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Frame } from "./Frame.ts"
import type { Transport } from "./Transport.ts"

/** What one connection's queue holds at most: a client that is further behind is cut, and resumes. */
export const QUEUE_FRAMES = 1_024
export const QUEUE_BYTES = 1024 * 1024

/**
 * The bounded queue before one socket, and its writer. The writer takes all that is queued, writes it as one and waits for the socket, so
 * that backpressure ends here and nowhere else.
 */
export class Outgoing {
  readonly #transport: Transport
  #frames: Array<Frame> = []
  #bytes = 0
  #ended = false
  readonly #filled = Latch.makeUnsafe(false)
  readonly #roomy = Latch.makeUnsafe(true)

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Queues a frame; false when the queue is full, and then the frame is not in it. Frames after `end` are dropped. */
  push(frame: Frame): boolean {
    if (this.#ended) return true
    if (this.#frames.length >= QUEUE_FRAMES || this.#bytes + frame.payload.length > QUEUE_BYTES) return false
    this.#frames.push(frame)
    this.#bytes += frame.payload.length
    this.#filled.openUnsafe()
    return true
  }

  /** Waits until less than half is queued, for what is sent page by page. */
  readonly room: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#ended || (this.#frames.length < QUEUE_FRAMES / 2 && this.#bytes < QUEUE_BYTES / 2)) return Effect.void
    this.#roomy.closeUnsafe()
    return this.#roomy.await
  })

  /** Takes no more frames. With `drop`, what is queued is dropped too. */
  end(drop: boolean): void {
    this.#ended = true
    if (drop) {
      this.#frames = []
      this.#bytes = 0
    }
    this.#filled.openUnsafe()
    this.#roomy.openUnsafe()
  }

  /** Writes until `end`, and then what is left. */
  readonly write: Effect.Effect<void> = Effect.gen({ self: this }, function* (this: Outgoing) {
    while (true) {
      if (this.#frames.length === 0) {
        if (this.#ended) return
        this.#filled.closeUnsafe()
        yield* this.#filled.await
        continue
      }
      const frames = this.#frames
      this.#frames = []
      this.#bytes = 0
      this.#roomy.openUnsafe()
      yield* this.#transport.write(frames)
    }
  })
}
