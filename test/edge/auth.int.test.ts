import { createServer, type Server } from "node:http"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { exportJWK, exportPKCS8, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from "jose"
import { Auth } from "../../src/edge/auth/Auth.ts"
import { layerDev } from "../../src/edge/auth/AuthDev.ts"
import { type JwtOptions, layerJwt } from "../../src/edge/auth/AuthJwt.ts"
import { layerMemory } from "../../src/platform/RouterMemory.ts"

const issuer = "https://id.example.com/"
const audience = "darda"
const clusterSecret = Redacted.make("a secret of at least thirty-two characters")
const algorithms = ["RS256", "ES256", "EdDSA"]
const folder = mkdtempSync(join(tmpdir(), "darda-auth-"))
const now = () => Math.floor(Date.now() / 1000)
const good = (): JWTPayload => ({ sub: "ann", iss: issuer, aud: audience, exp: now() + 60 })

const rsa = await generateKeyPair("RS256", { extractable: true })
const other = await generateKeyPair("RS256", { extractable: true })
const spki = await exportSPKI(rsa.publicKey)
const write = (name: string, text: string): string => {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}
const publicKeyFile = write("rsa.pem", spki)
afterAll(() => rmSync(folder, { recursive: true }))

const sign = (payload: JWTPayload, key: CryptoKey | Uint8Array = rsa.privateKey, alg = "RS256", kid?: string) =>
  new SignJWT(payload).setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) }).sign(key)

const withFile: JwtOptions = { clusterSecret, publicKeyFile, issuer, audience, algorithms }
const run = <A, E>(layer: Layer.Layer<Auth, E>, use: (auth: Auth["Service"]) => Effect.Effect<A, unknown>) =>
  Effect.runPromise(Effect.provide(Effect.flatMap(Auth, use), layer))
const jwt = (options: JwtOptions) => Layer.provide(layerJwt(options), layerMemory("n1"))
const dev = Layer.provide(layerDev(clusterSecret), layerMemory("n1"))

/** Tokens that must be refused, and a word of the reason. */
const refused: ReadonlyArray<readonly [what: string, token: () => Promise<string> | string, says: RegExp]> = [
  ["an expired one", () => sign({ ...good(), exp: now() - 10 }), /expired/],
  ["one without exp", () => sign({ ...good(), exp: undefined as never }), /no exp/],
  ["one that is not good yet", () => sign({ ...good(), nbf: now() + 60 }), /nbf/],
  ["one for another audience", () => sign({ ...good(), aud: "mail" }), /aud/],
  ["one without audience", () => sign({ ...good(), aud: undefined as never }), /no aud/],
  ["one of another issuer", () => sign({ ...good(), iss: "https://evil.example.com/" }), /iss/],
  ["one without issuer", () => sign({ ...good(), iss: undefined as never }), /no iss/],
  ["one without sub", () => sign({ ...good(), sub: undefined as never }), /no sub/],
  ["a sub with a colon", () => sign({ ...good(), sub: "a:b" }), /sub is no user id/],
  ["an empty sub", () => sign({ ...good(), sub: "" }), /sub is no user id/],
  ["a sub that is too long", () => sign({ ...good(), sub: "u".repeat(129) }), /sub is no user id/],
  ["a sub that is a number", () => sign({ ...good(), sub: 5 as never }), /sub/],
  ["one that is not signed", () => new UnsecuredJWT(good()).encode(), /well-formed|algorithm/],
  ["HS256 with the public key as secret", () => sign(good(), new TextEncoder().encode(spki), "HS256"), /algorithm/],
  ["an algorithm that is not listed", () => sign(good(), rsa.privateKey, "RS512").catch(() => rs512()), /algorithm/],
  ["another key", () => sign(good(), other.privateKey), /signature/],
  ["a changed payload", async () => tamper(await sign(good())), /signature|well-formed/],
  ["a ticket's worth of text", () => "hello", /well-formed/],
  ["nothing", () => "", /well-formed/],
  ["dots", () => "..", /well-formed/],
  ["one that is too long", () => "x".repeat(20_000), /longer/],
  ["a token of AUTH=dev", () => run(dev, (auth) => auth.issueDev("ann")).then(({ token }) => token), /algorithm/]
]

