/**
 * The partition of a conversation: 32-bit FNV-1a over its UTF-16 code units, modulo the number of partitions. It is stored in
 * every position and cursor, so it never changes for a log that exists.
 */
export const partitionOf = (conv: string, partitions: number): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < conv.length; i++) {
    hash ^= conv.charCodeAt(i)
    hash = Math.imul(hash, 0x01000193)
  }
  // FNV's low bits are its weakest: fold the high half in before taking the remainder.
  return ((hash ^ (hash >>> 16)) >>> 0) % partitions
}

/** Positions per partition: `vector[p]` is the last position of partition `p` that something holds for, 0 for none. */
export type Vector = ReadonlyArray<number>

/** The vector before any event. */
export const zeroVector = (partitions: number): Vector => new Array<number>(partitions).fill(0)

/** Whether `a` is at or past `b` in every partition. */
export const atLeast = (a: Vector, b: Vector): boolean => {
  for (let i = 0; i < b.length; i++) if ((a[i] ?? 0) < b[i]!) return false
  return true
}
