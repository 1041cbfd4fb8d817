/** What those who use HTTP only, and those who run the server, rely on. */
import { generateKeyPairSync, type KeyObject } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { SignJWT } from "jose"
import { type RunningServer, startServer } from "../support/server.ts"
import { devToken, greet, openRaw } from "../support/ws.ts"

const ORIGIN = "https://chat.example.com"
let server: RunningServer
beforeAll(async () => {
  server = await startServer({ env: { ALLOWED_ORIGINS: `${ORIGIN},https://other.example.com` } })
})
afterAll(() => server.dispose())

type Json = Record<string, unknown>

/** A user with a token. */
const userOf = async (user: string, url = server.url) => {
  const authorization = `Bearer ${await devToken(url, user)}`
  const read = async (answer: Response) => ({ status: answer.status, body: (await answer.json()) as Json })
  return {
    get: async (path: string) => read(await fetch(url + path, { headers: { authorization } })),
    post: async (path: string, body: object = {}) =>
      read(
        await fetch(url + path, {
          method: "POST",
          headers: { authorization, "content-type": "application/json" },
          body: JSON.stringify(body)
        })
      )
  }
}

const bodies = (page: Json): ReadonlyArray<unknown> => (page["messages"] as ReadonlyArray<Json>).map(({ body }) => body)

describe("conversations", () => {
  it("are made once, and a repeat answers the same with 200", async () => {
    const ann = await userOf("made-ann")
    const group = { cid: "g1", members: ["made-bob", "made-cy"], title: "Plans" }
    const made = await ann.post("/v1/conversations", group)
    assert.strictEqual(made.status, 201)
    assert.match(String(made.body["conv"]), /^g:[0-9a-f-]{36}$/)
    assert.hasAllKeys(made.body, ["conv", "seq", "at"])
    assert.deepStrictEqual(await ann.post("/v1/conversations", { ...group, members: ["made-cy", "made-bob"] }), {
      status: 200,
      body: made.body
    })
    assert.strictEqual((await ann.post("/v1/conversations", { ...group, title: "Other" })).status, 409)
  })

  it("hold what is sent, once for each cid, and show it in pages", async () => {
    const [ann, bob] = await Promise.all([userOf("sent-ann"), userOf("sent-bob")])
    const path = "/v1/conversations/dm:sent-ann:sent-bob/messages"
    assert.deepInclude((await bob.get(path)).body, { messages: [], head: 0, more: false })
    for (let i = 1; i <= 5; i++) {
      const sent = await ann.post(path, { cid: `c${i}`, body: `message ${i}` })
      assert.strictEqual(sent.status, 201)
      assert.strictEqual(sent.body["seq"], i)
    }
    const again = await ann.post(path, { cid: "c3", body: "message 3" })
    assert.strictEqual(again.status, 200)
    assert.strictEqual(again.body["seq"], 3)
    assert.hasAllKeys(again.body, ["seq", "at"])
    assert.strictEqual(
      (await bob.post(path, { cid: "c3", body: "of another", kind: "note", replyTo: 3 })).body["seq"],
      6
    )

    const newest = await bob.get(`${path}?limit=2`)
    assert.deepStrictEqual(bodies(newest.body), ["message 5", "of another"])
    assert.strictEqual(newest.body["more"], true)
    assert.strictEqual(newest.body["head"], 6)
    const [last] = (newest.body["messages"] as ReadonlyArray<Json>).slice(-1)
    assert.deepInclude(last, { seq: 6, by: "sent-bob", kind: "note", replyTo: 3, cid: "c3" })
    assert.deepStrictEqual(bodies((await bob.get(`${path}?before=3`)).body), ["message 1", "message 2"])
    assert.deepStrictEqual(bodies((await bob.get(`${path}?after=0&limit=1`)).body), ["message 1"])
    assert.deepStrictEqual(bodies((await bob.get(`${path}?after=4`)).body), ["message 5", "of another"])
    assert.include(bodies((await bob.get(`${path}?around=3&limit=3`)).body), "message 3")
  })

  it("are listed with what is unread, page by page", async () => {
    const [ann, bob] = await Promise.all([userOf("list-ann"), userOf("list-bob")])
    for (const other of ["list-bob", "list-cy", "list-dee"]) {
      const conv = ["list-ann", other].sort().join(":")
      await ann.post(`/v1/conversations/dm:${conv}/messages`, { cid: "c1", body: `to ${other}` })
    }
    const first = (await ann.get("/v1/conversations?limit=2")).body
    const second = (await ann.get(`/v1/conversations?limit=2&after=${encodeURIComponent(String(first["next"]))}`)).body
    const items = [first, second].flatMap((page) => page["items"] as ReadonlyArray<Json>)
    assert.deepStrictEqual(
      items.map(({ conv }) => conv),
      ["dm:list-ann:list-dee", "dm:list-ann:list-cy", "dm:list-ann:list-bob"]
    )
    assert.notProperty(second, "next")
    const [item] = (await bob.get("/v1/conversations")).body["items"] as ReadonlyArray<Json>
    assert.deepInclude(item, { conv: "dm:list-ann:list-bob", kind: "dm", head: 1, seen: 0, unread: 1 })
  })

  it("list their members page by page, to members only", async () => {
    const ann = await userOf("who-ann")
    const { body } = await ann.post("/v1/conversations", { cid: "g", members: ["who-cy", "who-bob"] })
    const path = `/v1/conversations/${String(body["conv"])}/members`
    const first = (await ann.get(`${path}?limit=2`)).body
    const second = (await ann.get(`${path}?after=${String(first["next"])}`)).body
    const members = [first, second].flatMap((page) => page["members"] as ReadonlyArray<Json>)
    assert.deepStrictEqual(
      members.map(({ admin, user }) => [user, admin]),
      [
        ["who-ann", true],
        ["who-bob", false],
        ["who-cy", false]
      ]
    )
    assert.strictEqual((await (await userOf("who-dee")).get(path)).status, 404)
  })

  it("may have every character of a user id in their path", async () => {
    const me = "a.b@c|d+e=f~g_h-1"
    const ann = await userOf(me)
    const conv = encodeURIComponent(`dm:${me}:${me}`)
    assert.strictEqual(
      (await ann.post(`/v1/conversations/${conv}/messages`, { cid: "c", body: "note to self" })).status,
      201
    )
    assert.deepStrictEqual(bodies((await ann.get(`/v1/conversations/${conv}/messages`)).body), ["note to self"])
    const { body } = await ann.get(`/v1/presence?users=${encodeURIComponent(me)},nobody`)
    assert.hasAllKeys(body["users"] as Json, [me, "nobody"])
  })

  it("are one with those of WebSockets, and a read after an answer includes what was answered", async () => {
    const [ann, bob] = await Promise.all([userOf("both-ann"), greet(server.url, "both-bob")])
    const path = "/v1/conversations/dm:both-ann:both-bob/messages"
    await ann.post(path, { cid: "c1", body: "over HTTP" })
    const event = await bob.next("event", ({ t }) => t === "event")
    assert.deepInclude(event, { conv: "dm:both-ann:both-bob", seq: 1, by: "both-ann", cid: "c1" })
    for (let i = 0; i < 20; i++) {
      bob.send({ t: "send", cid: `w${i}`, to: "both-ann", body: `over WebSocket ${i}` })
      await bob.next("ack", ({ cid, t }) => t === "ack" && cid === `w${i}`)
      assert.strictEqual(bodies((await ann.get(`${path}?limit=1`)).body)[0], `over WebSocket ${i}`)
    }
    assert.deepStrictEqual((await ann.get("/v1/presence?users=both-bob")).body, {
      users: { "both-bob": { online: true } }
    })
    bob.close()
  })
})