const rs512 = async () => sign(good(), (await generateKeyPair("RS512")).privateKey, "RS512")
const tamper = (token: string): string => {
  const [head, payload, signature] = token.split(".")
  const claims = JSON.parse(Buffer.from(payload!, "base64url").toString()) as object
  return [head, Buffer.from(JSON.stringify({ ...claims, sub: "bob" })).toString("base64url"), signature].join(".")
}

describe("tokens of an identity provider", () => {
  it("are accepted until they expire", async () => {
    const exp = now() + 60
    const token = await sign({ ...good(), aud: ["mail", audience], exp })
    assert.deepStrictEqual(await run(jwt(withFile), (auth) => auth.verify(token)), {
      user: "ann",
      expiresAt: exp * 1000
    })
  })
  it("may be off by the clocks' difference", async () => {
    const token = await sign({ ...good(), exp: now() - 2 })
    assert.strictEqual((await run(jwt(withFile), (auth) => auth.verify(token))).user, "ann")
  })
  it.each(refused)("are refused: %s", async (_what, make, says) => {
    const token = await make()
    const error = await run(jwt(withFile), (auth) => Effect.flip(auth.verify(token)))
    assert.strictEqual(error._tag, "Unauthorized")
    assert.match(error.message, says)
    if (token.length > 5) assert.notInclude(error.message, token.slice(0, 20))
  })
  it("cannot be made here", async () => {
    assert.match((await run(jwt(withFile), (auth) => Effect.flip(auth.issueDev("ann")))).message, /identity provider/)
  })
})

describe("published keys", () => {
  let server: Server
  let url: string
  let keys: ReadonlyArray<object>
  let answers = 0
  let status = 200
  beforeAll(async () => {
    keys = [{ ...(await exportJWK(rsa.publicKey)), kid: "one", alg: "RS256", use: "sig" }]
    server = createServer((_request, response) => {
      answers++
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ keys }))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
  })
  afterAll(() => void server.close())
  const remote = (): JwtOptions => ({ clusterSecret, jwksUrl: url, issuer, audience, algorithms })

  it("are read once for many tokens, and not again for made-up key ids", async () => {
    answers = 0
    await run(jwt(remote()), (auth) =>
      Effect.gen(function* () {
        for (let i = 0; i < 3; i++) {
          const token = yield* Effect.promise(() => sign(good(), rsa.privateKey, "RS256", "one"))
          assert.strictEqual((yield* auth.verify(token)).user, "ann")
          const unknown = yield* Effect.promise(() => sign(good(), other.privateKey, "RS256", `made-up-${i}`))
          assert.match((yield* Effect.flip(auth.verify(unknown))).message, /does not publish/)
        }
      })
    )
    assert.strictEqual(answers, 1)
  })
  it("that cannot be read refuse every token, and are not asked for by each of them", async () => {
    answers = 0
    status = 503
    const token = await sign(good(), rsa.privateKey, "RS256", "one")
    await run(jwt(remote()), (auth) =>
      Effect.gen(function* () {
        for (let i = 0; i < 5; i++) assert.match((yield* Effect.flip(auth.verify(token))).message, /cannot be read/)
      })
    )
    status = 200
    assert.strictEqual(answers, 1)
  })
  it("with a shared key among them let nobody in", async () => {
    const shared = new TextEncoder().encode("a shared key of at least thirty-two bytes")
    const before = keys
    keys = [{ kty: "oct", kid: "one", k: Buffer.from(shared).toString("base64url") }]
    const token = await sign(good(), shared, "HS256", "one")
    const error = await run(jwt(remote()), (auth) => Effect.flip(auth.verify(token)))
    keys = before
    assert.match(error.message, /algorithm/)
  })
})

describe("AUTH=jwt does not start", () => {
  const start = (options: Partial<JwtOptions>) =>
    Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(jwt({ ...withFile, ...options })))))
  it("without a key file", async () => {
    assert.match((await start({ publicKeyFile: join(folder, "none.pem") })).message, /does not exist/)
  })
  it("with a file that holds no key", async () => {
    assert.match((await start({ publicKeyFile: write("no.pem", "hello") })).message, /no public key/)
  })
  it("with a key that fits no algorithm", async () => {
    assert.match((await start({ algorithms: ["ES256"] })).message, /verifies none/)
  })
  it("with both sources of keys", async () => {
    assert.match((await start({ jwksUrl: "https://id.example.com/jwks" })).message, /exactly one/)
  })
  it.each([["none"], ["HS256"]])("with the algorithm %s", async (name) => {
    assert.match((await start({ algorithms: ["RS256", name] })).message, /public-key/)
  })
  it("but reads the public part of a private key", async () => {
    const file = write("private.pem", await exportPKCS8(rsa.privateKey))
    const token = await sign(good())
    assert.strictEqual((await run(jwt({ ...withFile, publicKeyFile: file }), (auth) => auth.verify(token))).user, "ann")
  })
})

