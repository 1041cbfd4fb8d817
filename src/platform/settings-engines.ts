/** The engines of many processes, as the settings name them. */
import { asksTls, type EngineAddress } from "./EngineAddress.ts"
import type { SettingsValues } from "./Settings.ts"

/** For a person: a setting that has no value. */
export const NOT_SET = "not set"

/** The three engines of many processes; undefined with the embedded ones. */
export interface EngineAddresses {
  readonly mongo: EngineAddress
  readonly amqp: EngineAddress
  readonly redis: EngineAddress
}

/** Where the engines are; undefined when none is named. */
export const engineAddresses = (values: SettingsValues): EngineAddresses | undefined => {
  const { amqpUrl, mongoUrl, redisUrl } = values
  if (mongoUrl === undefined || amqpUrl === undefined || redisUrl === undefined) return undefined
  const files = (engine: "mongo" | "amqp" | "redis") => {
    const caFile = values[`${engine}TlsCaFile`]
    const certFile = values[`${engine}TlsCertFile`]
    const keyFile = values[`${engine}TlsKeyFile`]
    return {
      ...(caFile === undefined ? {} : { caFile }),
      ...(certFile === undefined ? {} : { certFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
      verify: values[`${engine}TlsVerify`]
    }
  }
  return {
    mongo: { url: mongoUrl, tls: files("mongo") },
    amqp: { url: amqpUrl, tls: files("amqp") },
    redis: { url: redisUrl, tls: files("redis") }
  }
}

/** What asks for TLS, by engine. */
const TLS_URLS = { mongo: "an address with tls=true", amqp: "an amqps:// address", redis: "a rediss:// address" }

/** All three engines, or none: a mixture has no meaning, and a forgotten one must not end in a server on files. */
export const engineProblems = (
  values: SettingsValues,
  complain: (name: string, given: string, allowed: string) => void
): void => {
  const engines = [
    ["MONGO_URL", values.mongoUrl],
    ["AMQP_URL", values.amqpUrl],
    ["REDIS_URL", values.redisUrl]
  ] as const
  const missing = engines.filter(([, url]) => url === undefined)
  if (missing.length > 0 && missing.length < engines.length) {
    const given = engines.filter(([, url]) => url !== undefined).map(([name]) => name)
    for (const [name] of missing) {
      complain(name, NOT_SET, `the URL of that engine, because ${given.join(" and ")} is set: all three, or none`)
    }
  }
  const addresses = engineAddresses(values)
  for (const engine of ["mongo", "amqp", "redis"] as const) {
    // Whoever names an authority means TLS; going on without would send everything in the clear.
    const address = addresses?.[engine]
    const named = (["Ca", "Cert", "Key"] as const).filter((file) => values[`${engine}Tls${file}File`] !== undefined)
    if (address !== undefined && named.length > 0 && !asksTls(address)) {
      const files = named.map((file) => `${engine.toUpperCase()}_TLS_${file.toUpperCase()}_FILE`).join(" and ")
      complain(`${engine.toUpperCase()}_URL`, "without TLS", `${TLS_URLS[engine]}, because ${files} is set`)
    }
    const name = `${engine.toUpperCase()}_TLS_KEY_FILE`
    if ((values[`${engine}TlsCertFile`] === undefined) !== (values[`${engine}TlsKeyFile`] === undefined)) {
      complain(name, "set without the other", `set together with ${engine.toUpperCase()}_TLS_CERT_FILE, or not at all`)
    }
  }
}
