import { FRAME_BYTES, RATE_PATIENCE_MS } from "../domain/protocol/limits.ts"
import { RateLimit } from "./RateLimit.ts"

/** Refusals that are further apart than this are separate bursts. */
const QUIET_MS = 1_000
/** Bytes of an object beside its body: ids, names and the JSON around them. */
const BESIDE_BYTES = 4 * 1024

export interface AllowanceLimits {
  readonly perSecond: number
  readonly burst: number
  readonly bodyChars: number
}

/**
 * Bytes that an object has on average, at most: those of the longest body in ASCII. Whoever keeps to the number of objects with that is never over; frames
 * of 64 KiB one after the other are.
 */
export const bytesAnObject = (bodyChars: number): number => Math.min(FRAME_BYTES, bodyChars + BESIDE_BYTES)

/**
 * What one connection may send. Every object counts towards `perSecond` and `burst`. Commands are refused by their own number alone, so that typing, marks and questions
 * never take the place of what somebody says; what commands took beyond the total is waited for by the rest.
 */
export class Allowance {
  readonly #objects: RateLimit
  readonly #commands: RateLimit
  readonly #bytes: RateLimit
  /** For how long the frame that is read now is over the bytes. */
  #frameWait = 0
  #overSince = 0
  #lastRefusal = 0

  constructor({ bodyChars, burst, perSecond }: AllowanceLimits, now: number) {
    const bytes = bytesAnObject(bodyChars)
    this.#objects = new RateLimit(perSecond, burst, now)
    this.#commands = new RateLimit(perSecond, burst, now)
    this.#bytes = new RateLimit(perSecond * bytes, burst * bytes, now)
  }

  /** A frame of so many bytes came; its objects are judged next. */
  frame(now: number, bytes: number): void {
    this.#frameWait = this.#bytes.wait(now)
    if (this.#frameWait === 0) this.#bytes.spend(bytes)
  }

  /** 0 when this object is allowed now; otherwise the milliseconds after which one of its kind is, if nothing else comes before it. */
  take(now: number, isCommand: boolean): number {
    // Both grow with time, whichever of them judges.
    const total = this.#objects.wait(now)
    const wait = Math.max(this.#frameWait, isCommand ? this.#commands.wait(now) : total)
    if (wait === 0) {
      this.#objects.spend(1)
      if (isCommand) this.#commands.spend(1)
      return 0
    }
    if (this.#overSince === 0 || now - this.#lastRefusal > QUIET_MS) this.#overSince = now
    this.#lastRefusal = now
    return wait
  }

  /** Whether refusals have gone on for so long that the connection is closed. */
  exhausted(now: number): boolean {
    return this.#overSince !== 0 && now - this.#lastRefusal <= QUIET_MS && now - this.#overSince >= RATE_PATIENCE_MS
  }

  /** Whether nothing of what came is of any consequence any more: a new one would say the same. */
  isUnused(now: number): boolean {
    const isQuiet = this.#overSince === 0 || now - this.#lastRefusal > QUIET_MS
    return isQuiet && [this.#objects, this.#commands, this.#bytes].every((one) => one.isFull(now))
  }
}
