import { checkAnswers } from "./checker-answers.ts"
import { checkCommands } from "./checker-commands.ts"
import { checkSessions } from "./checker-sessions.ts"
import { Evidence, makeTimeline, type Timeline } from "./checker-timeline.ts"

/** A frame as it was sent or parsed. */
export interface Fields {
  readonly t: string
  readonly [field: string]: unknown
}

/** What a client recorded of one connection. `at` in milliseconds, by one clock for the whole history. */
export type Entry =
  | { readonly at: number; readonly dir: "opened" }
  | { readonly at: number; readonly dir: "sent"; readonly frame: Fields }
  | { readonly at: number; readonly dir: "received"; readonly frame: Fields }
  /** The client stopped reading, or went on. */
  | { readonly at: number; readonly dir: "stalled" | "reading" }
  | { readonly at: number; readonly dir: "closed"; readonly code: number }

/** One connection, from its opening to its end, or to the end of the history. */
export interface Session {
  readonly entries: ReadonlyArray<Entry>
}

export interface ClientHistory {
  readonly user: string
  readonly device: string
  /** In the order in which they were opened; a device has one at a time. */
  readonly sessions: ReadonlyArray<Session>
}

/** A timeline event as the log holds it at the end. */
export interface LogEvent {
  readonly seq: number
  readonly type: string
  readonly by: string
  readonly at: number
  readonly cid: string
  readonly data: Readonly<Record<string, unknown>>
}

/** Everything that is judged. Plain JSON, so that it can be kept and judged again. */
export interface History {
  readonly clients: ReadonlyArray<ClientHistory>
  /** Every conversation's events, as read at the end. */
  readonly log: Readonly<Record<string, ReadonlyArray<LogEvent>>>
  /** What cursors stand for: of each conversation that has events up to there, the last seq. Without it, less can be decided. */
  readonly cursors?: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** When it ended. */
  readonly until: number
  /** From when on nothing was sent and nothing disturbed; at least 5 s before `until`. */
  readonly quietFrom?: number
}

/** Something that must never be. */
export interface Violation {
  /** As in `I10`. */
  readonly invariant: string
  readonly message: string
  /** Which client and connection, or which conversation. */
  readonly where: string
}

export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  /** How many facts were judged, by invariant: none means that the history says nothing about it. */
  readonly judged: Readonly<Record<string, number>>
}

/**
 * Decides whether a history keeps what clients may rely on: I1, I3 to I6, I10 to I14, I17 and I19, as far as clients can see them. It knows the
 * protocol and nothing of how the server is built, so it judges simulations and real processes alike.
 */
export const check = (history: History): Verdict => {
  const evidence = new Evidence()
  const timelines = new Map<string, Timeline>()
  for (const [conv, events] of Object.entries(history.log)) timelines.set(conv, makeTimeline(conv, events, evidence))
  checkCommands(history, timelines, evidence)
  checkSessions(history, timelines, evidence)
  checkAnswers(history, timelines, evidence)
  return { violations: evidence.violations, judged: Object.fromEntries(evidence.judged) }
}
