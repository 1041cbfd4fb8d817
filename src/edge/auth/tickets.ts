import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { SignJWT } from "jose"
import { isUserId } from "../../domain/ids.ts"
import { TICKET_TTL_MS } from "../../domain/protocol/limits.ts"
import type { Router } from "../../platform/Router.ts"
import { type Auth, Unauthorized } from "./Auth.ts"
import { type TokenRules, verifyClaims } from "./verify.ts"

/** Another audience than any token's, so that neither can be used as the other. */
const RULES: TokenRules = { algorithms: ["HS256"], audience: "darda-ticket" }

const USED_KEPT_MS = 2 * TICKET_TTL_MS

const refused = () =>
  new Unauthorized({ message: "The ticket is not one of this server, has expired, or was used before; get a new one." })

/** Tickets signed with the cluster secret; that one was used is kept where all nodes see it. */
export const makeTickets = (
  key: Uint8Array,
  router: Router["Service"]
): Pick<Auth["Service"], "issueTicket" | "redeemTicket"> => ({
  issueTicket: Effect.fnUntraced(function* (user, expiresAt) {
    const until = (yield* Clock.currentTimeMillis) + TICKET_TTL_MS
    const ticket = yield* Effect.promise(() =>
      new SignJWT({ until, session: expiresAt })
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(user)
        .setAudience(RULES.audience)
        .setJti(randomUUID())
        .setExpirationTime(Math.ceil(until / 1000))
        .sign(key)
    )
    return { ticket, expiresAt: until }
  }),
  redeemTicket: Effect.fnUntraced(function* (ticket) {
    const payload = yield* Effect.mapError(verifyClaims(ticket, key, RULES), refused)
    const { jti, session, sub, until } = payload
    if (typeof sub !== "string" || typeof jti !== "string" || !isUserId(sub)) return yield* refused()
    if (typeof until !== "number" || typeof session !== "number") return yield* refused()
    const left = until - (yield* Clock.currentTimeMillis)
    // That it was used is kept twice as long as it is good, for nodes whose clock is behind the issuer's; one that is good for longer than that could
    // be used again. Who cannot tell whether it was used refuses it.
    if (left <= 0 || left > USED_KEPT_MS) return yield* refused()
    const first = yield* router.claimOnce(`ticket:${jti}`, USED_KEPT_MS).pipe(Effect.mapError(refused))
    if (!first) return yield* refused()
    return { user: sub, expiresAt: session }
  })
})
