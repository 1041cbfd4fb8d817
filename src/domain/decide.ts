import * as HashMap from "effect/HashMap"
import { type Command, contentDigest, sortedUsers } from "./commands.ts"
import { type Conversation, MAX_MEMBERS, type Member, memberOf, NAMED_RECEIPTS_MAX } from "./conversation.ts"
import type { EventData, EventType, NewEvent } from "./events.ts"
import { dmMembers, type Seq, type UserId } from "./ids.ts"
import { noConversation, noMessage, type Rejection } from "./rejections.ts"

/** The event that this sender's `cid` already names in this conversation. */
export interface Prior {
  readonly seq: Seq
  readonly at: number
  readonly digest: string
}

/** What `decide` cannot know from the conversation itself; looked up for it, so that it stays pure. */
export interface Facts {
  /** Milliseconds since 1970 UTC. */
  readonly now: number
  readonly prior?: Prior | undefined
  /** The author of the message that the command refers to (`target` or `replyTo`); undefined when there is no such message. */
  readonly author?: UserId | undefined
  /** Direct conversations that the sender has opened within the last hour. */
  readonly recentDms: number
  readonly newDmsPerHour: number
}

export type Decision =
  | { readonly _tag: "Accepted"; readonly event: NewEvent }
  /** The same command again: the same answer. */
  | { readonly _tag: "Repeat"; readonly seq: Seq; readonly at: number }
  | { readonly _tag: "Rejected"; readonly rejection: Rejection }
  /** A mark that moves nothing. */
  | { readonly _tag: "Unchanged" }

const rejected = (rejection: Rejection): Decision => ({ _tag: "Rejected", rejection })
const forbidden = (message: string): Decision => rejected({ code: "forbidden", message })
const badRequest = (message: string): Decision => rejected({ code: "bad_request", message })

/**
 * Judges one command against the conversation as it is. Pure: time and look-ups come in as `facts`. The order is the protocol's:
 * a repeat is answered first (also for one who has left), then access, then permission. One accepted command is one event.
 */
export const decide = (state: Conversation, command: Command, facts: Facts): Decision => {
  const { by, conv, intent } = command
  if (intent.type === "mark") return mark(state, command, intent, facts.now)
  const digest = contentDigest(intent)
  if (facts.prior !== undefined) {
    return facts.prior.digest === digest
      ? { _tag: "Repeat", seq: facts.prior.seq, at: facts.prior.at }
      : rejected({
          code: "conflict",
          message: `The cid ${command.cid} already names another command of yours in ${conv}; use a new cid.`
        })
  }
  const accept = <T extends Exclude<EventType, "marked">>(type: T, data: EventData[T]): Decision => ({
    _tag: "Accepted",
    event: {
      conv,
      seq: state.seq + 1,
      type,
      by,
      at: Math.max(facts.now, state.at),
      cid: command.cid,
      data,
      digest
    } as NewEvent
  })

  if (intent.type === "create") {
    if (state.seq > 0 || state.kind === "dm") return rejected({ code: "conflict", message: `${conv} exists already.` })
    const members = sortedUsers([by, ...intent.members])
    return accept("created", {
      kind: "group",
      ...(intent.title === undefined ? {} : { title: intent.title }),
      members
    })
  }

  const me = memberOf(state, by)
  if (me === undefined) return rejected(noConversation(conv))
  switch (intent.type) {
    case "send": {
      if (intent.replyTo !== undefined && facts.author === undefined) return rejected(noMessage(conv, intent.replyTo))
      if (state.seq === 0 && facts.recentDms >= facts.newDmsPerHour) {
        return rejected({
          code: "rate_limited",
          message: `You have opened ${facts.recentDms} direct conversations within an hour; ${facts.newDmsPerHour} are allowed.`,
          retryAfterMs: 60_000
        })
      }
      return accept("message", {
        kind: intent.kind,
        body: intent.body,
        ...(intent.replyTo === undefined ? {} : { replyTo: intent.replyTo })
      })
    }
    case "edit":
      if (facts.author === undefined) return rejected(noMessage(conv, intent.target))
      if (facts.author !== by) return forbidden(`Only its author may edit message ${intent.target}.`)
      return accept("edited", { target: intent.target, body: intent.body })
    case "delete":
      if (facts.author === undefined) return rejected(noMessage(conv, intent.target))
      if (facts.author !== by && !me.admin) {
        return forbidden(`Only its author or an admin may delete message ${intent.target}.`)
      }
      return accept("deleted", { target: intent.target })
    case "react":
      if (facts.author === undefined) return rejected(noMessage(conv, intent.target))
      return accept("reaction", { target: intent.target, emoji: intent.emoji, on: intent.on })
    case "members":
      return dmMembers(conv) === undefined
        ? changeMembers(state, me, intent.add, intent.remove, (data) => accept("members", data))
        : forbidden("The two members of a direct conversation are fixed.")
    case "leave":
      return dmMembers(conv) === undefined
        ? accept("members", { removed: [by] })
        : forbidden("The two members of a direct conversation are fixed.")
    case "title":
      return dmMembers(conv) === undefined
        ? accept("title", { title: intent.title })
        : forbidden("A direct conversation has no title.")
  }
}

const changeMembers = (
  state: Conversation,
  me: Member,
  add: ReadonlyArray<UserId>,
  remove: ReadonlyArray<UserId>,
  accept: (data: EventData["members"]) => Decision
): Decision => {
  if (!me.admin && remove.some((user) => user !== me.user)) return forbidden("Only an admin may remove other members.")
  const both = add.find((user) => remove.includes(user))
  if (both !== undefined) return badRequest(`${both} is in both "add" and "remove".`)
  const added = add.filter((user) => !HashMap.has(state.members, user))
  const removed = remove.filter((user) => HashMap.has(state.members, user))
  const size = HashMap.size(state.members) + added.length - removed.length
  if (size > MAX_MEMBERS) {
    return rejected({
      code: "too_large",
      message: `A conversation has at most ${MAX_MEMBERS} members; this would make it ${size}.`
    })
  }
  return accept({
    ...(added.length === 0 ? {} : { added }),
    ...(removed.length === 0 ? {} : { removed })
  })
}

const mark = (
  state: Conversation,
  command: Command,
  intent: { readonly delivered?: Seq; readonly seen?: Seq },
  now: number
): Decision => {
  const me = memberOf(state, command.by)
  if (me === undefined) return rejected(noConversation(command.conv))
  const furthest = Math.max(intent.delivered ?? 0, intent.seen ?? 0)
  if (furthest > state.seq) {
    return badRequest(`A mark at ${furthest} is past the newest event of ${command.conv}, which is ${state.seq}.`)
  }
  // A large group counts who has seen what, and keeps no more than that.
  const { delivered, seen }: typeof intent =
    HashMap.size(state.members) > NAMED_RECEIPTS_MAX ? { ...intent, delivered: 0 } : intent
  if ((seen ?? 0) <= me.seen && Math.max(delivered ?? 0, seen ?? 0) <= me.delivered) return { _tag: "Unchanged" }
  return {
    _tag: "Accepted",
    event: {
      conv: command.conv,
      seq: 0,
      type: "marked",
      by: command.by,
      at: Math.max(now, state.at),
      cid: "",
      data: {
        ...(delivered === undefined || delivered === 0 ? {} : { delivered }),
        ...(seen === undefined ? {} : { seen })
      },
      digest: ""
    }
  }
}
