import type { TimelineEvent } from "../domain/events.ts"
import type { ConversationId, UserId } from "../domain/ids.ts"
import type { NodeItem } from "../platform/Router.ts"
import type { Connection } from "./Connection.ts"
import { eventFrame, Frame } from "./Frame.ts"

/** An event as it comes by the node's stream. */
export type Persisted = Extract<NodeItem, { readonly _tag: "MessagePersisted" }>

/**
 * Events of one conversation that came together, one behind the other, for the same users: one or many, as a busy conversation is committed. What is done for each
 * of its connections is then done once for all of them, and each event is encoded once.
 */
export class Run {
  readonly conv: ConversationId
  readonly users: ReadonlyArray<UserId>
  readonly items: ReadonlyArray<Persisted>
  /** The sessions that sent them. */
  readonly sessions: ReadonlySet<string>
  /** Nobody comes or goes. */
  readonly isPlain: boolean
  /** Where nobody comes or goes it is for those who are here of the conversation's members. */
  readonly isBig: boolean
  #frames: Array<Frame> | undefined
  #bytes = 0

  constructor(items: ReadonlyArray<Persisted>) {
    const [first] = items as [Persisted]
    this.conv = first.event.conv
    this.users = first.users
    this.items = items
    this.isBig = first.big === true
    let sessions: Set<string> | undefined
    let isPlain = true
    for (const { event } of items) {
      if (event.origin !== undefined) (sessions ??= new Set()).add(event.origin.session)
      if (event.type === "members" || event.type === "created") isPlain = false
    }
    this.sessions = sessions ?? NOBODY
    this.isPlain = isPlain
  }

  get first(): TimelineEvent {
    return this.items[0]!.event
  }

  get last(): TimelineEvent {
    return this.items.at(-1)!.event
  }

  /** The events as clients are given them. Many queues hold this same array, so nobody may change it. */
  get frames(): ReadonlyArray<Frame> {
    if (this.#frames === undefined) {
      this.#frames = this.items.map(({ event, frame }) =>
        frame === undefined ? eventFrame(event) : new Frame(frame())
      )
      for (const { payload } of this.#frames) this.#bytes += payload.length
    }
    return this.#frames
  }

  /** Bytes of all {@link frames}. */
  get bytes(): number {
    void this.frames
    return this.#bytes
  }
}

const NOBODY: ReadonlySet<string> = new Set()

/** The run that begins at `from`, where an event is. */
export const runAt = (items: ReadonlyArray<NodeItem>, from: number): Run => {
  const run: Array<Persisted> = [items[from] as Persisted]
  for (let i = from + 1; i < items.length; i++) {
    const item = items[i]!
    const last = run[run.length - 1]!
    if (item._tag !== "MessagePersisted" || item.users !== last.users || item.event.conv !== last.event.conv) break
    if (item.big !== last.big) break
    // One that was told twice begins anew, and is found to be known.
    if (item.event.seq !== last.event.seq + 1) break
    run.push(item)
  }
  return new Run(run)
}

/** Gives a run to all connections of those whom it concerns here: `users`. */
export const deliver = (
  run: Run,
  users: ReadonlyArray<UserId>,
  bySession: ReadonlyMap<string, Connection>,
  byUser: ReadonlyMap<UserId, ReadonlyArray<Connection>>
): void => {
  const { sessions } = run
  for (const session of sessions) {
    const sender = bySession.get(session)
    // It is answered for its own also where it is given nothing else: it may have left.
    sender?.feed?.own(run, users.includes(sender.user))
  }
  for (const user of users) {
    const connections = byUser.get(user)
    if (connections === undefined) continue
    for (const connection of connections)
      if (sessions.size === 0 || !sessions.has(connection.id)) connection.feed!.run(run)
  }
}
