import { assert, describe, it } from "@effect/vitest"
import { Redacted } from "effect"
import { readFileSync } from "node:fs"
import {
  decodeSettings,
  describeProblem,
  settingsHelp,
  settingsMarkdown,
  settingsRows,
  settingsWarnings,
  type SettingsValues
} from "../../src/platform/Settings.ts"

const values = (environment: Record<string, string>): SettingsValues => {
  const decoded = decodeSettings(environment)
  assert.strictEqual(decoded._tag, "Settings", JSON.stringify(decoded))
  return (decoded as { readonly values: SettingsValues }).values
}

const problems = (environment: Record<string, string>): ReadonlyArray<string> => {
  const decoded = decodeSettings(environment)
  return decoded._tag === "Problems" ? decoded.problems.map(describeProblem) : []
}

const SECRET = "0123456789abcdef0123456789abcdef"
const JWT = {
  AUTH: "jwt",
  CLUSTER_SECRET: SECRET,
  JWT_JWKS_URL: "https://id.example.com/keys",
  JWT_ISSUER: "https://id.example.com",
  JWT_AUDIENCE: "chat"
}

describe("settings", () => {
  it("refuse files of TLS where the address does not ask for TLS", () => {
    const engines = { MONGO_URL: "mongodb://a,b/chat", AMQP_URL: "amqp://a", REDIS_URL: "redis://a" }
    const tls = { MONGO_URL: "mongodb://a,b/chat?tls=true", AMQP_URL: "amqps://a", REDIS_URL: "rediss://a" }
    for (const engine of ["MONGO", "AMQP", "REDIS"] as const) {
      const file = { [`${engine}_TLS_CA_FILE`]: "ca.pem" }
      assert.match(
        problems({ ...engines, ...file }).join(),
        new RegExp(`^${engine}_URL is without TLS; allowed: an? .* is set$`)
      )
      assert.deepStrictEqual(problems({ ...engines, [`${engine}_URL`]: tls[`${engine}_URL`], ...file }), [])
    }
    assert.deepStrictEqual(problems({ ...engines, MONGO_URL: "mongodb+srv://a/chat", MONGO_TLS_CA_FILE: "ca.pem" }), [])
  })

  it("have defaults that start a server on a laptop", () => {
    const { port, host, dataDir, auth, partitions, limitPerSecond, limitBurst, limitInFlight, limitBodyChars } = values(
      {}
    )
    assert.deepStrictEqual(
      { port, host, dataDir, auth, partitions, limitPerSecond, limitBurst, limitInFlight, limitBodyChars },
      {
        port: 8080,
        host: "127.0.0.1",
        dataDir: "data",
        auth: "dev",
        partitions: 16,
        limitPerSecond: 50,
        limitBurst: 200,
        limitInFlight: 256,
        limitBodyChars: 16_000
      }
    )
  })

  it("that are empty count as not given", () => {
    assert.deepStrictEqual(values({ PORT: "", AUTH: "", CLUSTER_SECRET: "" }), values({}))
  })

  it("are all reported at once, each with its name, what was given and what is allowed", () => {
    assert.deepStrictEqual(problems({ PORT: "http", PARTITIONS: "0", LOG_LEVEL: "loud" }), [
      'PORT is "http"; allowed: a whole number from 0 to 65535',
      'PARTITIONS is "0"; allowed: a whole number from 1 to 256',
      'LOG_LEVEL is "loud"; allowed: trace, debug, info, warn, error, none'
    ])
  })

  const refused: ReadonlyArray<readonly [string, string]> = [
    ["PORT", "65536"],
    ["PORT", "-1"],
    ["PORT", "8080 "],
    ["PORT", "0x50"],
    ["PORT", "1e3"],
    ["HOST", "http://localhost"],
    ["PARTITIONS", "257"],
    ["AUTH", "none"],
    ["AUTH_DEV_PUBLIC", "yes"],
    ["CLUSTER_SECRET", "short"],
    ["ALLOWED_ORIGINS", "chat.example.com"],
    ["ALLOWED_ORIGINS", "https://a.example,https://b.example/path"],
    ["JWT_JWKS_URL", "http://id.example.com/keys"],
    ["JWT_JWKS_URL", "keys"],
    ["JWT_ALGORITHMS", "HS256"],
    ["JWT_ALGORITHMS", "RS256,none"],
    ["LIMIT_PER_SECOND", "0"],
    ["LIMIT_BODY_CHARS", "1000001"],
    ["LOG_FORMAT", "text"],
    ["DRAIN_SECONDS", "soon"]
  ]
  for (const [name, given] of refused) {
    it(`refuse ${name}=${JSON.stringify(given)}`, () => {
      const found = problems({ [name]: given })
      assert.strictEqual(found.length, 1, found.join("\n"))
      assert.include(found[0], name)
    })
  }

  it("take the bounds themselves", () => {
    assert.strictEqual(values({ PORT: "0" }).port, 0)
    assert.strictEqual(values({ PORT: "65535" }).port, 65_535)
    assert.strictEqual(values({ LIMIT_PER_SECOND: "1000000" }).limitPerSecond, 1_000_000)
    assert.deepStrictEqual(values({ ALLOWED_ORIGINS: "https://a.example, http://b.example:81" }).allowedOrigins, [
      "https://a.example",
      "http://b.example:81"
    ])
  })

  it("never show a secret", () => {
    const [problem] = problems({ CLUSTER_SECRET: "letmein" })
    assert.notInclude(problem, "letmein")
    const { clusterSecret } = values({ CLUSTER_SECRET: SECRET })
    assert.notInclude(`${JSON.stringify(clusterSecret)}${String(clusterSecret)}`, SECRET)
    assert.strictEqual(Redacted.value(clusterSecret!), SECRET)
  })

  it("keep AUTH=dev on loopback unless told otherwise", () => {
    for (const host of ["0.0.0.0", "::", "192.168.1.2", "chat.example.com", "127.0.0.1.example.com"]) {
      const [problem] = problems({ HOST: host })
      assert.include(problem, "HOST")
      assert.include(problem, "AUTH_DEV_PUBLIC=1")
      assert.strictEqual(values({ HOST: host, AUTH_DEV_PUBLIC: "1" }).host, host)
      assert.strictEqual(values({ ...JWT, HOST: host }).host, host)
    }
    for (const host of ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
      assert.strictEqual(values({ HOST: host }).host, host)
  })

  it("of AUTH=jwt need a secret, one source of keys, an issuer and an audience", () => {
    assert.deepStrictEqual(problems(JWT), [])
    for (const name of ["CLUSTER_SECRET", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE"] as const) {
      const { [name]: _, ...rest } = JWT
      assert.match(problems(rest)[0] ?? "", new RegExp(`^${name} is not set`))
    }
    assert.match(problems({ ...JWT, JWT_PUBLIC_KEY_FILE: "key.pem" })[0] ?? "", /exactly one/)
    assert.deepStrictEqual(problems({ ...JWT, JWT_JWKS_URL: "", JWT_PUBLIC_KEY_FILE: "key.pem" }), [])
  })

  it("name an identity provider only with AUTH=jwt, so that nobody is let in by mistake", () => {
    const { AUTH: _, ...rest } = JWT
    assert.strictEqual(problems(rest).length, 3)
  })

  it("warn of a body limit that no frame can hold", () => {
    assert.deepStrictEqual(settingsWarnings(values({})), [])
    assert.include(settingsWarnings(values({ LIMIT_BODY_CHARS: "70000" }))[0], "65536 bytes")
  })

  it("are all in the help and, as one table, in docs/operations.md", () => {
    const help = settingsHelp()
    for (const { name } of settingsRows()) assert.include(help, name)
    const doc = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8")
    const table = /<!-- settings -->\n([^]*?)\n<!-- \/settings -->/.exec(doc)?.[1]
    assert.strictEqual(table, settingsMarkdown())
  })
})
