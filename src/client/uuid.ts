/** UUID v7: ids that sort by the time they were made, as advised for `cid`. */

const POOL_BYTES = 4096
const pool = new Uint8Array(POOL_BYTES)
let used = POOL_BYTES
let lastMs = 0
let counter = 0

const hex: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

/**
 * A new UUID v7 for the time `now` (milliseconds since 1970). Two ids of one process are never equal and always sort in
 * the order they were made, also within a millisecond and when the clock goes back.
 */
export const uuidv7 = (now: number): string => {
  if (now > lastMs) {
    lastMs = now
    counter = 0
  } else if (++counter > 0xfff) {
    lastMs++
    counter = 0
  }
  if (used + 8 > POOL_BYTES) {
    // One call for many ids: a call for each would cost more than the rest of a send.
    globalThis.crypto.getRandomValues(pool)
    used = 0
  }
  const at = used
  used += 8
  const time = lastMs.toString(16).padStart(12, "0")
  const byte = (index: number): string => hex[pool[at + index] as number] as string
  const variant = hex[((pool[at] as number) & 0x3f) | 0x80] as string
  const count = counter.toString(16).padStart(3, "0")
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${variant}${byte(1)}-${byte(2)}${byte(3)}${byte(4)}${byte(5)}${byte(6)}${byte(7)}`
}
