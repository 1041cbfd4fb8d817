import type { Buffer } from "node:buffer"
import type { NodeItem } from "./Router.ts"

/** Bytes, about, of items in one entry of a stream; more become several entries. */
const ENTRY_BYTES = 1024 * 1024

/** One entry of a node's stream, as it is written. */
export interface Entry {
  readonly meta: string
  readonly frames: string
}

/** What the append script counts for an entry, with what Redis needs for it. */
export const entryBytes = (meta: Buffer, frames: Buffer): number => meta.length + frames.length + 100

/** Items as entries of a stream, in order. */
export const encodeItems = (items: ReadonlyArray<NodeItem>): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  let parts: Array<string> = []
  let length = 0
  for (const item of items) {
    const text = JSON.stringify(item)
    if (length > 0 && length + text.length > ENTRY_BYTES) {
      entries.push({ meta: `[${parts.join(",")}]`, frames: "" })
      parts = []
      length = 0
    }
    parts.push(text)
    length += text.length
  }
  if (parts.length > 0) entries.push({ meta: `[${parts.join(",")}]`, frames: "" })
  return entries
}

/** The items of an entry. */
export const decodeItems = (meta: Buffer, _frames: Buffer): ReadonlyArray<NodeItem> =>
  JSON.parse(meta.toString()) as ReadonlyArray<NodeItem>
