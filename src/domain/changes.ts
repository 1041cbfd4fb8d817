import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import type { Conversation } from "./conversation.ts"
import type { NewEvent } from "./events.ts"
import type { UserId } from "./ids.ts"

/** The users whose membership or watermarks an event changed, given the conversation before and after it. */
export const changedMembers = (before: Conversation, event: NewEvent, after: Conversation): ReadonlyArray<UserId> => {
  switch (event.type) {
    case "marked":
      return [event.by]
    case "created":
      return event.data.members
    case "members": {
      const named = [...(event.data.added ?? []), ...(event.data.removed ?? [])]
      if (!(event.data.removed ?? []).some((user) => isAdmin(before, user))) return named
      for (const member of HashMap.values(after.members)) {
        if (member.admin && !isAdmin(before, member.user)) named.push(member.user)
      }
      return named
    }
    case "message":
      return before.seq === 0 ? [...HashMap.keys(after.members)] : []
    case "edited":
    case "deleted":
    case "reaction":
    case "title":
      return []
  }
}

const isAdmin = (state: Conversation, user: UserId): boolean =>
  Option.getOrUndefined(HashMap.get(state.members, user))?.admin === true
