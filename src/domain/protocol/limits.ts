/** The numbers of the protocol: what is fixed, and the defaults of what is a setting. */
import type { Limits } from "./server-frames.ts"

/** Bytes of one WebSocket frame, either way. */
export const FRAME_BYTES = 65_536
/** Objects in one array frame, either way. */
export const BATCH_OBJECTS = 64
/** Bytes of one `reply`; what does not fit is left for the next page (`more` or `next`). */
export const REPLY_BYTES = 262_144

/** Members named in one `create` or `members`. */
export const MEMBERS_PER_FRAME = 256
/** Users in one `presence`. */
export const PRESENCE_USERS = 200
/** Characters (Unicode code points) of a title. */
export const TITLE_CHARS = 200
/** Characters (Unicode code points) of an emoji. */
export const EMOJI_CHARS = 64
/** Characters (Unicode code points) of a `rid`. */
export const RID_CHARS = 64

/** Page sizes: what is taken when `limit` is absent, and the most that may be asked for. */
export const PAGES = {
  roster: { default: 256, max: 256 },
  sync: { default: 200, max: 200 },
  history: { default: 50, max: 200 },
  convs: { default: 50, max: 200 }
} as const

/** Conversations in `resume.seqs`. */
export const RESUME_SEQS = 500
/** Events replayed in one conversation on resume; more is a `reset`. */
export const REPLAY_PER_CONVERSATION = 200
/** Events replayed in all on resume; what is beyond is a `reset`. */
export const REPLAY_TOTAL = 2_000

/** Milliseconds until a connection without `hello` is closed (4008). */
export const HELLO_TIMEOUT_MS = 5_000
/** Milliseconds between the server's pings. */
export const PING_EVERY_MS = 25_000
/** Milliseconds the server waits for the answer to a ping before it closes (4003). */
export const PONG_TIMEOUT_MS = 10_000
/** Milliseconds between `cursor` frames, at least. */
export const CURSOR_EVERY_MS = 1_000
/** Milliseconds over the rate after which a connection is closed (4029). */
export const RATE_PATIENCE_MS = 10_000
/** How many `bad_json` a connection may have; the last one closes it (4501). */
export const BAD_JSON_MAX = 3
/** Milliseconds after its `at` when a client drops a `live`. */
export const LIVE_TTL_MS = 60_000
/** Milliseconds a ticket is good for. */
export const TICKET_TTL_MS = 30_000

/** Defaults of the settings with the same names in capitals. */
export const DEFAULTS = {
  perSecond: 50,
  burst: 200,
  inFlight: 256,
  bodyChars: 16_000,
  newDmsPerHour: 60,
  userConnections: 20,
  connections: 20_000,
  connectsPerSecond: 2_000,
  liveHedgeMs: 250
} as const
/** The most that the `LIMIT_` settings may be set to. */
export const LIMIT_MAX = 1_000_000

/** What `welcome` tells when nothing is set. */
export const DEFAULT_LIMITS: Limits = {
  frameBytes: FRAME_BYTES,
  bodyChars: DEFAULTS.bodyChars,
  inFlight: DEFAULTS.inFlight,
  perSecond: DEFAULTS.perSecond
}
