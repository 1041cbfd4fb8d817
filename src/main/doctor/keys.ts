/** What the doctor checks of AUTH=jwt: that the keys are there and are keys. */
import * as Effect from "effect/Effect"
import { createPublicKey } from "node:crypto"
import { readFileSync } from "node:fs"
import { explainFileError } from "../../platform/DataFolder.ts"
import type { SettingsValues } from "../../platform/Settings.ts"
import { bad, type Finding, good, note } from "./finding.ts"

const FETCH_TIMEOUT_MS = 5_000

/** Findings about the identity provider's keys, or that there is none. */
export const checkKeys = (values: SettingsValues): Effect.Effect<ReadonlyArray<Finding>> => {
  if (values.auth === "dev")
    return Effect.succeed([note("AUTH=dev: anyone can be anyone; use AUTH=jwt where others can reach it")])
  if (values.jwtPublicKeyFile !== undefined) return Effect.sync(() => [checkFile(values.jwtPublicKeyFile!)])
  return Effect.promise(async () => [await checkUrl(values.jwksUrl!)])
}

const checkFile = (file: string): Finding => {
  try {
    return good(`JWT_PUBLIC_KEY_FILE holds a ${createPublicKey(readFileSync(file)).asymmetricKeyType} key`)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? ""
    const reason =
      code === "ENOENT"
        ? "it does not exist"
        : code.startsWith("ERR_")
          ? "it holds no public key in PEM"
          : explainFileError(cause)
    return bad(`JWT_PUBLIC_KEY_FILE ${file}: ${reason}`)
  }
}

const checkUrl = async (url: string): Promise<Finding> => {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })
    if (!answer.ok) return bad(`JWT_JWKS_URL answers ${answer.status}: it must answer the provider's keys`)
    const { keys } = (await answer.json()) as { readonly keys?: unknown }
    if (!Array.isArray(keys)) return bad("JWT_JWKS_URL answers no key set: it must be an object with keys")
    return good(`JWT_JWKS_URL answers ${keys.length} key${keys.length === 1 ? "" : "s"}`)
  } catch (cause) {
    const reason =
      cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : String(cause)
    return bad(`JWT_JWKS_URL cannot be read: ${reason}`)
  }
}
