/** Latencies in buckets that are 1/64 of their value wide: any number of them in 16 KiB, percentiles right to under 2 %. */

const SUB = 64
const SUB_BITS = 6
/** Up to 2^31 µs, over half an hour; longer counts as that. */
const MAX_MICROS = 2 ** 31 - 1
const BUCKETS = (31 - SUB_BITS + 2) * SUB

/** Counts of latencies. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #total = 0
  #max = 0

  /** Adds one latency, in milliseconds. */
  record(ms: number): void {
    const micros = Math.min(MAX_MICROS, Math.max(0, Math.round(ms * 1000)))
    this.#counts[bucketOf(micros)]! += 1
    this.#total++
    if (ms > this.#max) this.#max = ms
  }

  get count(): number {
    return this.#total
  }

  /** The longest, in milliseconds. */
  get max(): number {
    return this.#max
  }

  /** The latency that a share `q` (0 to 1) of all is at or below, in milliseconds; 0 without any. */
  quantile(q: number): number {
    if (this.#total === 0) return 0
    let left = Math.max(1, Math.ceil(this.#total * q))
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.#counts[i]!
      if (left <= 0) return Math.min(this.#max, upperOf(i) / 1000)
    }
    return this.#max
  }
}

/** Values below 64 have a bucket each; from there on every power of two has 64. */
const bucketOf = (micros: number): number => {
  if (micros < SUB) return micros
  const shift = 31 - Math.clz32(micros) - SUB_BITS
  return (shift + 1) * SUB + ((micros >>> shift) - SUB)
}

const upperOf = (bucket: number): number => {
  if (bucket < SUB) return bucket
  const shift = Math.floor(bucket / SUB) - 1
  return ((bucket % SUB) + SUB + 1) * 2 ** shift - 1
}
