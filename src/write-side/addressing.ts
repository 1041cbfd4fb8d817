/** To which nodes the relay tells something, and for whom there. */
import { isBigConversation } from "../domain/conversation.ts"
import { removedBy } from "../domain/events.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { NodeItem, RouteId } from "../platform/Router.ts"
import type { Outgoing } from "./Batch.ts"

/** What is told to people, by the nodes that hold them. */
export type Told = Extract<Outgoing, { readonly _tag: "Event" | "Receipt" }>

export const convOf = (item: Told): ConversationId => (item._tag === "Event" ? item.event.conv : item.conv)

const isMembership = (item: Told): boolean =>
  item._tag === "Event" && (item.event.type === "created" || item.event.type === "members")

/**
 * By the members that it has after the event. How many that were is not known of what was read from the log: then who comes and goes is told as if it were big, since a node that
 * takes an interest in one that is not is harmless.
 */
const isBig = (item: Told): boolean => {
  if (item.fromLog === true) return isMembership(item)
  const gone = item._tag === "Event" ? removedBy(item.event).length : 0
  return isBigConversation(convOf(item), item.recipients.length - gone)
}

/**
 * Told to the nodes that are interested in the conversation, whoever is in it. Who comes and goes is told to those that hold the people concerned, however many they are: by that a node
 * learns what it is to be interested in. So is what was read from the log.
 */
export const isByInterest = (item: Told): boolean => isBig(item) && !isMembership(item)

/** What a node registered, of what was looked up. */
export interface Route {
  readonly ids: ReadonlySet<RouteId>
  /** Which of these users it holds. Messages in one conversation have the same recipients, and get the same answer. */
  readonly held: (recipients: ReadonlyArray<UserId>) => ReadonlyArray<UserId>
}

export const routeOf = (ids: ReadonlySet<RouteId>): Route => {
  const known = new Map<ReadonlyArray<UserId>, ReadonlyArray<UserId>>()
  return {
    ids,
    held: (recipients) => {
      let held = known.get(recipients)
      if (held === undefined) known.set(recipients, (held = recipients.filter((user) => ids.has(user))))
      return held
    }
  }
}

const NOBODY: ReadonlyArray<never> = []

export const streamOf = (streams: Map<string, Array<NodeItem>>, node: string): Array<NodeItem> => {
  let stream = streams.get(node)
  if (stream === undefined) streams.set(node, (stream = []))
  return stream
}

const nodeItem = (item: Told, users: ReadonlyArray<UserId>): NodeItem => {
  const big = isBig(item) ? BIG : undefined
  if (item._tag === "Receipt") return { _tag: "Receipt", receipt: item.receipt(), users, session: item.session, ...big }
  const { event } = item
  const traceparent = event.origin?.traceparent
  return traceparent === undefined
    ? { _tag: "MessagePersisted", event, users, ...big }
    : { _tag: "MessagePersisted", event, users, traceparent, ...big }
}

const BIG = { big: true } as const

/** Adds an item to the streams of the nodes concerned, given the routes of whom it is for. */
export const address = (
  streams: Map<string, Array<NodeItem>>,
  routes: ReadonlyMap<string, Route>,
  item: Told
): void => {
  let origin = item._tag === "Event" ? item.event.origin?.node : undefined
  const conv = isByInterest(item) ? convOf(item) : undefined
  for (const [node, { held, ids }] of routes) {
    const users = conv === undefined ? held(item.recipients) : NOBODY
    const isConcerned = conv === undefined ? users.length > 0 : ids.has(conv)
    if (!isConcerned && node !== origin) continue
    if (node === origin) origin = undefined
    streamOf(streams, node).push(nodeItem(item, users))
  }
  // The session that asked may be all that is there, as with a request over HTTP.
  if (origin !== undefined) streamOf(streams, origin).push(nodeItem(item, NOBODY))
}
