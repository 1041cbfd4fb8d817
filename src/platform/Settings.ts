/**
 * Every setting there is, in one table: decoding, `darda serve --help` and the table in docs/operations.md come from it.
 *
 * Settings come from the environment. An empty variable counts as not given.
 */
import * as Context from "effect/Context"
import { DEFAULTS, FRAME_BYTES, LIMIT_MAX } from "../domain/protocol/limits.ts"
import { engineProblems, NOT_SET } from "./settings-engines.ts"
import { choice, engineUrl, flag, integer, list, type Setting, secret, text, unlessFalse } from "./settings-forms.ts"

export { type EngineAddresses, engineAddresses } from "./settings-engines.ts"

const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/

const isOrigin = (value: string): boolean => URL.canParse(value) && new URL(value).origin === value

/** Keys may be fetched over plain http only from this machine: whoever can change them on the way can be anyone. */
const isKeySource = (value: string): boolean => {
  if (!URL.canParse(value)) return false
  const url = new URL(value)
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname))
}

const limit = (name: string, fallback: number, unit: string, doc: string) =>
  integer({ name, group: "Limits", fallback, min: 1, max: LIMIT_MAX, unit, doc })

const tlsFile = (name: string, doc: string) =>
  text({ name, group: "Engines", allowed: "a path of a PEM file", accepts: (value) => !value.includes("\0"), doc })

/** The four settings of the way to one engine; they count where its URL asks for TLS. */
const tls = <const N extends string>(engine: N) => ({
  caFile: tlsFile(
    `${engine}_TLS_CA_FILE`,
    "Authorities that its certificate may come from; those of the system without"
  ),
  certFile: tlsFile(`${engine}_TLS_CERT_FILE`, "This process's certificate, where the engine asks for one"),
  keyFile: tlsFile(`${engine}_TLS_KEY_FILE`, "The key of that certificate"),
  verify: unlessFalse({
    name: `${engine}_TLS_VERIFY`,
    group: "Engines",
    doc: "false takes any certificate, so that anyone on the way can read and change everything: for tests only"
  })
})
const mongoTls = tls("MONGO")
const amqpTls = tls("AMQP")
const redisTls = tls("REDIS")

