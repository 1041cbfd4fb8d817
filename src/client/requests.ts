/** Questions and their answers: each is asked again after a reconnect, and fails when its time is over. */
import type { Convs, History, Presence, Refresh, Roster, Sync } from "../domain/protocol/client-frames.ts"
import type { ReplyBody } from "../domain/protocol/server-frames.ts"
import { DardaError } from "./errors.ts"
import type { Clock } from "./environment.ts"
import { ANSWER_TIMEOUT_MS, REQUESTS_MAX, RETRY_MS } from "./limits.ts"

/** The frames that ask and change nothing that asking twice would change twice. */
export type ReadFrame = Convs | History | Presence | Refresh | Roster | Sync

interface Pending {
  readonly frame: ReadFrame
  readonly deadline: number
  readonly resolve: (body: never) => void
  readonly reject: (error: DardaError) => void
}

/** The requests of one client that only read, so that asking twice does no harm. */
export class Requests {
  readonly #clock: Clock
  readonly #write: (frame: object) => boolean
  /** By rid; all wait equally long, so this is also the order in which they time out. */
  readonly #pending = new Map<string, Pending>()
  #connected = false
  #cancelTimer: (() => void) | undefined

  constructor(clock: Clock, write: (frame: object) => boolean) {
    this.#clock = clock
    this.#write = write
  }

  /** Asks; the answer comes as the reply of its kind, or fails as a `DardaError` after 30 s at most. */
  ask<Frame extends ReadFrame>(frame: Frame): Promise<ReplyBody[Frame["t"]]> {
    return new Promise((resolve, reject) => {
      if (this.#pending.size >= REQUESTS_MAX) {
        return reject(
          new DardaError("full", `${REQUESTS_MAX} requests wait for the server already; try again later`, true)
        )
      }
      const deadline = this.#clock.now() + ANSWER_TIMEOUT_MS
      this.#pending.set(frame.rid, { frame, deadline, resolve, reject })
      if (this.#connected && !this.#write(frame)) this.#end(frame.rid)?.reject(tooLarge())
      else if (this.#cancelTimer === undefined) this.#arm()
    })
  }

  /** A connection is open: everything is asked again. */
  connected(): void {
    this.#connected = true
    for (const { frame } of [...this.#pending.values()]) {
      if (!this.#write(frame)) this.#end(frame.rid)?.reject(tooLarge())
    }
  }

  disconnected(): void {
    this.#connected = false
  }

  /** Gives an answer to its asker; `false` when nobody waits for it. */
  answer(rid: string, body: object): boolean {
    const pending = this.#end(rid)
    pending?.resolve(body as never)
    return pending !== undefined
  }

  /** Gives a refusal to its asker, or asks again later when that may help; `false` when nobody waits for it. */
  refuse(rid: string, error: DardaError): boolean {
    const pending = this.#pending.get(rid)
    if (pending === undefined) return false
    const pause = error.retryAfterMs ?? RETRY_MS
    if (!error.retryable || this.#clock.now() + pause >= pending.deadline) {
      this.#end(rid)?.reject(error)
      return true
    }
    this.#clock.after(pause, () => {
      if (this.#connected && this.#pending.get(rid) === pending) this.#write(pending.frame)
    })
    return true
  }

  /** Fails everything. */
  close(): void {
    for (const rid of [...this.#pending.keys()])
      this.#end(rid)?.reject(new DardaError("closed", "the client was stopped"))
  }

  #end(rid: string): Pending | undefined {
    const pending = this.#pending.get(rid)
    this.#pending.delete(rid)
    if (this.#pending.size === 0) {
      this.#cancelTimer?.()
      this.#cancelTimer = undefined
    }
    return pending
  }

  #arm(): void {
    this.#cancelTimer = undefined
    for (const { deadline } of this.#pending.values()) {
      this.#cancelTimer = this.#clock.after(Math.max(0, deadline - this.#clock.now()), () => this.#expire())
      return
    }
  }

  #expire(): void {
    this.#cancelTimer = undefined
    const now = this.#clock.now()
    for (const [rid, { deadline, frame }] of [...this.#pending]) {
      if (deadline > now) break
      this.#end(rid)?.reject(
        new DardaError("timeout", `${frame.t} was not answered within ${ANSWER_TIMEOUT_MS / 1000} s`, true)
      )
    }
    this.#arm()
  }
}

const tooLarge = (): DardaError =>
  new DardaError("too_large", "the request is larger than the server takes in one frame")