describe("tickets", () => {
  it("are good for one hello", async () => {
    const ann = await userOf("ticket-ann")
    const { body, status } = await ann.post("/v1/tickets")
    assert.strictEqual(status, 200)
    assert.approximately(Number(body["expiresAt"]) - Date.now(), 30_000, 10_000)
    const hello = { t: "hello", v: 1, ticket: body["ticket"], device: "d" }
    const [first, second] = await Promise.all([openRaw(server.url), openRaw(server.url)])
    first.send(hello)
    assert.strictEqual((await first.next("welcome", ({ t }) => t === "welcome"))["user"], "ticket-ann")
    second.send(hello)
    assert.strictEqual((await second.closed()).code, 4500)
    first.close()
  })
})

describe("pages of other origins", () => {
  const ask = (path: string, origin: string, method = "OPTIONS") =>
    fetch(server.url + path, { method, headers: { origin, "access-control-request-method": "POST" } })

  it("may use the API when they are listed", async () => {
    const answer = await ask("/v1/conversations", ORIGIN)
    assert.strictEqual(answer.status, 204)
    assert.strictEqual(answer.headers.get("access-control-allow-origin"), ORIGIN)
    assert.match(answer.headers.get("access-control-allow-headers") ?? "", /authorization/i)
    assert.match(answer.headers.get("access-control-allow-headers") ?? "", /content-type/i)
    assert.match(answer.headers.get("access-control-allow-methods") ?? "", /POST/)
    assert.match(answer.headers.get("vary") ?? "", /origin/i)
    const refused = await ask("/v1/conversations", ORIGIN, "GET")
    assert.strictEqual(refused.status, 401)
    assert.strictEqual(refused.headers.get("access-control-allow-origin"), ORIGIN, "or pages could not read why")
  })

  const others: ReadonlyArray<readonly [path: string, origin: string]> = [
    ["/v1/conversations", "https://evil.example.com"],
    ["/v1/conversations", "null"],
    ["/v1/conversations", "http://chat.example.com"],
    ["/v1/conversations", "https://chat.example.com.evil.example"],
    ["/metrics", ORIGIN],
    ["/healthz", ORIGIN]
  ]
  it.each(others)("may not read %s from %s", async (path, origin) => {
    for (const method of ["OPTIONS", "GET"]) {
      assert.isNull((await ask(path, origin, method)).headers.get("access-control-allow-origin"), method)
    }
  })
})

