import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import { dmConversation, isClientId, isUserId, isWellFormedText, type UserId } from "../../domain/ids.ts"
import type { RouterUnavailable } from "../../platform/Router.ts"
import type { Hub } from "../Hub.ts"
import { Allowance } from "../Allowance.ts"
import { CLOSE } from "../../domain/protocol/close-codes.ts"
import { legacyFrame } from "./messages.ts"

/** What a session needs of its socket. */
export interface LegacySocket {
  readonly send: (text: string) => void
  readonly close: (code: number, reason: string) => void
  /** Stops and resumes reading. */
  readonly pause: () => void
  readonly resume: () => void
}

/** The limits of a session, as those of other connections. */
export interface LegacyLimits {
  readonly perSecond: number
  readonly burst: number
  readonly inFlight: number
  /** UTF-16 code units. */
  readonly bodyChars: number
}

export interface LegacyOptions {
  readonly user: UserId
  readonly socket: LegacySocket
  readonly hub: Pick<Hub["Service"], "listen" | "request">
  readonly limits: LegacyLimits
  /** The clock, in milliseconds. */
  readonly now: () => number
  /** Runs something in the background; it starts before this answers, so that what was said first is sent first. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

/** A connection of a client of Darda-chat. */
export interface LegacySession {
  /** A text frame came. */
  readonly receive: (text: string) => void
  /** The socket is closed. */
  readonly end: Effect.Effect<void>
}

/** A message that may be sent. */
interface Said {
  readonly destination: UserId
  readonly body: string
  readonly cid: string
}

const keyOf = (conv: string, cid: string): string => `${conv}\n${cid}`

/** What a frame says, or undefined for what must not be sent to anyone: above all what is said in the name of somebody else. */
const read = (text: string, user: UserId, bodyChars: number): Said | undefined => {
  let frame: { readonly type?: unknown; readonly content?: unknown } | null
  try {
    frame = JSON.parse(text) as typeof frame
  } catch {
    return undefined
  }
  if (frame?.type !== "Message" || typeof frame.content !== "object" || frame.content === null) return undefined
  const { content, destination, id, sender } = frame.content as Readonly<Record<string, unknown>>
  if (sender !== user || typeof destination !== "string" || !isUserId(destination)) return undefined
  if (typeof content !== "string" || content === "" || content.length > bodyChars || !isWellFormedText(content))
    return undefined
  return { destination, body: content, cid: typeof id === "string" && isClientId(id) ? id : randomUUID() }
}

/** Messages that a session remembers as its own until their event comes; one that is refused stays until newer ones take its place. */
const OWN = 1_000

/**
 * Serves one socket of Darda-chat's own protocol. It has no word for a refusal, so what cannot be sent goes nowhere. Its page shows a message
 * itself when it sends it, so the sending session does not get it back, unless it is to oneself; every other session of both people gets it.
 */
export const legacySession = ({
  fork,
  hub,
  limits,
  now,
  socket,
  user
}: LegacyOptions): Effect.Effect<LegacySession, RouterUnavailable> =>
  Effect.gen(function* () {
    const own = new Set<string>()
    const stop = yield* hub.listen(
      user,
      (event) => {
        if (event.by === user && own.delete(keyOf(event.conv, event.cid))) return
        const frame = legacyFrame(event)
        if (frame !== undefined) socket.send(JSON.stringify(frame))
      },
      // There is no other word for it: a client that connects again reads what was said meanwhile.
      () => socket.close(CLOSE.draining.code, CLOSE.draining.reason)
    )
    const allowance = new Allowance(limits, now())
    let inFlight = 0

    const submit = ({ body, cid, destination }: Said): Effect.Effect<void> => {
      const conv = dmConversation(user, destination)
      if (destination !== user) {
        own.add(keyOf(conv, cid))
        if (own.size > OWN) for (const oldest of own.keys().take(1)) own.delete(oldest)
      }
      return hub.request({ conv, by: user, cid, intent: { type: "send", kind: "text", body } }).pipe(
        Effect.catch((refused) =>
          Effect.logDebug(`A message of Darda-chat's protocol was refused: ${refused.message}`)
        ),
        Effect.ensuring(
          Effect.sync(() => {
            if (inFlight-- === limits.inFlight) socket.resume()
          })
        ),
        Effect.asVoid
      )
    }

    return {
      receive: (text) => {
        const at = now()
        allowance.frame(at, Buffer.byteLength(text))
        if (allowance.take(at, true) > 0) {
          if (allowance.exhausted(at)) socket.close(CLOSE.tooFast.code, CLOSE.tooFast.reason)
          return
        }
        const said = read(text, user, limits.bodyChars)
        if (said === undefined) return
        if (++inFlight === limits.inFlight) socket.pause()
        fork(submit(said))
      },
      end: stop
    }
  })
