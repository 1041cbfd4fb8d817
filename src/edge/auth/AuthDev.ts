import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { SignJWT } from "jose"
import { isUserId } from "../../domain/ids.ts"
import { Router } from "../../platform/Router.ts"
import { Auth, Unauthorized } from "./Auth.ts"
import { makeTickets } from "./tickets.ts"
import { type TokenRules, verifyToken } from "./verify.ts"

/** Seconds for which a token of `AUTH=dev` is good. */
const TOKEN_S = 24 * 3_600
const RULES: TokenRules = { algorithms: ["HS256"], audience: "darda-dev" }

/** `AUTH=dev`: anybody is who they say they are. Tokens are signed with the cluster secret, so that all nodes accept them. */
export const layerDev = (secret: Redacted.Redacted<string>): Layer.Layer<Auth, never, Router> =>
  Layer.effect(
    Auth,
    Effect.gen(function* () {
      const key = new TextEncoder().encode(Redacted.value(secret))
      return Auth.of({
        mode: "dev",
        ...makeTickets(key, yield* Router),
        issueDev: Effect.fnUntraced(function* (user) {
          if (!isUserId(user)) return yield* new Unauthorized({ message: "This is no user id." })
          const exp = Math.floor((yield* Clock.currentTimeMillis) / 1000) + TOKEN_S
          const token = yield* Effect.promise(() =>
            new SignJWT()
              .setProtectedHeader({ alg: "HS256" })
              .setSubject(user)
              .setAudience(RULES.audience)
              .setExpirationTime(exp)
              .sign(key)
          )
          return { token, expiresAt: exp * 1000 }
        }),
        verify: (token) => verifyToken(token, key, RULES)
      })
    })
  )
