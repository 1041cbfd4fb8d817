import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Frame } from "./Frame.ts"
import type { Transport } from "./Transport.ts"

/** What one connection's queue holds at most: a client that is further behind is cut, and resumes. */
export const QUEUE_FRAMES = 1_024
export const QUEUE_BYTES = 1024 * 1024

const NONE: ReadonlyArray<Frame> = []

/** The queues of one edge that are written when this turn's work is done: by one microtask, since one for each would cost as much as the rest of what is done here. */
export class DueQueues {
  #due: Array<Outgoing> = []

  add(queue: Outgoing): void {
    if (this.#due.push(queue) === 1) queueMicrotask(this.#write)
  }

  readonly #write = (): void => {
    const all = this.#due
    this.#due = []
    for (const queue of all) queue.writeDue()
  }
}

/**
 * The bounded queue before one socket. What is queued within one step of the event loop, and while the socket is busy, is written as one; the socket's
 * answer is waited for, so that backpressure ends here and nowhere else. More than there is room for is no reason to refuse it while the socket has not been asked: what is
 * queued is then written first. An idle queue holds nothing, no fiber either.
 */
export class Outgoing {
  readonly #transport: Transport
  readonly #due: DueQueues
  /** Among {@link DueQueues}. */
  #isDue = false
  #frames: Array<Frame> | undefined
  /** The array is somebody else's, and must not be changed. */
  #borrowed = false
  #bytes = 0
  /** Of the queued frames, those that can be done without. */
  #optional = 0
  /** The socket has been given something, and has not taken it. */
  #writing = false
  #ended: (() => void) | undefined
  #roomy: Latch.Latch | undefined

  constructor(transport: Transport, due = new DueQueues()) {
    this.#transport = transport
    this.#due = due
  }

  /**
   * Queues a frame; false when the queue is full, and then the frame is not in it. Frames after `end` are dropped. Optional ones are dropped when it is half
   * full, and those that are queued when there is no room for another one.
   */
  push(frame: Frame): boolean {
    if (this.#ended !== undefined || (frame.isOptional && !this.#hasRoom)) return true
    if (!this.#makeRoomFor(1, frame.payload.length)) return false
    this.#own().push(frame)
    if (frame.isOptional) this.#optional++
    this.#queued(frame.payload.length)
    return true
  }

  /**
   * Queues frames of so many bytes together; false when there is no room for all of them. Many queues may be given the same array, which stays as it is.
   */
  pushAll(frames: ReadonlyArray<Frame>, bytes: number): boolean {
    if (this.#ended !== undefined) return true
    // Together they may be more than a queue holds, and still not more than the socket takes.
    if (!this.#makeRoomFor(frames.length, bytes)) return !this.#writing && frames.every((frame) => this.push(frame))
    if (this.#frames === undefined) {
      this.#frames = frames as Array<Frame>
      this.#borrowed = true
    } else {
      const own = this.#own()
      for (const frame of frames) own.push(frame)
    }
    this.#queued(bytes)
    return true
  }

  #makeRoomFor(count: number, bytes: number): boolean {
    if (!this.#writing && !this.#hasRoomFor(count, bytes)) this.#write()
    if (this.#optional > 0 && !this.#hasRoomFor(count, bytes)) {
      this.#frames = this.#frames!.filter(({ isOptional }) => !isOptional)
      this.#borrowed = false
      this.#bytes = this.#frames.reduce((sum, { payload }) => sum + payload.length, 0)
      this.#optional = 0
    }
    return this.#hasRoomFor(count, bytes)
  }

  #hasRoomFor(count: number, bytes: number): boolean {
    return (this.#frames?.length ?? 0) + count <= QUEUE_FRAMES && this.#bytes + bytes <= QUEUE_BYTES
  }

  #own(): Array<Frame> {
    if (this.#borrowed) this.#frames = [...this.#frames!]
    this.#borrowed = false
    return (this.#frames ??= [])
  }

  #queued(bytes: number): void {
    this.#bytes += bytes
    if (this.#writing || this.#isDue) return
    this.#isDue = true
    this.#due.add(this)
  }

  #taken(): ReadonlyArray<Frame> {
    const frames = this.#frames ?? NONE
    this.#frames = undefined
    this.#borrowed = false
    this.#bytes = this.#optional = 0
    this.#roomy?.openUnsafe()
    return frames
  }

  /** For {@link DueQueues} only. */
  writeDue(): void {
    this.#isDue = false
    if (!this.#writing) this.#write()
  }

  /** Writes what is queued, and again until nothing is. */
  #write(): void {
    this.#writing = true
    const frames = this.#taken()
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
    if (!this.#writing && !this.#isDue) this.#ended()
  }

  /** Takes no more frames and forgets those that are queued. */
  drop(): void {
    this.#ended ??= () => {}
    this.#taken()
  }
}
