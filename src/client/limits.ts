/** The client's own numbers; those of the protocol are the protocol's. */
export { BATCH_OBJECTS, LIVE_TTL_MS, PRESENCE_USERS, RESUME_SEQS } from "../domain/protocol/limits.ts"

/** First bound of the random pause before a reconnect, in milliseconds; it doubles with each failure. */
export const BACKOFF_BASE_MS = 250
/** Largest bound of that pause. */
export const BACKOFF_CAP_MS = 10_000
/** A connection that lived this long was a success: the next pause starts from the base again. */
export const STABLE_MS = 10_000
/** Bounds of the pause after 4029: the server looks at ten seconds. */
export const BACK_OFF_MS = { min: 5_000, max: 15_000 } as const
/** Time for opening a socket and getting `welcome`. */
export const OPEN_TIMEOUT_MS = 10_000
/** Silence after which the server is asked for a sign of life: longer than its own 25 s, which are not visible here. */
export const PROBE_AFTER_MS = 40_000
/** Time for that sign. */
export const PROBE_TIMEOUT_MS = 10_000
/** A command without any answer for this long is sent again on a fresh connection; a request fails. */
export const ANSWER_TIMEOUT_MS = 30_000
/** How often commands without an answer are looked for. */
export const ANSWER_CHECK_MS = 1_000
/** Commands that wait for their answer, on the wire or not; more are refused with `full`. */
export const OUTBOX_MAX = 20_000
/** Requests that wait for their answer; more are refused with `full`. */
export const REQUESTS_MAX = 1_000
/** Commands kept in storage, the oldest; those beyond live in memory only. */
export const STORED_MAX = 256
/** Pause between two writes to storage. */
export const STORE_EVERY_MS = 200
/** Pause before a refused but retryable command when the server names none; doubles up to `BACKOFF_CAP_MS`. */
export const RETRY_MS = 1_000
/** Marks of one conversation go at most this often. */
export const MARK_EVERY_MS = 250
/** Marks sent this short before a connection broke are sent again, because nothing acknowledges them. */
export const MARK_UNSURE_MS = 15_000
/** Conversations whose marks are remembered. */
export const MARKS_MAX = 1_000
/** The same `typing` is not repeated within this time. */
export const TYPING_EVERY_MS = 2_000
/** Users whose presence is watched. */
export const WATCHED_MAX = 1_000
/** Conversations whose last seq is remembered. */
export const TRACKS_MAX = 10_000
/** Events of one conversation kept while the hole before them is filled; beyond, they are read again. */
export const HELD_MAX = 1_000
/** Such events of all conversations. */
export const HELD_TOTAL_MAX = 10_000
/** How long after `welcome` a hole may still be filled by the replay. */
export const REPLAY_PATIENCE_MS = 5_000
/** Pause before a failed repair is tried again. */
export const REPAIR_AGAIN_MS = 2_000