describe("tickets", () => {
  const both = (check: (auth: Auth["Service"]) => Effect.Effect<void, unknown>) =>
    Promise.all([run(dev, check), run(jwt(withFile), check)])
  it("are good once, and last as long as the token that they stand for", () =>
    both((auth) =>
      Effect.gen(function* () {
        const { expiresAt, ticket } = yield* auth.issueTicket("ann", 1_234_567_890_123)
        assert.approximately(expiresAt, Date.now() + 30_000, 5_000)
        assert.deepStrictEqual(yield* auth.redeemTicket(ticket), { user: "ann", expiresAt: 1_234_567_890_123 })
        assert.match((yield* Effect.flip(auth.redeemTicket(ticket))).message, /used before/)
      })
    ))
  it("are given to one of many who come at once", () =>
    both((auth) =>
      Effect.gen(function* () {
        const { ticket } = yield* auth.issueTicket("ann", Date.now() + 60_000)
        const all = yield* Effect.all(
          Array.from({ length: 20 }, () => Effect.exit(auth.redeemTicket(ticket))),
          {
            concurrency: "unbounded"
          }
        )
        assert.strictEqual(all.filter((exit) => exit._tag === "Success").length, 1)
      })
    ))
  it("are no tokens, and tokens no tickets", () =>
    run(dev, (auth) =>
      Effect.gen(function* () {
        const { ticket } = yield* auth.issueTicket("ann", Date.now() + 60_000)
        assert.match((yield* Effect.flip(auth.verify(ticket))).message, /aud/)
        const { token } = yield* auth.issueDev("ann")
        assert.strictEqual((yield* Effect.flip(auth.redeemTicket(token)))._tag, "Unauthorized")
      })
    ))
  it("are good for 30 s", () =>
    both((auth) =>
      Effect.gen(function* () {
        const { ticket } = yield* auth.issueTicket("ann", Date.now() + 60_000)
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* auth.redeemTicket(ticket)).user, "ann")
        const late = yield* auth.issueTicket("ann", Date.now() + 60_000)
        yield* TestClock.adjust("30 seconds")
        assert.match((yield* Effect.flip(auth.redeemTicket(late.ticket))).message, /expired/)
      }).pipe(Effect.provide(TestClock.layer()))
    ))
  it("of a clock that is far ahead are refused: that they were used would be forgotten while they are good", () =>
    both((auth) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("1 hour")
        const { ticket } = yield* auth.issueTicket("ann", Date.now() + 60_000)
        yield* TestClock.setTime(0)
        assert.match((yield* Effect.flip(auth.redeemTicket(ticket))).message, /not one of this server/)
      }).pipe(Effect.provide(TestClock.layer()))
    ))
  it("of another cluster are refused", async () => {
    const foreign = Layer.provide(layerDev(Redacted.make("another secret of thirty-two characters")), layerMemory("n1"))
    const { ticket } = await run(foreign, (auth) => auth.issueTicket("ann", Date.now() + 60_000))
    await both((auth) => Effect.asVoid(Effect.flip(auth.redeemTicket(ticket))))
  })
})

describe("tokens of AUTH=dev", () => {
  it("are for whoever asks", () =>
    run(dev, (auth) =>
      Effect.gen(function* () {
        const { expiresAt, token } = yield* auth.issueDev("ann")
        assert.deepStrictEqual(yield* auth.verify(token), { user: "ann", expiresAt })
        assert.approximately(expiresAt, Date.now() + 86_400_000, 5_000)
      })
    ))
  it("are only for users", async () => {
    assert.strictEqual((await run(dev, (auth) => Effect.flip(auth.issueDev("a:b"))))._tag, "Unauthorized")
  })
})
