import { createPublicKey, type KeyObject } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createRemoteJWKSet, customFetch, type FetchImplementation } from "jose"
import { Router } from "../../platform/Router.ts"
import { Auth, Unauthorized } from "./Auth.ts"
import { makeTickets } from "./tickets.ts"
import { type TokenRules, type VerifyKey, verifyToken } from "./verify.ts"

/** Milliseconds that the identity provider has to answer with its keys. */
const JWKS_TIMEOUT_MS = 5_000
/** Milliseconds between two readings of the keys, so that tokens with made-up key ids cannot make this server hammer the provider. */
const JWKS_COOLDOWN_MS = 30_000
/** Milliseconds after a failed reading in which no other is tried. */
const JWKS_RETRY_MS = 1_000
/** Milliseconds after which a key that the provider took back is forgotten here. */
const JWKS_MAX_AGE_MS = 600_000
/** Bits below which an RSA key is not accepted by anybody any more. */
const RSA_BITS = 2_048

const ASYMMETRIC = /^(?:RS|PS|ES)(?:256|384|512)$|^EdDSA$|^Ed25519$/

/** The keys of `AUTH=jwt` cannot be used; the start ends with it. */
export class AuthUnusable extends Schema.TaggedError<AuthUnusable>()("AuthUnusable", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** `AUTH=jwt` as the settings give it: exactly one of `jwksUrl` and `publicKeyFile`. */
export interface JwtOptions {
  readonly clusterSecret: Redacted.Redacted<string>
  readonly jwksUrl?: string
  readonly publicKeyFile?: string
  readonly issuer: string
  readonly audience: string
  readonly algorithms: ReadonlyArray<string>
}

/** The algorithms that a key can verify. */
const fitting = (key: KeyObject, algorithms: ReadonlyArray<string>): ReadonlyArray<string> => {
  const { namedCurve } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case "rsa":
      return algorithms.filter((name) => /^[RP]S/.test(name))
    case "rsa-pss":
      return algorithms.filter((name) => name.startsWith("PS"))
    case "ed25519":
      return algorithms.filter((name) => name.startsWith("Ed"))
    case "ec": {
      const curves: Readonly<Record<string, string>> = { prime256v1: "ES256", secp384r1: "ES384", secp521r1: "ES512" }
      return algorithms.filter((name) => name === curves[namedCurve ?? ""])
    }
    default:
      return []
  }
}

const readKey = (file: string, algorithms: ReadonlyArray<string>): Effect.Effect<KeyObject, AuthUnusable> =>
  Effect.suspend(() => {
    const fail = (why: string) => Effect.fail(new AuthUnusable({ reason: `JWT_PUBLIC_KEY_FILE ${file}: ${why}` }))
    let key: KeyObject
    try {
      key = createPublicKey(readFileSync(file))
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code === "ENOENT") return fail("it does not exist")
      if (code === "EACCES" || code === "EISDIR") return fail("it cannot be read")
      return fail("it holds no public key in PEM")
    }
    const bits = key.asymmetricKeyDetails?.modulusLength
    if (bits !== undefined && bits < RSA_BITS) return fail(`its key has ${bits} bits, at least ${RSA_BITS} are needed`)
    if (fitting(key, algorithms).length === 0) {
      return fail(`its ${key.asymmetricKeyType} key verifies none of JWT_ALGORITHMS (${algorithms.join(", ")})`)
    }
    return Effect.succeed(key)
  })

/** The cooldown counts from a success only: without this every token would ask a provider that is in trouble once more. */
const restrainedFetch = (): FetchImplementation => {
  let failedAt = -Infinity
  let failure: unknown
  return async (url, options) => {
    if (performance.now() - failedAt < JWKS_RETRY_MS) throw failure
    try {
      const response = await fetch(url, options)
      if (response.status !== 200) throw new Error(`The identity provider answered ${response.status}`)
      return response
    } catch (cause) {
      failedAt = performance.now()
      failure = cause
      throw cause
    }
  }
}

/** What tokens are verified with. Reads the key file, and asks no provider yet. */
export const verificationKey = (options: Omit<JwtOptions, "clusterSecret">): Effect.Effect<VerifyKey, AuthUnusable> => {
  const { algorithms, jwksUrl, publicKeyFile } = options
  // The settings refuse shared-key algorithms and "none" already; whoever builds this layer otherwise cannot let them in either.
  const wrong = algorithms.find((name) => !ASYMMETRIC.test(name))
  if (wrong !== undefined || algorithms.length === 0) {
    return Effect.fail(
      new AuthUnusable({ reason: `JWT_ALGORITHMS has ${wrong ?? "nothing"}: name public-key algorithms` })
    )
  }
  if ((jwksUrl === undefined) === (publicKeyFile === undefined)) {
    return Effect.fail(new AuthUnusable({ reason: "Set exactly one of JWT_JWKS_URL and JWT_PUBLIC_KEY_FILE" }))
  }
  if (publicKeyFile !== undefined) return readKey(publicKeyFile, algorithms)
  return Effect.succeed(
    createRemoteJWKSet(new URL(jwksUrl!), {
      timeoutDuration: JWKS_TIMEOUT_MS,
      cooldownDuration: JWKS_COOLDOWN_MS,
      cacheMaxAge: JWKS_MAX_AGE_MS,
      [customFetch]: restrainedFetch()
    })
  )
}

/**
 * `AUTH=jwt`: tokens of an identity provider. Every token is refused while its keys cannot be read, also at the start: a
 * provider that is away for a moment keeps nobody from starting.
 */
export const layerJwt = (options: JwtOptions): Layer.Layer<Auth, AuthUnusable, Router> =>
  Layer.effect(
    Auth,
    Effect.gen(function* () {
      const key = yield* verificationKey(options)
      const secret = new TextEncoder().encode(Redacted.value(options.clusterSecret))
      const { algorithms, audience, issuer } = options
      const rules: TokenRules = { algorithms, audience, issuer }
      return Auth.of({
        mode: "jwt",
        ...makeTickets(secret, yield* Router),
        issueDev: () =>
          Effect.fail(
            new Unauthorized({ message: "This server makes no tokens; get one from your identity provider." })
          ),
        verify: (token) => verifyToken(token, key, rules)
      })
    })
  )
