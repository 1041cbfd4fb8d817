import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { jwtVerify, SignJWT } from "jose"
import { isUserId } from "../../domain/ids.ts"
import { TICKET_TTL_MS } from "../../domain/protocol/limits.ts"
import type { Router } from "../../platform/Router.ts"
import { type Auth, Unauthorized } from "./Auth.ts"

/** Another audience than any token's, so that neither can be used as the other. */
const AUDIENCE = "darda-ticket"

const refused = () => new Unauthorized({ message: "The ticket is not one of this server, has expired, or was used before." })

/** Tickets signed with the cluster secret; that one is used once is kept where all nodes see it. */
export const makeTickets = (
  key: Uint8Array,
  router: Router["Service"]
): Pick<Auth["Service"], "issueTicket" | "redeemTicket"> => ({
  issueTicket: Effect.fnUntraced(function* (user, expiresAt) {
    const until = (yield* Clock.currentTimeMillis) + TICKET_TTL_MS
    const ticket = yield* Effect.promise(() =>
      new SignJWT({ until, session: expiresAt }).setProtectedHeader({ alg: "HS256" }).setSubject(user)
        .setAudience(AUDIENCE).setJti(randomUUID()).setExpirationTime(Math.ceil(until / 1000)).sign(key)
    )
    return { ticket, expiresAt: until }
  }),
  redeemTicket: Effect.fnUntraced(function* (ticket) {
    const now = yield* Clock.currentTimeMillis
    const { payload } = yield* Effect.tryPromise({
      try: () => jwtVerify(ticket, key, { algorithms: ["HS256"], audience: AUDIENCE, currentDate: new Date(now), requiredClaims: ["sub", "jti", "exp"] }),
      catch: refused
    })
    const { jti, session, sub, until } = payload
    if (sub === undefined || jti === undefined || !isUserId(sub) || typeof until !== "number" || typeof session !== "number") return yield* refused()
    if (until <= now) return yield* refused()
    const first = yield* router.claimOnce(`ticket:${jti}`, TICKET_TTL_MS + 1000).pipe(Effect.mapError(refused))
    if (!first) return yield* refused()
    return { user: sub, expiresAt: session }
  })
})
