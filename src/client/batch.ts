/** Packs encoded frames into as few WebSocket frames as the limits allow. */
import { BATCH_OBJECTS } from "./limits.ts"

const encoder = new TextEncoder()

/** Whether the text takes at most `bytes` bytes as UTF-8; counts only when its length does not already say so. */
export const fits = (text: string, bytes: number): boolean =>
  text.length * 3 <= bytes || (text.length <= bytes && encoder.encode(text).length <= bytes)

/**
 * Packs `frames[from..to)` (JSON objects, each of which fits alone) into texts of one object or an array of at most 64,
 * each at most `frameBytes` bytes, order kept.
 */
export const pack = (frames: readonly string[], from: number, to: number, frameBytes: number): readonly string[] => {
  const texts: string[] = []
  let index = from
  while (index < to) {
    const first = frames[index++] as string
    let text = first
    let objects = 1
    while (index < to && objects < BATCH_OBJECTS) {
      const next = `${text},${frames[index] as string}`
      if (!fits(next, frameBytes - 2)) break
      text = next
      objects++
      index++
    }
    texts.push(objects === 1 ? first : `[${text}]`)
  }
  return texts
}
