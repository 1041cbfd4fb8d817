import { afterAll, afterEach, assert, beforeAll, describe, it } from "@effect/vitest"
import { MongoClient } from "mongodb"
import { mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { freePort } from "../../scripts/services/ports.ts"
import { darda } from "../cli/darda.ts"
import { type Authority, makeAuthority, type Pem, removeAuthority } from "../support/certificates.ts"
import { startInVain, untilReadyz, untilSays, withRoles } from "../support/operator.ts"
import {
  type PrivateEngine,
  type PrivateMongo,
  privateMongo,
  type PrivateRabbit,
  privateRabbit,
  privateRedis
} from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"
import { say, talk } from "../support/talk.ts"

/** Hard to read over in any output; with what has to be encoded in a URL. */
const PASSWORD = "hunter2:secret/with@everything"
const WRONG = "hunter2-was-wrong"
const encoded = encodeURIComponent(PASSWORD)
const DATABASE = "chat"

let folder: string
let authority: Authority
let stranger: Authority
let client: Pem
let mongo: PrivateMongo
let rabbit: PrivateRabbit
let redis: PrivateEngine
/** Settings by which everything works. */
let good: Readonly<Record<string, string>>

const files = (engine: string, caFile: string): Readonly<Record<string, string>> => ({
  [`${engine}_TLS_CA_FILE`]: caFile,
  [`${engine}_TLS_CERT_FILE`]: client.certFile,
  [`${engine}_TLS_KEY_FILE`]: client.keyFile
})
const ofAll = (make: (engine: string) => Readonly<Record<string, string>>): Readonly<Record<string, string>> => ({
  ...make("MONGO"),
  ...make("AMQP"),
  ...make("REDIS")
})

const mongoUrl = (user: string, password: string): string =>
  `mongodb://${user}:${password}@localhost:${mongo.port}/${DATABASE}?replicaSet=rs0&directConnection=false&tls=true&authSource=admin`

/** A MongoDB that asks for logins and, of those who speak TLS, for certificates. Users are made while it asks nobody for anything. */
const startMongo = async (server: Pem): Promise<PrivateMongo> => {
  const args: Array<string> = []
  const started = await privateMongo({ args })
  const asRoot = new MongoClient(started.url)
  const admin = asRoot.db("admin")
  await admin.command({ createUser: "darda", pwd: PASSWORD, roles: [{ role: "readWrite", db: DATABASE }] })
  await admin.command({ createUser: "reader", pwd: PASSWORD, roles: [{ role: "read", db: DATABASE }] })
  await asRoot.close()
  const keyFile = join(folder, "mongo.key")
  writeFileSync(keyFile, "members of a set know each other by this", { mode: 0o600 })
  args.push("--keyFile", keyFile, "--tlsMode", "preferTLS")
  args.push("--tlsCertificateKeyFile", server.bothFile, "--tlsCAFile", authority.certFile)
  await started.restart()
  return started
}

const startRabbit = async (server: Pem, port: number): Promise<PrivateRabbit> => {
  const started = await privateRabbit({
    args: [
      `listeners.ssl.1 = 127.0.0.1:${port}`,
      `ssl_options.cacertfile = ${authority.certFile}`,
      `ssl_options.certfile = ${server.certFile}`,
      `ssl_options.keyfile = ${server.keyFile}`,
      "ssl_options.verify = verify_peer",
      "ssl_options.fail_if_no_peer_cert = true"
    ]
  })
  await started.ctl("add_user", "darda", PASSWORD)
  await started.ctl("set_permissions", "-p", "/", "darda", "^darda\\..*", "^darda\\..*|^amq\\.default$", "^darda\\..*")
  return started
}

const startRedis = (server: Pem, port: number): Promise<PrivateEngine> =>
  privateRedis({
    args: [
      ...["--tls-port", `${port}`, "--tls-ca-cert-file", authority.certFile, "--tls-auth-clients", "yes"],
      ...["--tls-cert-file", server.certFile, "--tls-key-file", server.keyFile],
      ...["--requirepass", PASSWORD]
    ]
  })

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "darda-tls-"))
  authority = await makeAuthority(folder, "ours")
  stranger = await makeAuthority(folder, "stranger")
  client = authority.certificate("client")
  const server = authority.certificate("server")
  const [amqps, rediss] = [await freePort(), await freePort()]
  ;[mongo, rabbit, redis] = await Promise.all([
    startMongo(server),
    startRabbit(server, amqps),
    startRedis(server, rediss)
  ])
  good = {
    MONGO_URL: mongoUrl("darda", encoded),
    AMQP_URL: `amqps://darda:${encoded}@localhost:${amqps}`,
    REDIS_URL: `rediss://default:${encoded}@localhost:${rediss}`,
    CLUSTER_SECRET: "the secret of a cluster that only tests know",
    ...ofAll((engine) => files(engine, authority.certFile))
  }
})
afterAll(async () => {
  await Promise.all([mongo?.dispose(), rabbit?.dispose(), redis?.dispose()])
  removeAuthority(folder)
})