/** The table of settings, by the name that the code uses. */
export const settingsTable = {
  port: integer({
    name: "PORT",
    group: "Server",
    fallback: 8080,
    min: 0,
    max: 65_535,
    doc: "Port for HTTP and WebSocket; 0 takes any free one"
  }),
  host: text({
    name: "HOST",
    group: "Server",
    fallback: "127.0.0.1",
    allowed: "an address or host name of this machine; with AUTH=dev a loopback one",
    accepts: (value) => !/[\s/]/.test(value),
    doc: "Address to listen on; 0.0.0.0 is every IPv4 address"
  }),
  dataDir: text({
    name: "DATA_DIR",
    group: "Server",
    fallback: "data",
    allowed: "a path",
    accepts: (value) => !value.includes("\0"),
    doc: "Folder that holds everything that is kept; made when it is missing"
  }),
  partitions: integer({
    name: "PARTITIONS",
    group: "Server",
    fallback: 16,
    min: 1,
    max: 256,
    doc: "Partitions of the event log; fixed when the log is created, another number is refused afterwards"
  }),
  drainSeconds: integer({
    name: "DRAIN_SECONDS",
    group: "Server",
    fallback: 30,
    min: 0,
    max: 3_600,
    unit: "seconds",
    doc: "How long a stopping server may take to finish what is under way and to close its connections"
  }),
  trustedProxies: integer({
    name: "TRUSTED_PROXIES",
    group: "Server",
    fallback: 0,
    min: 0,
    max: 10,
    unit: "proxies",
    doc: "Proxies before this server, each of which adds to X-Forwarded-For who spoke to it; with 0 that header is not believed"
  }),
  mongoUrl: engineUrl({
    name: "MONGO_URL",
    group: "Engines",
    schemes: ["mongodb", "mongodb+srv"],
    doc: "A MongoDB 8 replica set, the database as its path (darda without); with AMQP_URL and REDIS_URL, or none of the three"
  }),
  amqpUrl: engineUrl({
    name: "AMQP_URL",
    group: "Engines",
    schemes: ["amqp", "amqps"],
    doc: "RabbitMQ 3.10 or newer, the virtual host as its path"
  }),
  redisUrl: engineUrl({
    name: "REDIS_URL",
    group: "Engines",
    schemes: ["redis", "rediss"],
    doc: "Redis 7, the number of the database as its path"
  }),
  readUrl: list({
    name: "READ_URL",
    group: "Engines",
    fallback: [],
    allowed: "URLs of read processes, such as http://read:8080, separated by commas",
    accepts: (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
    doc: "Where an edge without the role read asks its queries"
  }),
  liveHedgeMs: integer({
    name: "LIVE_HEDGE_MS",
    group: "Engines",
    fallback: DEFAULTS.liveHedgeMs,
    min: 50,
    max: 60_000,
    unit: "milliseconds",
    doc: "After how long without an answer of the log a message is said to be sent and may go out before it is persisted"
  }),
  mongoTlsCaFile: mongoTls.caFile,
  mongoTlsCertFile: mongoTls.certFile,
  mongoTlsKeyFile: mongoTls.keyFile,
  mongoTlsVerify: mongoTls.verify,
  amqpTlsCaFile: amqpTls.caFile,
  amqpTlsCertFile: amqpTls.certFile,
  amqpTlsKeyFile: amqpTls.keyFile,
  amqpTlsVerify: amqpTls.verify,
  redisTlsCaFile: redisTls.caFile,
  redisTlsCertFile: redisTls.certFile,
  redisTlsKeyFile: redisTls.keyFile,
  redisTlsVerify: redisTls.verify,
  auth: choice({
    name: "AUTH",
    group: "Identity",
    fallback: "dev",
    values: ["dev", "jwt"],
    doc: "dev: whoever asks is who they say, for development only; jwt: tokens of your identity provider"
  }),
  authDevPublic: flag({
    name: "AUTH_DEV_PUBLIC",
    group: "Identity",
    doc: "1 lets AUTH=dev listen on other addresses than loopback: everyone who reaches the port can be anyone"
  }),
  clusterSecret: secret({
    name: "CLUSTER_SECRET",
    group: "Identity",
    minChars: 32,
    doc: "Signs tickets and dev tokens; needed with AUTH=jwt, made once and kept with AUTH=dev"
  }),
  allowedOrigins: list({
    name: "ALLOWED_ORIGINS",
    group: "Identity",
    fallback: [],
    allowed: "origins separated by commas, such as https://chat.example.com",
    accepts: isOrigin,
    doc: "Web pages of other hosts that may open a WebSocket; the server's own pages always may"
  }),
  jwksUrl: text({
    name: "JWT_JWKS_URL",
    group: "Identity",
    allowed: "an https URL (http only on loopback)",
    accepts: isKeySource,
    doc: "Where the identity provider publishes its keys; this or JWT_PUBLIC_KEY_FILE with AUTH=jwt"
  }),
  jwtPublicKeyFile: text({
    name: "JWT_PUBLIC_KEY_FILE",
    group: "Identity",
    allowed: "a path of a PEM file",
    accepts: (value) => !value.includes("\0"),
    doc: "The identity provider's public key; this or JWT_JWKS_URL with AUTH=jwt"
  }),
  jwtIssuer: text({
    name: "JWT_ISSUER",
    group: "Identity",
    allowed: "the provider's iss",
    accepts: () => true,
    doc: "What a token's iss must be; needed with AUTH=jwt"
  }),
  jwtAudience: text({
    name: "JWT_AUDIENCE",
    group: "Identity",
    allowed: "the aud of this service",
    accepts: () => true,
    doc: "What a token's aud must contain; needed with AUTH=jwt"
  }),
  jwtAlgorithms: list({
    name: "JWT_ALGORITHMS",
    group: "Identity",
    fallback: ["RS256", "ES256", "EdDSA"],
    allowed: `one or more of ${ALGORITHMS.join(" ")}, separated by commas`,
    accepts: (value) => ALGORITHMS.includes(value),
    doc: "Signature algorithms that are accepted; those with a shared key never are"
  }),
  limitPerSecond: limit("LIMIT_PER_SECOND", DEFAULTS.perSecond, "objects/s", "Objects a connection may send a second"),
  limitBurst: limit("LIMIT_BURST", DEFAULTS.burst, "objects", "Objects a connection may send at once"),
  limitInFlight: limit(
    "LIMIT_IN_FLIGHT",
    DEFAULTS.inFlight,
    "sends",
    "Sends of a connection that are not persisted yet; one more is answered busy"
  ),
  limitBodyChars: limit(
    "LIMIT_BODY_CHARS",
    DEFAULTS.bodyChars,
    "characters",
    `Length of a message's body; what does not fit a frame of ${FRAME_BYTES / 1024} KiB is refused whatever this says`
  ),
  limitNewDmsPerHour: limit(
    "LIMIT_NEW_DMS_PER_HOUR",
    DEFAULTS.newDmsPerHour,
    "conversations",
    "Direct conversations a user may open in an hour"
  ),
  limitUserConnections: limit(
    "LIMIT_USER_CONNECTIONS",
    DEFAULTS.userConnections,
    "connections",
    "Connections of one user; one more closes the oldest"
  ),
  limitConnections: limit(
    "LIMIT_CONNECTIONS",
    DEFAULTS.connections,
    "connections",
    "Connections of this process, about 20 kB each; one more is refused with 503"
  ),
  limitConnectsPerSecond: limit(
    "LIMIT_CONNECTS_PER_SECOND",
    DEFAULTS.connectsPerSecond,
    "connections/s",
    "New connections that this process takes a second, and as many at once; one more is refused with 503"
  ),
  limitAddressConnections: integer({
    name: "LIMIT_ADDRESS_CONNECTIONS",
    group: "Limits",
    fallback: 0,
    min: 0,
    max: LIMIT_MAX,
    unit: "connections",
    doc: "Connections of one client address (of IPv6 its /64) to this process; one more is refused with 429; 0 is any number. Behind proxies set TRUSTED_PROXIES"
  }),
  otlpTracesUrl: text({
    name: "OTLP_TRACES_URL",
    group: "Logs",
    allowed: "an http or https URL, such as http://collector:4318/v1/traces",
    accepts: (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
    doc: "Where traces go, by OTLP over HTTP; none are made without it"
  }),
  traceOneIn: integer({
    name: "TRACE_ONE_IN",
    group: "Logs",
    fallback: 1_000,
    min: 1,
    max: 1_000_000,
    unit: "sends",
    doc: "One of so many sends is followed, where traces go anywhere"
  }),
  logFormat: choice({
    name: "LOG_FORMAT",
    group: "Logs",
    values: ["pretty", "json"],
    fallbackText: "pretty on a terminal, else json",
    doc: "Lines for people, or one JSON object a line"
  }),
  logLevel: choice({
    name: "LOG_LEVEL",
    group: "Logs",
    fallback: "info",
    values: ["trace", "debug", "info", "warn", "error", "none"],
    doc: "The least severe that is logged"
  })
} as const

type Table = typeof settingsTable
type ValueOf<S> = S extends Setting<infer A> ? A : never

/** All settings, decoded; optional ones are undefined when they are not given. */
export type SettingsValues = { readonly [K in keyof Table]: ValueOf<Table[K]> }

/** The settings of this process. */
export class Settings extends Context.Service<Settings, SettingsValues>()("darda/platform/Settings") {}

/** One thing that is wrong with the environment. `given` never shows a secret. */
export interface SettingsProblem {
  readonly name: string
  readonly given: string
  readonly allowed: string
}

/** A problem as one line for a person. */
export const describeProblem = (problem: SettingsProblem): string =>
  `${problem.name} is ${problem.given}; allowed: ${problem.allowed}`

/** Whether a host name or address is only reachable from this machine. */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host)

const combinations = (values: SettingsValues): ReadonlyArray<SettingsProblem> => {
  const problems: Array<SettingsProblem> = []
  const complain = (name: string, given: string, allowed: string) => problems.push({ name, given, allowed })
  engineProblems(values, complain)
  const keys: ReadonlyArray<readonly [string, string | undefined]> = [
    ["JWT_JWKS_URL", values.jwksUrl],
    ["JWT_PUBLIC_KEY_FILE", values.jwtPublicKeyFile],
    ["JWT_ISSUER", values.jwtIssuer],
    ["JWT_AUDIENCE", values.jwtAudience]
  ]
  if (values.auth === "dev") {
    if (!isLoopback(values.host) && !values.authDevPublic) {
      complain(
        "HOST",
        JSON.stringify(values.host),
        "a loopback address with AUTH=dev, because there anyone can be anyone; AUTH_DEV_PUBLIC=1 lifts this"
      )
    }
    // Whoever names an identity provider means to use it; going on without would let everyone in.
    for (const [name, value] of keys) {
      if (value !== undefined) complain(name, `${JSON.stringify(value)} while AUTH is dev`, "with AUTH=jwt only")
    }
    return problems
  }
  if (values.clusterSecret === undefined) {
    complain("CLUSTER_SECRET", NOT_SET, `${settingsTable.clusterSecret.allowed}; AUTH=jwt needs one`)
  }
  if ((values.jwksUrl === undefined) === (values.jwtPublicKeyFile === undefined)) {
    const given = values.jwksUrl === undefined ? NOT_SET : "set together with JWT_PUBLIC_KEY_FILE"
    complain("JWT_JWKS_URL", given, "exactly one of JWT_JWKS_URL and JWT_PUBLIC_KEY_FILE with AUTH=jwt")
  }
  if (values.jwtIssuer === undefined) complain("JWT_ISSUER", NOT_SET, "the provider's iss, with AUTH=jwt")
  if (values.jwtAudience === undefined) complain("JWT_AUDIENCE", NOT_SET, "the aud of this service, with AUTH=jwt")
  return problems
}

/**
 * Reads the settings from an environment. Answers either all values or all problems at once; combinations are only judged when every
 * single value is right.
 */
export const decodeSettings = (
  environment: Readonly<Record<string, string | undefined>>
):
  | { readonly _tag: "Settings"; readonly values: SettingsValues }
  | { readonly _tag: "Problems"; readonly problems: ReadonlyArray<SettingsProblem> } => {
  const values: Record<string, unknown> = {}
  const problems: Array<SettingsProblem> = []
  for (const [key, setting] of Object.entries<Setting<unknown>>(settingsTable)) {
    const given = environment[setting.name]
    if (given === undefined || given === "") {
      values[key] = setting.fallback
      continue
    }
    const parsed = setting.parse(given)
    if (parsed === undefined) {
      const shown = setting.secret ? `hidden, ${given.length} characters` : JSON.stringify(given)
      problems.push({ name: setting.name, given: shown, allowed: setting.allowed })
    } else {
      values[key] = parsed
    }
  }
  if (problems.length === 0) problems.push(...combinations(values as unknown as SettingsValues))
  return problems.length === 0
    ? { _tag: "Settings", values: values as unknown as SettingsValues }
    : { _tag: "Problems", problems }
}

/** What is allowed and yet probably not meant, one line each. */
export const settingsWarnings = (values: SettingsValues): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  if (values.limitBodyChars > FRAME_BYTES) {
    warnings.push(
      `LIMIT_BODY_CHARS is ${values.limitBodyChars}, but a frame holds ${FRAME_BYTES} bytes: longer messages are refused all the same`
    )
  }
  if (values.limitBurst < values.limitPerSecond) {
    warnings.push(
      `LIMIT_BURST (${values.limitBurst}) is below LIMIT_PER_SECOND (${values.limitPerSecond}): the burst is what counts then`
    )
  }
  for (const engine of ["MONGO", "AMQP", "REDIS"] as const) {
    if (!values[`${engine.toLowerCase() as "mongo" | "amqp" | "redis"}TlsVerify`]) {
      warnings.push(
        `${engine}_TLS_VERIFY=false: whoever is on the way to this engine can read and change everything; never use it where that matters`
      )
    }
  }
  return warnings
}

