/** What goes wrong on the way to an engine by TLS, in words that name the setting to look at. */
import { createSecureContext } from "node:tls"
import { asksTls, type EngineAddress, tlsOptions } from "./EngineAddress.ts"

/** As the names of the engines' settings begin. */
export type EngineName = "MONGO" | "AMQP" | "REDIS"

const NOT_TRUSTED: ReadonlySet<unknown> = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_SIGNATURE_FAILURE"
])
/** Alerts of servers that want a certificate of the client, or another one. */
const WANTS_OURS = /alert (certificate required|bad certificate|unknown ca|certificate unknown|handshake failure)/i
/** Errors within errors that are looked at. */
const DEPTH = 5

/**
 * What is wrong with TLS where an engine could not be reached, as a part of a sentence; undefined where it is something else.
 */
export const tlsTrouble = (engine: EngineName, error: unknown): string | undefined => {
  for (const { code, message } of within(error, DEPTH)) {
    const said = message.replace(/;.*$/s, "").replace(/\.+$/, "")
    if (NOT_TRUSTED.has(code))
      return `its certificate does not come from an authority that is trusted here (${said}): ${engine}_TLS_CA_FILE must name that authority`
    if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
      return `its certificate is for other names than the one in ${engine}_URL: use one of those, or give it a certificate with this name`
    if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID")
      return `its certificate is not valid at this time (${said}): renew it, or look at the clocks`
    if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG")
      return `it does not speak TLS at that port, which ${engine}_URL asks for`
    if (WANTS_OURS.test(message))
      return `it refuses the certificate of this process, or the lack of one (${alertOf(message)}): look at ${engine}_TLS_CERT_FILE and ${engine}_TLS_KEY_FILE`
  }
  return undefined
}

/** How drivers say that the other end left. */
const LEFT = /ECONNRESET|EPIPE|closed|disconnected|ended/

/**
 * The same for the making of a connection, where servers that ask for certificates leave without a word when there is none: Redis and MongoDB do, and MongoDB also where it does not
 * speak TLS.
 */
export const tlsTroubleAtFirst = (engine: EngineName, address: EngineAddress, error: unknown): string | undefined => {
  const found = tlsTrouble(engine, error)
  if (found !== undefined || !asksTls(address) || address.tls.certFile !== undefined) return found
  const left = within(error, DEPTH).find(({ message }) => LEFT.test(message))
  return left === undefined
    ? undefined
    : `it ended the connection (${left.message.replace(/\.+$/, "")}): it does not speak TLS at that port, or it asks for certificates: then set ${engine}_TLS_CERT_FILE and ${engine}_TLS_KEY_FILE`
}

const alertOf = (message: string): string => WANTS_OURS.exec(message)?.[0].toLowerCase() ?? ""

interface Said {
  readonly code: unknown
  readonly message: string
}

/** The error, what caused it, and what MongoDB's driver found out about each server. */
const within = (error: unknown, depth: number): ReadonlyArray<Said> => {
  if (depth === 0 || typeof error !== "object" || error === null) return []
  const { cause, code, message, reason } = error as Record<string, unknown>
  const servers = (reason as { readonly servers?: unknown } | undefined)?.servers
  const others = servers instanceof Map ? [...servers.values()].map((one: { error?: unknown }) => one.error) : []
  return [
    { code, message: typeof message === "string" ? message : "" },
    ...[cause, ...others].flatMap((inner) => within(inner, depth - 1))
  ]
}

/** What is wrong with the files of an engine's TLS settings, for a person; undefined when nothing is. Reads them where the URL asks for TLS. */
export const tlsFilesTrouble = (engine: EngineName, address: EngineAddress): string | undefined => {
  if (!asksTls(address)) return undefined
  const { caFile, certFile, keyFile } = address.tls
  for (const [name, files] of [
    [`${engine}_TLS_CA_FILE`, { ...(caFile === undefined ? {} : { caFile }) }],
    [`${engine}_TLS_CERT_FILE`, { ...(certFile === undefined ? {} : { certFile }) }],
    [`${engine}_TLS_KEY_FILE`, { ...(keyFile === undefined ? {} : { keyFile }) }]
  ] as const) {
    const trouble = tried({ ...files, verify: true })
    if (trouble !== undefined) return `${name} cannot be used: ${trouble}`
  }
  const pair = tried(address.tls)
  return pair === undefined ? undefined : `${engine}_TLS_KEY_FILE is not the key of ${engine}_TLS_CERT_FILE: ${pair}`
}

const tried = (tls: EngineAddress["tls"]): string | undefined => {
  try {
    createSecureContext(tlsOptions(tls))
    return undefined
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause)
  }
}
