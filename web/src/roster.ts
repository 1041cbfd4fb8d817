/** The members of the group that is open, with who is admin. */
import { signal } from "@preact/signals"
import type { Member } from "../../src/domain/protocol/server-frames.ts"
import type { Session } from "./model.ts"

/** As far as they were read; `next` when there are more. */
export interface Roster {
  readonly conv: string
  readonly members: readonly Member[]
  readonly next: string | undefined
}

/** `undefined` until it was read. */
export const roster = signal<Roster | undefined>(undefined)

let latest = 0

/** Reads it from the start, or (`more`) its next page. A failure leaves what there is: the next change reads it again. */
export const loadRoster = async ({ client }: Session, conv: string, more = false): Promise<void> => {
  const before = more && roster.value?.conv === conv ? roster.value : undefined
  if (more && before?.next === undefined) return
  const mine = ++latest
  try {
    const page = await client.roster({ conv, ...(before?.next === undefined ? {} : { after: before.next }) })
    if (mine === latest)
      roster.value = { conv, members: [...(before?.members ?? []), ...page.members], next: page.next }
  } catch {
    // As above.
  }
}
