import { hash } from "node:crypto"
import type { Origin } from "./events.ts"
import type { ClientId, ConversationId, Seq, UserId } from "./ids.ts"

/** What a person asked for, after the edge has checked its form. Lists of users are sorted by code unit, without repeats. */
export type Intent =
  | { readonly type: "send"; readonly kind: string; readonly body: string; readonly replyTo?: Seq }
  | { readonly type: "edit"; readonly target: Seq; readonly body: string }
  | { readonly type: "delete"; readonly target: Seq }
  | { readonly type: "react"; readonly target: Seq; readonly emoji: string; readonly on: boolean }
  | { readonly type: "create"; readonly members: ReadonlyArray<UserId>; readonly title?: string }
  | { readonly type: "members"; readonly add: ReadonlyArray<UserId>; readonly remove: ReadonlyArray<UserId> }
  | { readonly type: "leave" }
  | { readonly type: "title"; readonly title: string }
  | { readonly type: "mark"; readonly delivered?: Seq; readonly seen?: Seq }

/** A command on its way to the committer of its conversation's partition. `cid` is empty for marks. */
export interface Command {
  readonly conv: ConversationId
  readonly by: UserId
  readonly cid: ClientId
  readonly intent: Intent
  readonly origin: Origin
  /** W3C trace context of the request that carried it. */
  readonly traceparent?: string
}

/** Users in the order of code units, each once: the one form in which lists of users enter commands, events and digests. */
export const sortedUsers = (users: ReadonlyArray<UserId>): ReadonlyArray<UserId> =>
  users.length < 2 ? users : [...new Set(users)].sort((a, b) => (a < b ? -1 : 1))

const canonical = (intent: Intent): string => {
  switch (intent.type) {
    case "send":
      return JSON.stringify(["send", intent.kind, intent.body, intent.replyTo ?? 0])
    case "edit":
      return JSON.stringify(["edit", intent.target, intent.body])
    case "delete":
      return JSON.stringify(["delete", intent.target])
    case "react":
      return JSON.stringify(["react", intent.target, intent.emoji, intent.on])
    case "create":
      return JSON.stringify(["create", intent.members, intent.title ?? null])
    case "members":
      return JSON.stringify(["members", intent.add, intent.remove])
    case "leave":
      return "leave"
    case "title":
      return JSON.stringify(["title", intent.title])
    case "mark":
      return ""
  }
}

/** Hash of a command's content: equal for a repeat, different for another content under the same `cid`. 32 hex digits of SHA-256. */
export const contentDigest = (intent: Intent): string =>
  intent.type === "mark" ? "" : hash("sha256", canonical(intent)).slice(0, 32)
