import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey, type JWTVerifyOptions } from "jose"
import type { KeyObject } from "node:crypto"
import { isUserId } from "../../domain/ids.ts"
import { type Identity, Unauthorized } from "./Auth.ts"

/** Longer than any provider's token, and short enough that nobody makes the server hash megabytes. */
const TOKEN_CHARS = 16_384
/** Seconds by which the clocks of provider and server may differ. */
const CLOCK_TOLERANCE_S = 5

/** What a token is verified with. */
export type VerifyKey = Uint8Array | KeyObject | JWTVerifyGetKey

/** What a token must be: signed by one of `algorithms`, for `audience`, by `issuer` where one is named. */
export interface TokenRules {
  readonly algorithms: ReadonlyArray<string>
  readonly audience: string
  readonly issuer?: string
}

/** Why a token is refused, for a person, and never with any part of it. */
const explain = (cause: unknown, rules: TokenRules): string => {
  if (cause instanceof errors.JWTExpired) return "The token has expired; get a new one."
  if (cause instanceof errors.JWTClaimValidationFailed) {
    return cause.reason === "missing"
      ? `The token has no ${cause.claim}, which this server needs.`
      : `The token's ${cause.claim} is not what this server accepts.`
  }
  if (cause instanceof errors.JOSEAlgNotAllowed) {
    return `The token's signature algorithm is not accepted; accepted: ${rules.algorithms.join(", ")}.`
  }
  if (cause instanceof errors.JWSSignatureVerificationFailed) return "The token's signature is not right."
  if (cause instanceof errors.JWKSNoMatchingKey || cause instanceof errors.JWKSMultipleMatchingKeys) {
    return "The token is signed with a key that the identity provider does not publish."
  }
  if (cause instanceof errors.JWSInvalid || cause instanceof errors.JWTInvalid) return "This is no well-formed token."
  if (cause instanceof errors.JOSENotSupported) return "The token uses a feature that is not supported."
  // What is left is about the keys, not about the token: refused all the same, since nothing vouches for it.
  return "The token cannot be checked now, because the identity provider's keys cannot be read; try again."
}

/** Verifies a token's signature and claims by the clock of the effect. `exp` is always needed. */
export const verifyClaims = Effect.fnUntraced(function* (
  token: string,
  key: VerifyKey,
  rules: TokenRules
): Effect.fn.Return<JWTPayload & { readonly exp: number }, Unauthorized> {
  if (token.length > TOKEN_CHARS) {
    return yield* new Unauthorized({ message: `The token is longer than ${TOKEN_CHARS} characters.` })
  }
  const options: JWTVerifyOptions = {
    algorithms: [...rules.algorithms],
    audience: rules.audience,
    ...(rules.issuer === undefined ? {} : { issuer: rules.issuer }),
    currentDate: new Date(yield* Clock.currentTimeMillis),
    clockTolerance: CLOCK_TOLERANCE_S,
    requiredClaims: ["exp"]
  }
  const { payload } = yield* Effect.tryPromise({
    try: () => (typeof key === "function" ? jwtVerify(token, key, options) : jwtVerify(token, key, options)),
    catch: (cause) => new Unauthorized({ message: explain(cause, rules) })
  })
  return payload as JWTPayload & { readonly exp: number }
})

/** Who a token is for. Its `sub` must be a user id, because it becomes part of conversation ids. */
export const verifyToken = Effect.fnUntraced(function* (
  token: string,
  key: VerifyKey,
  rules: TokenRules
): Effect.fn.Return<Identity, Unauthorized> {
  const { exp, sub } = yield* verifyClaims(token, key, rules)
  if (typeof sub !== "string") {
    return yield* new Unauthorized({ message: "The token has no sub, which this server needs." })
  }
  if (!isUserId(sub)) {
    return yield* new Unauthorized({
      message: "The token's sub is no user id of this server: 1 to 128 of A-Z a-z 0-9 _ . @ | + = ~ -"
    })
  }
  return { user: sub, expiresAt: Math.min(Math.floor(exp * 1000), Number.MAX_SAFE_INTEGER) }
})
