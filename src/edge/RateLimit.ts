import { RATE_PATIENCE_MS } from "../domain/protocol/limits.ts"

/** Refusals that are further apart than this are separate bursts. */
const QUIET_MS = 1_000

/** A token bucket in three numbers, kept in its connection. */
export class RateLimit {
  readonly #perMs: number
  readonly #burst: number
  #tokens: number
  #at: number
  #overSince = 0
  #lastRefusal = 0

  constructor(perSecond: number, burst: number, now: number) {
    this.#perMs = perSecond / 1000
    this.#burst = burst
    this.#tokens = burst
    this.#at = now
  }

  /** 0 when one more object is allowed now; otherwise the milliseconds after which it is. */
  take(now: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, now - this.#at) * this.#perMs)
    this.#at = now
    if (this.#tokens >= 1) {
      this.#tokens--
      return 0
    }
    if (this.#overSince === 0 || now - this.#lastRefusal > QUIET_MS) this.#overSince = now
    this.#lastRefusal = now
    return Math.max(1, Math.ceil((1 - this.#tokens) / this.#perMs))
  }

  /** Whether refusals have gone on for so long that the connection is closed. */
  exhausted(now: number): boolean {
    return this.#overSince !== 0 && now - this.#lastRefusal <= QUIET_MS && now - this.#overSince >= RATE_PATIENCE_MS
  }
}
