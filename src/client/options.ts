/** How a client is made, what it gives out, and what it is told. */
import type * as In from "../domain/protocol/client-frames.ts"
import type {
  Live,
  PresenceFrame,
  Receipt,
  TimelineEvent,
  TypingFrame,
  Unlive,
  Welcome
} from "../domain/protocol/server-frames.ts"
import type { Credential, Status } from "./connection.ts"
import type { Environment, KeyValueStorage } from "./environment.ts"
import type { DardaError } from "./errors.ts"
import type { Command } from "./outbox.ts"

/** How a client is made. */
export interface ClientOptions {
  /** `ws://` or `wss://`, ending in `/v1/ws`. */
  readonly url: string
  /** A token, or a function that gets a fresh token or ticket for each connection; only that survives an expiry. */
  readonly token: Credential | (() => Promise<Credential>)
  /** Kept across reconnects and, with `storage`, across restarts; made when absent. */
  readonly device?: string
  /** Keeps the device and what is not persisted yet across restarts. */
  readonly storage?: KeyValueStorage
  /** The user, where it is known before the server says it: commands with `to` then have their conversation at once. */
  readonly user?: string
  /** Where an earlier client of this user was, from `position()`: what it missed is replayed. */
  readonly resume?: In.Resume
  /** Milliseconds of silence until the server is asked for a sign of life; 0 for never. 40,000 when absent. */
  readonly probeAfterMs?: number
  /** For tests. */
  readonly environment?: Environment
}

/** What a client gives out, by name, with the arguments of the listeners. */
export interface ClientEvents {
  readonly status: [status: Status]
  readonly welcome: [welcome: Welcome, resumed: boolean]
  /** Each event of each conversation once and in order; `own`: it is the answer to a command of this client. */
  readonly event: [event: TimelineEvent, own: boolean]
  /** Everything up to now was given out: on a resumed connection the first one ends the catching up. At most once a second. */
  readonly caughtUp: []
  /** A command was given, or changed its state. A given one has state `sending`. */
  readonly command: [command: Command]
  /** What is known of the conversation is void: read `history`. The next event is the one after `head`. */
  readonly reset: [conv: string, head: number]
  readonly gone: [conv: string]
  readonly live: [live: Live]
  readonly unlive: [unlive: Unlive]
  readonly receipt: [receipt: Receipt]
  readonly typing: [typing: TypingFrame]
  readonly presence: [presence: PresenceFrame]
  /** A refusal that belongs to nothing that waits. */
  readonly error: [error: DardaError]
}

/** What `sendAwait` and the others that wait give back. */
export interface Persisted {
  readonly conv: string
  readonly seq: number
  readonly at: number
  readonly dup: boolean
}

/** A frame without what the client fills in. */
export type Fields<Frame, Made extends PropertyKey> = Omit<Frame, "t" | "rid" | Made>
/** What is said about a message; exactly one of `conv` and `to`. `cid` is made when absent. */
export type SendInput = Fields<In.Send, "cid"> & { readonly cid?: string }
