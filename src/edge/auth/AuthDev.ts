import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { jwtVerify, SignJWT } from "jose"
import { isUserId } from "../../domain/ids.ts"
import { Router } from "../../platform/Router.ts"
import { Auth, Unauthorized } from "./Auth.ts"
import { makeTickets } from "./tickets.ts"

/** How long a token of `AUTH=dev` is good for. */
const TOKEN_MS = 24 * 3_600_000
const AUDIENCE = "darda-dev"

/** `AUTH=dev`: anybody is who they say they are. Tokens are signed with the cluster secret, so that all nodes accept them. */
export const layerDev = (secret: Redacted.Redacted<string>): Layer.Layer<Auth, never, Router> =>
  Layer.effect(
    Auth,
    Effect.gen(function* () {
      const key = new TextEncoder().encode(Redacted.value(secret))
      const tickets = makeTickets(key, yield* Router)
      return Auth.of({
        mode: "dev",
        ...tickets,
        issueDev: Effect.fnUntraced(function* (user) {
          if (!isUserId(user)) return yield* new Unauthorized({ message: "This is no user id." })
          const expiresAt = (yield* Clock.currentTimeMillis) + TOKEN_MS
          const token = yield* Effect.promise(() =>
            new SignJWT().setProtectedHeader({ alg: "HS256" }).setSubject(user).setAudience(AUDIENCE)
              .setExpirationTime(Math.floor(expiresAt / 1000)).sign(key)
          )
          return { token, expiresAt }
        }),
        verify: Effect.fnUntraced(function* (token) {
          const now = yield* Clock.currentTimeMillis
          const { payload } = yield* Effect.tryPromise({
            try: () => jwtVerify(token, key, { algorithms: ["HS256"], audience: AUDIENCE, currentDate: new Date(now), requiredClaims: ["sub", "exp"] }),
            catch: () => new Unauthorized({ message: "The token is not one of this server, or has expired." })
          })
          if (payload.sub === undefined || !isUserId(payload.sub)) {
            return yield* new Unauthorized({ message: "The token names no well-formed user." })
          }
          return { user: payload.sub, expiresAt: payload.exp! * 1000 }
        })
      })
    })
  )
