import type { CloseCode } from "../domain/protocol/close-codes.ts"
import type { Frame } from "./Frame.ts"

/** What a connection needs of its socket. The one place that knows `ws` makes these; a simulation makes others. */
export interface Transport {
  /** Writes objects in order, and calls `done` when the socket has taken them, perhaps at once, or is closed. Called again only after that. */
  readonly write: (frames: ReadonlyArray<Frame>, done: () => void) => void
  readonly ping: () => void
  /** Sends the close frame behind what was written; the socket is cut 1 s later if the peer has not closed it. */
  readonly close: (close: Pick<CloseCode, "code" | "reason">) => void
  /** Stops and resumes reading from the socket. */
  readonly pause: () => void
  readonly resume: () => void
}