const running = new Set<DardaProcess>()
afterEach(async () => {
  await Promise.all([...running].map((one) => one.dispose()))
  for (const { output } of running) noSecretIn(output)
  running.clear()
})
const make = async (env: Readonly<Record<string, string>>): Promise<DardaProcess> => {
  const one = await withRoles("edge,write,read", { LOG_LEVEL: "debug", ...env })
  running.add(one)
  return one
}
const noSecretIn = (text: string): void => {
  for (const secret of [PASSWORD, encoded, WRONG, "hunter2"]) assert.notInclude(text, secret)
}

const without = (...names: ReadonlyArray<string>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(good).filter(([name]) => !names.includes(name)))

/** What the doctor finds in the way of a start. */
const doctor = async (env: Readonly<Record<string, string>>): Promise<ReadonlyArray<string>> => {
  const { code, stderr, stdout } = await darda(["doctor"], { PORT: "0", ...env }).ended
  noSecretIn(stdout + stderr)
  const wrong = stdout.split("\n").filter((line) => line.startsWith("✗"))
  assert.strictEqual(code, wrong.length > 0 ? 1 : 0, stdout)
  return wrong
}

/** That a start ends with these lines, and in no other way. */
const refused = async (env: Readonly<Record<string, string>>, ...says: ReadonlyArray<RegExp>): Promise<void> => {
  const { code, said } = await startInVain(await make(env))
  assert.deepStrictEqual([code, said.length], [1, says.length], said.join("\n"))
  says.forEach((one, index) => assert.match(said[index]!, one))
}

const talks = async ({ url }: DardaProcess): Promise<void> => {
  const [ann, ben] = await Promise.all([talk(url, "ann"), talk(url, "ben")])
  const { seq } = await say(ann, { to: "ben" }, "over TLS")
  await ben.got("event", (frame) => frame["seq"] === seq)
  await Promise.all([ann.leave(), ben.leave()])
}

