/** How far this user has got, told to the server: only forward, merged, and again when a connection broke too soon. */
import type { Mark } from "../domain/protocol/client-frames.ts"
import type { Clock } from "./environment.ts"
import { MARK_EVERY_MS, MARK_UNSURE_MS, MARKS_MAX } from "./limits.ts"

interface Marked {
  delivered: number
  seen: number
  sentAt: number
}

/** The marks of one client. */
export class Marks {
  readonly #clock: Clock
  readonly #write: (frame: Mark) => void
  readonly #marks = new Map<string, Marked>()
  readonly #dirty = new Set<string>()
  #connected = false
  #scheduled = false

  constructor(clock: Clock, write: (frame: Mark) => void) {
    this.#clock = clock
    this.#write = write
  }

  /** Moves a mark forward; what is not further than before is dropped. `seen` implies `delivered`. */
  mark(conv: string, delivered: number, seen: number): void {
    let marked = this.#marks.get(conv)
    if (marked === undefined) {
      marked = { delivered: 0, seen: 0, sentAt: -Infinity }
      this.#bound()
    } else {
      if (delivered <= marked.delivered && seen <= marked.seen) return
      this.#marks.delete(conv)
    }
    // Last in the map is the one moved last, so that the bound takes the one that rested longest.
    this.#marks.set(conv, marked)
    marked.delivered = Math.max(marked.delivered, delivered, seen)
    marked.seen = Math.max(marked.seen, seen)
    this.#dirty.add(conv)
    this.#schedule()
  }

  connected(): void {
    this.#connected = true
    const unsure = this.#clock.now() - MARK_UNSURE_MS
    for (const [conv, marked] of this.#marks) if (marked.sentAt >= unsure) this.#dirty.add(conv)
    if (this.#dirty.size > 0) this.#flush()
  }

  disconnected(): void {
    this.#connected = false
  }

  #schedule(): void {
    if (this.#scheduled || !this.#connected) return
    this.#scheduled = true
    this.#clock.after(MARK_EVERY_MS, () => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (!this.#connected) return
    const now = this.#clock.now()
    for (const conv of this.#dirty) {
      const marked = this.#marks.get(conv)
      if (marked === undefined) continue
      marked.sentAt = now
      this.#write({
        t: "mark",
        conv,
        ...(marked.delivered > 0 ? { delivered: marked.delivered } : {}),
        ...(marked.seen > 0 ? { seen: marked.seen } : {})
      })
    }
    this.#dirty.clear()
  }

  #bound(): void {
    if (this.#marks.size < MARKS_MAX) return
    for (const [conv, marked] of this.#marks) {
      if (this.#dirty.has(conv) && marked.sentAt === -Infinity) this.#flush()
      this.#marks.delete(conv)
      return
    }
  }
}
