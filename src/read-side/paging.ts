import type { Seq } from "../domain/ids.ts"
import { REPLY_BYTES } from "../domain/protocol/limits.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"
import type { PageRequest } from "./ReadModels.ts"

/** Bytes of a reply that its items may take: the rest is for the frame around them, 50 receipts included. */
export const ITEMS_BYTES = REPLY_BYTES - 24_576

/**
 * Bytes that the reactions of one message may take in an answer. What is beyond is left out, by the order of emojis and users: otherwise a message with
 * reactions without end could not be answered at all.
 */
export const REACTIONS_BYTES = 131_072

/** What must be looked up to answer a page: messages below a seq, the newest first, and messages above one, the oldest first. */
export interface Lookups {
  readonly older: { readonly before: Seq; readonly limit: number } | undefined
  readonly newer: { readonly after: Seq; readonly limit: number } | undefined
}

const NONE_ABOVE = Number.MAX_SAFE_INTEGER

/** One message more than asked for is looked up where `more` depends on it. */
export const lookups = ({ after, around, before, limit }: PageRequest): Lookups => {
  if (after !== undefined) return { older: undefined, newer: { after, limit: limit + 1 } }
  if (around !== undefined) {
    return { older: { before: around, limit: limit + 1 }, newer: { after: around - 1, limit } }
  }
  return { older: { before: before ?? NONE_ABOVE, limit: limit + 1 }, newer: undefined }
}

/** Something with a size that may become part of a page. */
export interface Candidate {
  readonly bytes: number
}

/**
 * Chooses what is in the page: what is nearest to the bound that was asked for comes first, until `limit` or the size is reached. Both lists are
 * ordered from that bound outwards; the answer is in seq order. For `around` half of the page is newer (from that seq on), or as many as
 * there are where one side has fewer.
 */
export const choose = <C extends Candidate>(
  request: PageRequest,
  older: ReadonlyArray<C>,
  newer: ReadonlyArray<C>
): { readonly chosen: ReadonlyArray<C>; readonly more: boolean } => {
  const { limit } = request
  const half = Math.ceil(limit / 2)
  const wantNewer = request.around === undefined ? limit : Math.max(half, limit - older.length)
  const ahead = Math.min(newer.length, wantNewer, limit)
  const back = Math.min(older.length, limit - ahead)
  let room = ITEMS_BYTES
  let takenNewer = 0
  let takenOlder = 0
  const fits = (candidate: C): boolean => {
    if (candidate.bytes > room && takenNewer + takenOlder > 0) return false
    room -= candidate.bytes
    return true
  }
  // In turns, so that both sides of `around` get their share of the size.
  let newerOpen = ahead > 0
  let olderOpen = back > 0
  while (newerOpen || olderOpen) {
    if (newerOpen) {
      if (fits(newer[takenNewer]!)) newerOpen = ++takenNewer < ahead
      else newerOpen = false
    }
    if (olderOpen) {
      if (fits(older[takenOlder]!)) olderOpen = ++takenOlder < back
      else olderOpen = false
    }
  }
  const more = request.after === undefined ? older.length > takenOlder : newer.length > takenNewer
  return { chosen: [...older.slice(0, takenOlder).reverse(), ...newer.slice(0, takenNewer)], more }
}

/** How many of the items, from the first on, fit into a reply: at least one if there is any. */
export const fitting = (sizes: ReadonlyArray<number>): number => {
  let room = ITEMS_BYTES
  let count = 0
  for (const size of sizes) {
    if (size > room && count > 0) break
    room -= size
    count++
  }
  return count
}

/** Bytes of a value as JSON, and one for the comma. */
export const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value)) + 1

/** A message whose reactions fit; the same one when they do anyway. */
export const withinReactionBytes = (message: FoldedMessage): FoldedMessage => {
  const { reactions } = message
  if (reactions === undefined || jsonBytes(reactions) <= REACTIONS_BYTES) return message
  let room = REACTIONS_BYTES
  const kept: Array<[string, ReadonlyArray<string>]> = []
  for (const [emoji, users] of Object.entries(reactions)) {
    room -= jsonBytes(emoji) + 3
    if (room < 0) break
    let count = 0
    while (count < users.length && (room -= users[count]!.length + 3) >= 0) count++
    if (count > 0) kept.push([emoji, users.slice(0, count)])
    if (room < 0) break
  }
  return { ...message, reactions: Object.fromEntries(kept) }
}