describe("engines that ask for TLS, certificates and logins", () => {
  it("are spoken to as their settings say, also by whoever takes over", async () => {
    for (let start = 0; start < 2; start++) {
      const one = await make(good)
      await one.start()
      await talks(one)
      assert.strictEqual(await one.stop(), 0, one.output)
    }
    assert.deepStrictEqual(await doctor(good), [])
  })

  it("a certificate that comes from another authority is refused, and the setting is named", async () => {
    const env = { ...good, ...ofAll((engine) => files(engine, stranger.certFile)) }
    const untrusted = (engine: string): RegExp =>
      new RegExp(`certificate does not come from an authority that is trusted here.*: ${engine}_TLS_CA_FILE must name`)
    await refused(env, untrusted("MONGO"))
    const others = await make({ ...env, ...files("MONGO", authority.certFile) })
    await others.start()
    await untilReadyz(others, 503, untrusted("AMQP"))
    await untilReadyz(others, 503, untrusted("REDIS"))
    const wrong = await doctor(env)
    assert.lengthOf(wrong, 3, wrong.join("\n"))
    for (const engine of ["MONGO", "AMQP", "REDIS"]) assert.match(wrong.join("\n"), untrusted(engine))
  })

  it("*_TLS_VERIFY=false takes any certificate, and warns of it", async () => {
    const one = await make({
      ...good,
      ...ofAll((engine) => ({ ...files(engine, stranger.certFile), [`${engine}_TLS_VERIFY`]: "false" }))
    })
    await one.start()
    await talks(one)
    for (const engine of ["MONGO", "AMQP", "REDIS"])
      assert.match(one.output, new RegExp(`warn +${engine}_TLS_VERIFY=false: whoever is on the way`))
  })

  it("without the certificate that they ask for it is said that one is missing", async () => {
    const env = without(
      ...["MONGO", "AMQP", "REDIS"].flatMap((engine) => [`${engine}_TLS_CERT_FILE`, `${engine}_TLS_KEY_FILE`])
    )
    const missing = (engine: string): RegExp =>
      new RegExp(`it (refuses the certificate of this process|ended the connection).*${engine}_TLS_CERT_FILE and`)
    const wrong = await doctor(env)
    assert.lengthOf(wrong, 3, wrong.join("\n"))
    for (const engine of ["MONGO", "AMQP", "REDIS"]) assert.match(wrong.join("\n"), missing(engine), wrong.join("\n"))
    const one = await make(env)
    const start = one.start().catch(() => {})
    await untilSays(one, missing("MONGO"))
    await one.kill9()
    await start
  })

  it("files that cannot be used end the start, each in one line", async () => {
    const empty = join(folder, "empty.pem")
    writeFileSync(empty, "nothing")
    const env = {
      ...good,
      MONGO_TLS_CA_FILE: "/nowhere/ca.pem",
      AMQP_TLS_KEY_FILE: stranger.keyFile,
      REDIS_TLS_CERT_FILE: empty
    }
    const says = [
      /^darda: MONGO_TLS_CA_FILE cannot be used: .*\/nowhere\/ca\.pem.*ENOENT/,
      /^darda: AMQP_TLS_KEY_FILE is not the key of AMQP_TLS_CERT_FILE: /,
      /^darda: REDIS_TLS_CERT_FILE cannot be used: /
    ]
    await refused(env, ...says)
    assert.lengthOf(await doctor(env), 3)
  })

  it("wrong passwords and missing rights are said without them", async () => {
    const wrongUrls = {
      AMQP_URL: good["AMQP_URL"]!.replace(encoded, WRONG),
      REDIS_URL: good["REDIS_URL"]!.replace(encoded, WRONG)
    }
    await refused({ ...good, MONGO_URL: mongoUrl("darda", WRONG) }, /MongoDB at .*: Authentication failed/)
    await refused(
      { ...good, MONGO_URL: mongoUrl("reader", encoded).replace("/chat", "/other") },
      /needs the role readWrite/
    )
    const one = await make({ ...good, ...wrongUrls })
    await one.start()
    await untilReadyz(one, 503, /RabbitMQ did not take a connection: .*ACCESS.REFUSED/)
    await untilReadyz(one, 503, /no connection to Redis .*WRONGPASS/)
    const wrong = await doctor({
      ...wrongUrls,
      ...without("AMQP_URL", "REDIS_URL"),
      MONGO_URL: mongoUrl("reader", encoded)
    })
    assert.lengthOf(wrong, 3, wrong.join("\n"))
    assert.match(
      wrong.join("\n"),
      /may not insert, update, remove, createCollection, createIndex in the database chat: grant it/
    )
    assert.match(wrong.join("\n"), /RabbitMQ at amqps:\/\/localhost:\d+: .*ACCESS_REFUSED/)
    assert.match(wrong.join("\n"), /Redis at rediss:\/\/localhost:\d+: WRONGPASS/)
  })
})
