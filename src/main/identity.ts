/** How this process checks identities, by its settings. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { Auth } from "../edge/auth/Auth.ts"
import { layerDev } from "../edge/auth/AuthDev.ts"
import { type AuthUnusable, layerJwt, verificationKey } from "../edge/auth/AuthJwt.ts"
import type { Router } from "../platform/Router.ts"
import type { SettingsValues } from "../platform/Settings.ts"

// The settings are not taken without issuer and audience where AUTH=jwt.
const jwtOptions = ({ jwksUrl, jwtAlgorithms, jwtAudience, jwtIssuer, jwtPublicKeyFile }: SettingsValues) => ({
  issuer: jwtIssuer!,
  audience: jwtAudience!,
  algorithms: jwtAlgorithms,
  ...(jwksUrl === undefined ? {} : { jwksUrl }),
  ...(jwtPublicKeyFile === undefined ? {} : { publicKeyFile: jwtPublicKeyFile })
})

/** Whether identities can be checked with these settings; asked before anything is written. */
export const checkAuth = (settings: SettingsValues): Effect.Effect<void, AuthUnusable> =>
  settings.auth === "dev" ? Effect.void : Effect.asVoid(verificationKey(jwtOptions(settings)))

/** Identities by the settings. `secret` signs dev tokens and tickets. */
export const layerAuth = (
  settings: SettingsValues,
  secret: Redacted.Redacted<string>
): Layer.Layer<Auth, AuthUnusable, Router> =>
  settings.auth === "dev" ? layerDev(secret) : layerJwt({ ...jwtOptions(settings), clusterSecret: secret })
