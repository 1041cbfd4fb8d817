/** Times and rates are floating-point numbers: what is missed by less than this is there. */
const EPSILON = 1e-6

/** A token bucket in a few numbers. */
export class RateLimit {
  readonly #perMs: number
  readonly #burst: number
  #tokens: number
  #at: number

  constructor(perSecond: number, burst: number, now: number) {
    this.#perMs = perSecond / 1000
    this.#burst = burst
    this.#tokens = burst
    this.#at = now
  }

  /** 0 when one more is allowed now, and then it is taken; otherwise the milliseconds after which it is. */
  take(now: number): number {
    const wait = this.wait(now)
    if (wait === 0) this.spend(1)
    return wait
  }

  /** 0 when there is a whole token now; otherwise the milliseconds after which there is. */
  wait(now: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, now - this.#at) * this.#perMs)
    this.#at = now
    return this.#tokens >= 1 - EPSILON ? 0 : Math.max(1, Math.ceil((1 - EPSILON / 2 - this.#tokens) / this.#perMs))
  }

  /** Takes tokens that may not be there: the bucket owes them then, up to another burst. */
  spend(tokens: number): void {
    this.#tokens = Math.max(-this.#burst, this.#tokens - tokens)
  }

  /** Whether it is as it was when it was made. */
  isFull(now: number): boolean {
    this.wait(now)
    return this.#tokens === this.#burst
  }
}