/** The rows of the table for people, in order. */
export const settingsRows = (): ReadonlyArray<{
  readonly group: string
  readonly name: string
  readonly fallback: string
  readonly allowed: string
  readonly doc: string
}> =>
  Object.values<Setting<unknown>>(settingsTable).map((setting) => ({
    group: setting.group,
    name: setting.name,
    fallback: setting.fallbackText,
    allowed: setting.unit === undefined ? setting.allowed : `${setting.allowed} (${setting.unit})`,
    doc: setting.doc
  }))

/** The listing of `darda serve --help`. */
export const settingsHelp = (): string => {
  const lines: Array<string> = []
  let group = ""
  for (const row of settingsRows()) {
    if (row.group !== group) lines.push(`${lines.length === 0 ? "" : "\n"}${row.group}`)
    group = row.group
    lines.push(`  ${row.name} (${row.fallback})`, `      ${row.doc}`, `      allowed: ${row.allowed}`)
  }
  return lines.join("\n")
}

/** The table of docs/operations.md. */
export const settingsMarkdown = (): string =>
  [
    "| setting | default | allowed | what |",
    "|---|---|---|---|",
    ...settingsRows().map((row) => `| \`${row.name}\` | ${row.fallback} | ${row.allowed} | ${row.doc} |`)
  ].join("\n")
