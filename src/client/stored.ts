/** What survives a restart: the device's id, and the commands that no server has answered yet. */
import type { CommandFrame } from "../domain/protocol/client-frames.ts"
import type { Clock, KeyValueStorage } from "./environment.ts"
import { STORE_EVERY_MS, STORED_MAX } from "./limits.ts"
import type { Entry } from "./outbox.ts"

const DEVICE = "darda.device"
/** With the user in its name: what one left must not be sent by another. */
const outboxOf = (user: string): string => `darda.outbox.${user}`

/** Reads and writes a `KeyValueStorage`. One that is full or forbidden is done without: memory is then all there is. */
export class Stored {
  readonly #storage: KeyValueStorage | undefined
  readonly #clock: Clock
  readonly #keep: () => void
  #scheduled = false
  /** What was kept belongs to a user who is not known before `welcome`; until then it must not be written over. */
  #taken = false

  /** `keep` is called soon after `changed`, to call `write`. */
  constructor(storage: KeyValueStorage | undefined, clock: Clock, keep: () => void) {
    this.#storage = storage
    this.#clock = clock
    this.#keep = keep
  }

  /** The device's id: the given one, the kept one, or a new one. */
  device(given: string | undefined, make: () => string): string {
    const device = given ?? this.#read(DEVICE) ?? make()
    this.#set(DEVICE, device)
    return device
  }

  /** The commands an earlier client of this user left; once. */
  take(user: string): readonly CommandFrame[] {
    if (this.#taken) return []
    this.#taken = true
    const text = this.#read(outboxOf(user))
    if (text === undefined) return []
    try {
      const frames = JSON.parse(text) as unknown
      return Array.isArray(frames) ? (frames as readonly CommandFrame[]) : []
    } catch {
      return []
    }
  }

  /** The outbox changed. */
  changed(): void {
    if (this.#storage === undefined || this.#scheduled) return
    this.#scheduled = true
    this.#clock.after(STORE_EVERY_MS, () => {
      this.#scheduled = false
      this.#keep()
    })
  }

  /** Writes the outbox: its oldest commands. */
  write(user: string, entries: Iterable<Entry>): void {
    if (this.#storage === undefined || !this.#taken) return
    const frames: CommandFrame[] = []
    for (const { frame } of entries) {
      if (frames.length === STORED_MAX) break
      frames.push(frame)
    }
    if (frames.length === 0) this.#remove(outboxOf(user))
    else this.#set(outboxOf(user), JSON.stringify(frames))
  }

  #read(key: string): string | undefined {
    try {
      return this.#storage?.getItem(key) ?? undefined
    } catch {
      return undefined
    }
  }

  #set(key: string, value: string): void {
    try {
      this.#storage?.setItem(key, value)
    } catch {
      // Full or forbidden; see above.
    }
  }

  #remove(key: string): void {
    try {
      this.#storage?.removeItem(key)
    } catch {
      // As above.
    }
  }
}
