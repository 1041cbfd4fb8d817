/** Why the server closes a connection, and what a client does then. No dependency: clients import this file too. */

/**
 * What a client does after a close: `reconnect` from its cursor after a random pause; `login` with a new token (4004:
 * and resume; 4500: the person has to); `back off` for seconds before the next try; `stop` for good; `fix` the client,
 * because trying again gives the same.
 */
export type CloseAdvice = "reconnect" | "resume" | "login" | "back off" | "stop" | "fix"

/** One way a connection ends. `reason` is what the close frame says, at most 123 bytes. */
export interface CloseCode {
  readonly code: number
  readonly name: string
  readonly reason: string
  readonly client: CloseAdvice
}

/** The one table of close codes, by name. */
export const CLOSE = {
  protocolError: { code: 1002, name: "protocolError", reason: "not a valid WebSocket frame", client: "fix" },
  binary: { code: 1003, name: "binary", reason: "binary frames are not served, send JSON text", client: "fix" },
  badUtf8: { code: 1007, name: "badUtf8", reason: "a text frame was not valid UTF-8", client: "fix" },
  tooBig: { code: 1009, name: "tooBig", reason: "a frame was over 65536 bytes", client: "fix" },
  draining: {
    code: 4000,
    name: "draining",
    reason: "this server is going away, reconnect and resume",
    client: "resume"
  },
  slowConsumer: { code: 4001, name: "slowConsumer", reason: "read too slowly, reconnect and resume", client: "resume" },
  silent: { code: 4003, name: "silent", reason: "no sign of life for 35 s, reconnect and resume", client: "resume" },
  tokenExpired: {
    code: 4004,
    name: "tokenExpired",
    reason: "the token has expired, come with a new one",
    client: "login"
  },
  noHello: { code: 4008, name: "noHello", reason: "no hello within 5 s", client: "reconnect" },
  tooManyConnections: {
    code: 4009,
    name: "tooManyConnections",
    reason: "the user opened too many connections, this was the oldest",
    client: "stop"
  },
  tooFast: { code: 4029, name: "tooFast", reason: "kept on over the rate limit, back off", client: "back off" },
  refused: { code: 4500, name: "refused", reason: "the token or ticket was refused, log in", client: "login" },
  badFrames: {
    code: 4501,
    name: "badFrames",
    reason: "three frames that are not JSON, or one before hello",
    client: "fix"
  },
  revoked: { code: 4503, name: "revoked", reason: "the user's access was revoked", client: "stop" }
} as const satisfies Record<string, CloseCode>

const byCode: ReadonlyMap<number, CloseCode> = new Map(Object.values(CLOSE).map((close) => [close.code, close]))

/** The entry of a code; `undefined` for codes that are not in the table (1000, 1001, 1006, ...): reconnect and resume. */
export const closeCode = (code: number): CloseCode | undefined => byCode.get(code)
