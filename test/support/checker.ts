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
  /** From when on nothing was sent and nothing disturbed; the history goes on for at least 5 s after it. */
  readonly quietFrom?: number
}

export interface Violation {
  readonly invariant: string
  readonly message: string
  readonly where: string
}