describe("the web app", () => {
  it("is a page that loads nothing from elsewhere and may not be framed", async () => {
    const page = await fetch(server.url)
    assert.strictEqual(page.status, 200)
    assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
    assert.strictEqual(page.headers.get("cache-control"), "no-cache")
    assert.strictEqual(page.headers.get("x-content-type-options"), "nosniff")
    assert.isNotEmpty(page.headers.get("referrer-policy"))
    const policy = page.headers.get("content-security-policy") ?? ""
    assert.include(policy, "default-src 'self'")
    assert.include(policy, "frame-ancestors 'none'")
    assert.notMatch(policy, /unsafe|https?:|\*/)
    const tag = page.headers.get("etag") ?? ""
    assert.strictEqual((await fetch(server.url, { headers: { "if-none-match": tag } })).status, 304)
  })

  it("has files that may be kept for ever, because their names change with them", async () => {
    const [script] = /\/assets\/[^"]+\.js/.exec(await (await fetch(server.url)).text()) ?? assert.fail("no script")
    const file = await fetch(server.url + script)
    assert.strictEqual(file.status, 200)
    assert.match(file.headers.get("content-type") ?? "", /^text\/javascript/)
    assert.match(file.headers.get("cache-control") ?? "", /immutable/)
  })

  it("answers HEAD like GET, without the body", async () => {
    for (const path of ["/", "/healthz"]) {
      const [head, get] = await Promise.all([fetch(server.url + path, { method: "HEAD" }), fetch(server.url + path)])
      assert.strictEqual(head.status, 200, path)
      assert.strictEqual(await head.text(), "")
      assert.strictEqual(head.headers.get("content-type"), get.headers.get("content-type"))
    }
  })
})

describe("the description", () => {
  const documentOf = async (url: string) =>
    (await (await fetch(`${url}/openapi.json`)).json()) as {
      readonly openapi: string
      readonly paths: Readonly<
        Record<string, Readonly<Record<string, { readonly responses: object; readonly security?: object }>>>
      >
    }

  it("has every route and its refusals", async () => {
    const { openapi, paths } = await documentOf(server.url)
    assert.match(openapi, /^3\.1/)
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`)
    )
    assert.includeMembers(routes, [
      "post /v1/auth/dev",
      "post /v1/tickets",
      "get /v1/conversations",
      "post /v1/conversations",
      "get /v1/conversations/{conv}/messages",
      "post /v1/conversations/{conv}/messages",
      "get /v1/conversations/{conv}/members",
      "get /v1/presence"
    ])
    const send = paths["/v1/conversations/{conv}/messages"]?.["post"]
    assert.includeMembers(Object.keys(send?.responses ?? {}), [
      "200",
      "201",
      "400",
      "401",
      "404",
      "409",
      "413",
      "429",
      "503"
    ])
    assert.isNotEmpty(send?.security)
  })

  it("has a page that asks no other host for anything", async () => {
    const page = await fetch(`${server.url}/docs`)
    assert.strictEqual(page.status, 200)
    assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
    const policy = page.headers.get("content-security-policy") ?? ""
    assert.include(policy, "default-src 'none'")
    assert.include(policy, "frame-ancestors 'none'")
    assert.notMatch(policy, /https?:|\*/, "what the page may load is here, or is not loaded")
    const head = (await page.text()).replace(/<script>[\s\S]*?<\/script>/g, "")
    assert.notMatch(head, /(?:src|href)="(?:https?:)?\/\//)
  })
})

describe("those who run it", () => {
  it("see that it is alive and ready", async () => {
    assert.strictEqual((await fetch(`${server.url}/healthz`)).status, 200)
    assert.strictEqual((await fetch(`${server.url}/readyz`)).status, 200)
  })

  it("read metrics that name nobody", async () => {
    const ann = await userOf("metrics-ann")
    await ann.post("/v1/conversations/dm:metrics-ann:metrics-bob/messages", { cid: "c", body: "counted" })
    let events = 0
    for (const url of server.processes()) {
      const answer = await fetch(`${url}/metrics`)
      assert.match(answer.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/)
      const text = await answer.text()
      for (const line of text.trimEnd().split("\n")) {
        assert.match(
          line,
          /^(?:# (?:HELP|TYPE) .+|[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^{}]*\})? (?:-?[0-9.e+-]+|\+Inf|NaN))$/
        )
      }
      events += Number(/^darda_events_total (\d+)$/m.exec(text)?.[1] ?? 0)
      assert.notInclude(text, "metrics-")
    }
    assert.isAtLeast(events, 1)
  })

  it("see 503 while it drains", async () => {
    await using draining = await startServer({ env: { DRAIN_SECONDS: "10" } })
    const client = await greet(draining.url, "ann")
    // A peer that does not read keeps the drain going until its time is up.
    client.socket.pause()
    process.kill(draining.pid!, "SIGTERM")
    const deadline = Date.now() + 10_000
    let status = 200
    while (status === 200 && Date.now() < deadline) {
      const answer = await fetch(`${draining.url}/readyz`)
      status = answer.status
      if (status === 503) {
        const problem = (await answer.json()) as Json
        assert.strictEqual(problem["code"], "unavailable")
        assert.match(String(problem["detail"]), /drain|going away/)
        assert.isNotEmpty(answer.headers.get("retry-after"))
      }
    }
    assert.strictEqual(status, 503)
    client.socket.terminate()
  })
})

describe("a user who asks too often", () => {
  it("is told how long to wait, and is alone in that", async () => {
    await using limited = await startServer({ env: { LIMIT_PER_SECOND: "1", LIMIT_BURST: "3" } })
    const authorization = `Bearer ${await devToken(limited.url, "ann")}`
    const ask = () => fetch(`${limited.url}/v1/presence?users=ann`, { headers: { authorization } })
    const answers = await Promise.all(Array.from({ length: 8 }, ask))
    const refused = answers.filter(({ status }) => status === 429)
    assert.isAtLeast(refused.length, 4)
    assert.isAtLeast(answers.filter(({ status }) => status === 200).length, 3)
    const problem = (await refused[0]!.json()) as { readonly code: string; readonly retryAfterMs: number }
    assert.strictEqual(problem.code, "rate_limited")
    assert.isAbove(problem.retryAfterMs, 0)
    assert.isAtMost(problem.retryAfterMs, 1_000)
    assert.strictEqual(refused[0]!.headers.get("retry-after"), "1")

    const bob = await userOf("bob", limited.url)
    assert.strictEqual((await bob.get("/v1/presence?users=ann")).status, 200)
    const deadline = Date.now() + 10_000
    let status = 429
    while (status === 429 && Date.now() < deadline) status = (await ask()).status
    assert.strictEqual(status, 200)
  })
})

describe("AUTH=jwt", () => {
  const folder = mkdtempSync(join(tmpdir(), "darda-keys-"))
  const { privateKey, publicKey }: Record<"privateKey" | "publicKey", KeyObject> = generateKeyPairSync("rsa", {
    modulusLength: 2048
  })
  const file = join(folder, "public.pem")
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("takes the provider's tokens, makes none itself, and has nothing that is for AUTH=dev", async () => {
    writeFileSync(file, publicKey.export({ type: "spki", format: "pem" }))
    await using jwt = await startServer({
      env: {
        AUTH: "jwt",
        CLUSTER_SECRET: "a secret of at least 32 characters",
        JWT_PUBLIC_KEY_FILE: file,
        JWT_ISSUER: "https://id.example.com/",
        JWT_AUDIENCE: "chat"
      }
    })
    const sign = (exp: number) =>
      new SignJWT()
        .setProtectedHeader({ alg: "RS256" })
        .setSubject("ann")
        .setIssuer("https://id.example.com/")
        .setAudience("chat")
        .setExpirationTime(exp)
        .sign(privateKey)
    const seconds = Math.floor(Date.now() / 1000)
    const ask = async (token: string) =>
      (await fetch(`${jwt.url}/v1/conversations`, { headers: { authorization: `Bearer ${token}` } })).status
    assert.strictEqual(await ask(await sign(seconds + 60)), 200)
    assert.strictEqual(await ask(await sign(seconds - 60)), 401)

    const body = JSON.stringify({ user: "ann" })
    const token = await fetch(`${jwt.url}/v1/auth/dev`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body
    })
    assert.strictEqual(token.status, 404)
    assert.strictEqual(((await token.json()) as Json)["code"], "not_found")
    assert.strictEqual((await fetch(`${jwt.url}/api/v1/messages/bob?id=ann`)).status, 404)
    const described = (await (await fetch(`${jwt.url}/openapi.json`)).json()) as { readonly paths: object }
    assert.notProperty(described.paths, "/v1/auth/dev")
  })
})
