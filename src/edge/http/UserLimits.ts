import { RateLimit } from "../RateLimit.ts"

/** Users whose requests are counted at once. Whoever was away longest is forgotten, which gives back a full burst. */
const USERS = 10_000

/** A token bucket for each user that makes requests, in this process. */
export class UserLimits {
  readonly #buckets = new Map<string, RateLimit>()
  readonly #perSecond: number
  readonly #burst: number
  readonly #users: number

  constructor(perSecond: number, burst: number, users = USERS) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#users = users
  }

  /** 0 when this user may make a request now; otherwise the milliseconds after which they may. */
  take(user: string, now: number): number {
    let bucket = this.#buckets.get(user)
    if (bucket === undefined) bucket = new RateLimit(this.#perSecond, this.#burst, now)
    else this.#buckets.delete(user)
    this.#buckets.set(user, bucket)
    if (this.#buckets.size > this.#users) {
      for (const oldest of this.#buckets.keys()) {
        this.#buckets.delete(oldest)
        break
      }
    }
    return bucket.take(now)
  }

  /** Users that are counted. */
  get size(): number {
    return this.#buckets.size
  }
}
