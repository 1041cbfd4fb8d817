import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Intent } from "../domain/commands.ts"
import type { TimelineEvent } from "../domain/events.ts"
import type { ClientId, ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import type { PresenceOf, RouterUnavailable } from "../platform/Router.ts"
import type { QueryRefused } from "../read-side/Queries.ts"

/** A command that was refused, or whose fate is not known yet (`unavailable`: the same command may be sent again). */
export class CommandRefused extends Schema.TaggedError<CommandRefused>()("CommandRefused", {
  code: Schema.Literals([
    "bad_request",
    "forbidden",
    "not_found",
    "conflict",
    "too_large",
    "rate_limited",
    "busy",
    "unavailable",
    "internal"
  ]),
  message: Schema.String,
  retryAfterMs: Schema.optionalKey(Schema.Number)
}) {}

/** Where a command ended: `dup` when it was there already. */
export interface Persisted {
  readonly conv: ConversationId
  readonly seq: Seq
  readonly at: number
  readonly dup: boolean
}

/** This node's connections, and the way from an HTTP request to the command side and back. */
export class Hub extends Context.Service<
  Hub,
  {
    /** Submits a command and waits until it is persisted or refused, at most 25 s. */
    readonly request: (command: {
      readonly conv: ConversationId
      readonly by: UserId
      readonly cid: ClientId
      readonly intent: Intent
    }) => Effect.Effect<Persisted, CommandRefused>
    /** Tells of every event that is addressed to this user, until the effect that it answers is run; `onLost`: some may have been lost. */
    readonly listen: (
      user: UserId,
      onEvent: (event: TimelineEvent) => void,
      onLost: () => void
    ) => Effect.Effect<Effect.Effect<void>, RouterUnavailable>
    /** How these users are, 200 at most, as far as this user may know: others are like those who were never there. */
    readonly presence: (
      user: UserId,
      users: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<UserId, PresenceOf>, QueryRefused | RouterUnavailable>
    /** What this node has seen of the log: queries must answer with at least that. */
    readonly seen: () => Vector
    /** Open connections. */
    readonly size: () => number
  }
>()("darda/edge/Hub") {}
