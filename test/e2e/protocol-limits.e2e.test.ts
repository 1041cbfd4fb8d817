/** The limits that a server tells and keeps, what comes when it goes away, and that HTTP says the same as the WebSocket. */
import { generateKeyPairSync } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { SignJWT } from "jose"
import { type RunningServer, startServer } from "../support/server.ts"
import { httpAs, listen, makeGroup, say, type Talk, talk, unique } from "../support/talk.ts"
import { openRaw, type Received } from "../support/ws.ts"

const fast = { LIMIT_PER_SECOND: "100000", LIMIT_BURST: "100000" }
const tight = { LIMIT_IN_FLIGHT: "2", LIMIT_NEW_DMS_PER_HOUR: "2", LIMIT_USER_CONNECTIONS: "2", LIMIT_BODY_CHARS: "10" }

const open: Array<Talk> = []
const connect = async (server: RunningServer, user: string, hello: object = {}): Promise<Talk> => {
  const connected = await talk(server.url, user, hello)
  open.push(connected)
  return connected
}
afterAll(() => open.forEach(({ socket }) => socket.terminate()))

/** Starts a server for the tests of one block. */
const serverWith = (env: Readonly<Record<string, string>>): { readonly get: () => RunningServer } => {
  let server: RunningServer | undefined
  beforeAll(async () => {
    server = await startServer({ env })
  })
  afterAll(() => server?.dispose())
  return { get: () => server! }
}

describe("tight limits", () => {
  const server = serverWith({ ...fast, ...tight })

  it("are told", async () => {
    const ann = await connect(server.get(), unique("ann"))
    assert.deepStrictEqual(ann.welcome["limits"], {
      frameBytes: 65_536,
      bodyChars: 10,
      inFlight: 2,
      perSecond: 100_000
    })
  })

  it("of sends under way: what is too much is busy, and what is not is persisted", async () => {
    const ann = await connect(server.get(), unique("ann"))
    ann.tell(Array.from({ length: 5 }, (_, i) => ({ t: "send", cid: `c${i}`, to: ann.user, body: "x" })) as object)
    const answers = await ann.until("five answers", (all) => {
      const found = all.filter(({ t }) => t === "ack" || t === "err")
      return found.length === 5 ? found : undefined
    })
    const of = (t: string) => answers.filter((answer) => answer.t === t)
    assert.deepStrictEqual(
      of("ack").map(({ cid, seq }) => [cid, seq]),
      [
        ["c0", 1],
        ["c1", 2]
      ]
    )
    assert.deepStrictEqual(
      of("err").map(({ cid }) => cid),
      ["c2", "c3", "c4"]
    )
    for (const err of of("err")) assert.deepInclude(err, { code: "busy", retryable: true })
    assert.strictEqual((await say(ann, { to: ann.user }, "again", { cid: "c2" })).seq, 3)
  })

  it("of new direct conversations: beyond them the first message is refused for a while, answers are not", async () => {
    const [ann, bob] = [await connect(server.get(), unique("ann")), await connect(server.get(), unique("bob"))]
    const { conv } = await say(bob, { to: ann.user }, "hi")
    await say(ann, { conv }, "hello")
    for (const other of ["one", "two"]) await say(ann, { to: unique(other) }, "hi")
    const third = unique("three")
    const refused = await ann.ask({ t: "send", cid: "third", to: third, body: "hi" })
    assert.deepInclude(refused, { t: "err", cid: "third", code: "rate_limited", retryable: true })
    assert.isTrue(Number.isInteger(refused["retryAfterMs"]) && (refused["retryAfterMs"] as number) > 0)
    const http = await httpAs(server.get().url, ann.user)
    const over = await http.post(`/v1/conversations/${encodeURIComponent(`dm:${ann.user}:${third}`)}/messages`, {
      cid: "t",
      body: "hi"
    })
    assert.strictEqual(over.status, 429)
    assert.deepInclude(over.body, { code: "rate_limited" })
    await say(ann, { conv }, "you I may")
    assert.strictEqual(((await ann.ask({ t: "history", conv: `dm:${ann.user}:${third}` }))["messages"] as []).length, 0)
    // A group is no direct conversation.
    await makeGroup(ann, [third])
  })

  it("of connections: the oldest of that user makes room, with 4009, and the others go on", async () => {
    const user = unique("ann")
    const first = await connect(server.get(), user)
    const second = await connect(server.get(), user)
    const third = await connect(server.get(), user)
    assert.strictEqual((await first.closed()).code, 4009)
    const { conv, seq } = await say(third, { to: user }, "here")
    await second.got("event", (event) => event["conv"] === conv && event["seq"] === seq)
    await connect(server.get(), user)
    assert.strictEqual((await second.closed()).code, 4009)
    await say(third, { conv }, "still")
  })
})

describe("the rate", () => {
  const server = serverWith({ LIMIT_PER_SECOND: "20", LIMIT_BURST: "30", LOG_LEVEL: "info" })

  it("counts objects and not frames, says when to go on, and takes what comes then", async () => {
    const ann = await connect(server.get(), unique("ann"))
    ann.tell(Array.from({ length: 60 }, (_, i) => ({ t: "send", cid: `c${i}`, to: ann.user, body: "x" })) as object)
    ann.tell({ t: "convs", rid: "too-fast" })
    const refusal = await ann.got("err", ({ rid }) => rid === "too-fast")
    const wait = refusal["retryAfterMs"] as number
    assert.deepInclude(refusal, { code: "rate_limited", retryable: true })
    assert.isTrue(Number.isInteger(wait) && wait >= 1 && wait <= 50, String(wait))
    const refused = ann.frames.filter(({ cid, t }) => t === "err" && cid !== undefined).map(({ cid }) => cid)
    const acked = await ann.until("the others' acks", (all) => {
      const acks = all.filter(({ t }) => t === "ack").map(({ cid }) => cid)
      return acks.length + refused.length === 60 ? acks : undefined
    })
    assert.isTrue(acked.length >= 29 && acked.length <= 35, `${acked.length} were taken`)
    assert.deepStrictEqual(
      [...acked, ...refused],
      Array.from({ length: 60 }, (_, i) => `c${i}`)
    )
    await new Promise((resolve) => setTimeout(resolve, wait))
    const next = await ann.ask({ t: "convs" })
    assert.strictEqual(next.t, "reply", JSON.stringify(next))
  })

  it("counts a frame that holds nothing of use as one object", async () => {
    const ann = await connect(server.get(), unique("ann"))
    for (let i = 0; i < 40; i++) ann.tell("[]")
    const refusal = await ann.got("err", ({ code }) => code === "rate_limited")
    assert.isAtLeast(refusal["retryAfterMs"] as number, 1)
  })

  it("refuses anything, and lives on", async () => {
    const ann = await connect(server.get(), unique("ann"))
    const anything = [null, 1, "text", [], {}, { t: null }, { t: "send", rid: "r".repeat(1_000), cid: null }, true]
    ann.tell(JSON.stringify(Array.from({ length: 64 }, (_, i) => anything[i % anything.length])))
    const errs = await ann.until("an answer to each", (all) => {
      const found = all.filter(({ t }) => t === "err")
      return found.length === 64 ? found : undefined
    })
    assert.includeMembers(
      errs.map(({ code }) => code),
      ["bad_request", "rate_limited"]
    )
    for (const err of errs) assert.doesNotHaveAnyKeys(err, ["rid", "cid"])
    const bob = await connect(server.get(), unique("bob"))
    await say(bob, { to: bob.user }, "the others notice nothing")
  })
})

describe("a client that does not read", () => {
  const server = serverWith({ ...fast, LIMIT_IN_FLIGHT: "100000" })

  it("is cut with 4001 when its queue is full, delays nobody, and resumes with what it has", async () => {
    const [ann, bob, cy] = [
      await connect(server.get(), unique("ann")),
      await connect(server.get(), unique("bob")),
      await connect(server.get(), unique("cy"))
    ]
    const conv = await makeGroup(ann, [bob.user, cy.user])
    await bob.got("event")
    const { cursor } = bob.welcome
    bob.socket.pause()
    const body = "x".repeat(15_000)
    const isCut = async (): Promise<boolean> =>
      /darda_closes\S*\{[^}]*4001[^}]*\} [1-9]/.test(await (await fetch(`${server.get().url}/metrics`)).text())
    let head = 1
    while (!(await isCut())) {
      assert.isBelow(head, 5_000, "it is never cut")
      for (let i = 0; i < 64; i++) ann.tell({ t: "send", cid: unique("m"), conv, body })
      head += 64
      await cy.got("event", ({ seq }) => seq === head)
    }
    bob.socket.resume()
    assert.strictEqual((await bob.closed()).code, 4001)
    const given = bob.events(conv).map(({ seq }) => seq as number)
    assert.deepStrictEqual(
      given,
      given.map((_, i) => i + 1)
    )
    const back = await connect(server.get(), bob.user, { resume: { cursor, seqs: { [conv]: given.length } } })
    await say(ann, { conv }, "and now")
    await back.got("event", ({ seq }) => seq === head + 1)
    const first = back.frames.find((frame) => frame["conv"] === conv)
    if (first?.t === "event") assert.strictEqual(first["seq"], given.length + 1)
    else assert.strictEqual(first?.t, "reset")
  })
})

describe("a client that asks for much at once", () => {
  const server = serverWith(fast)

  it("is answered as fast as it reads, and not cut", async () => {
    const user = unique("ann")
    const [ann, other] = [await connect(server.get(), user), await connect(server.get(), user)]
    const { conv } = await say(ann, { to: user }, "😀".repeat(15_900))
    for (let i = 0; i < 3; i++) await say(ann, { conv }, "😀".repeat(15_900))
    ann.socket.pause()
    ann.tell(Array.from({ length: 60 }, (_, i) => ({ t: "history", rid: `h${i}`, conv })) as object)
    for (let i = 0; i < 20; i++) assert.strictEqual((await other.ask({ t: "history", conv })).t, "reply")
    ann.socket.resume()
    for (let i = 0; i < 60; i++) await ann.got("reply", ({ rid }) => rid === `h${i}`)
  })
})

describe("a token", () => {
  it("that runs out ends its connection with 4004, unless it is refreshed in time", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 })
    const folder = mkdtempSync(join(tmpdir(), "darda-key-"))
    const keyFile = join(folder, "key.pem")
    writeFileSync(keyFile, publicKey.export({ type: "spki", format: "pem" }))
    const server = await startServer({
      env: {
        AUTH: "jwt",
        CLUSTER_SECRET: "a secret of at least 32 characters",
        JWT_PUBLIC_KEY_FILE: keyFile,
        JWT_ISSUER: "https://id.example.com/",
        JWT_AUDIENCE: "chat"
      }
    })
    try {
      const sign = (inMs: number): Promise<string> =>
        new SignJWT()
          .setProtectedHeader({ alg: "RS256" })
          .setSubject("ann")
          .setIssuer("https://id.example.com/")
          .setAudience("chat")
          .setExpirationTime(Math.ceil((Date.now() + inMs) / 1000))
          .sign(privateKey)
      const hello = async (inMs: number): Promise<Talk> => {
        const [raw, token] = await Promise.all([openRaw(server.url), sign(inMs)])
        raw.send({ t: "hello", v: 1, token, device: "d" })
        return listen(raw, "ann")
      }
      const [short, longer] = [await hello(2_000), await hello(2_000)]
      open.push(short, longer)
      const token = await sign(60_000)
      const { expiresAt } = (await longer.ask({ t: "refresh", token })) as unknown as { expiresAt: number }
      assert.approximately(expiresAt, Date.now() + 60_000, 5_000)
      assert.strictEqual((await longer.ask({ t: "refresh", token: await sign(-60_000) }))["code"], "unauthorized")
      assert.strictEqual((await short.closed()).code, 4004)
      await say(longer, { to: "ann" }, "still here")
      const late = await openRaw(server.url)
      late.send({ t: "hello", v: 1, token: await sign(-60_000), device: "d" })
      assert.strictEqual((await late.closed()).code, 4500)
    } finally {
      await server.dispose()
      rmSync(folder, { recursive: true })
    }
  })
})

describe("going away", () => {
  it("is announced, what was sent is answered still, and everyone is told to come back", async () => {
    const server = await startServer({ env: fast })
    try {
      const [ann, bob] = [await connect(server, unique("ann")), await connect(server, unique("bob"))]
      const conv = `dm:${ann.user}:${bob.user}`
      ann.tell(Array.from({ length: 50 }, (_, i) => ({ t: "send", cid: `c${i}`, conv, body: "x" })) as object)
      const stopped = server.stop()
      const drain = await bob.got("drain")
      const { deadlineMs, reconnectAfterMs, ...more } = drain
      assert.deepStrictEqual(more, { t: "drain" })
      assert.hasAllKeys(reconnectAfterMs as object, ["min", "max"])
      assert.isAbove(deadlineMs as number, 0)
      assert.deepStrictEqual([(await ann.closed()).code, (await bob.closed()).code], [4000, 4000])
      assert.strictEqual(ann.frames.filter(({ t }) => t === "ack").length, 50)
      assert.strictEqual(await stopped, 0)
      await server.restart()
      const back = await connect(server, bob.user)
      assert.strictEqual((await back.ask({ t: "history", conv }))["head"], 50)
    } finally {
      await server.dispose()
    }
  })
})

describe("HTTP", () => {
  const server = serverWith({ ...fast, LIMIT_NEW_DMS_PER_HOUR: "1000" })

  it("answers what the WebSocket answers, page by page", async () => {
    const user = "a.b@c|d+e=f~g_h-1"
    const ann = await connect(server.get(), user)
    const http = await httpAs(server.get().url, user)
    const { conv: dm } = await say(ann, { to: "~other|one" }, "one")
    const group = await makeGroup(ann, ["=x", "bob", "@cy"], { title: "Ünï & <b>" })
    const large = await makeGroup(
      ann,
      Array.from({ length: 60 }, (_, i) => `m${i}`)
    )
    for (let i = 2; i <= 30; i++) await say(ann, { conv: dm }, `m${i}`, { replyTo: 1 })
    await ann.ask({ t: "react", conv: dm, target: 3, emoji: "🎉", on: true })
    await ann.ask({ t: "edit", conv: dm, target: 4, body: "better" })
    await ann.ask({ t: "delete", conv: dm, target: 5 })
    const same = async (path: string, frame: Record<string, unknown>): Promise<Received> => {
      const answer = await ann.ask(frame)
      const { rid: _, t: __, ...reply } = answer
      assert.deepStrictEqual(await http.get(path), { status: 200, body: reply }, path)
      return answer
    }
    const at = (conv: string): string => `/v1/conversations/${encodeURIComponent(conv)}`
    for (const query of [
      {},
      { limit: 3 },
      { before: 8, limit: 7 },
      { after: 0, limit: 5 },
      { after: 28 },
      { around: 5, limit: 5 }
    ]) {
      const params = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]))
      await same(`${at(dm)}/messages?${params}`, { t: "history", conv: dm, ...query })
    }
    await same(`${at(group)}/messages`, { t: "history", conv: group })
    await same(`${at(large)}/messages`, { t: "history", conv: large })
    await same(`${at(group)}/members`, { t: "roster", conv: group })
    const { next: member } = await same(`${at(large)}/members?limit=20`, { t: "roster", conv: large, limit: 20 })
    await same(`${at(large)}/members?limit=20&after=${encodeURIComponent(String(member))}`, {
      t: "roster",
      conv: large,
      limit: 20,
      after: member
    })
    const { next } = await same("/v1/conversations?limit=2", { t: "convs", limit: 2 })
    await same(`/v1/conversations?after=${encodeURIComponent(String(next))}`, { t: "convs", after: next })
    await same(`/v1/presence?users=${encodeURIComponent(user)},nobody`, { t: "presence", users: [user, "nobody"] })
  })

  it("and what is done by it are events and replies like others", async () => {
    const ann = await connect(server.get(), unique("ann"))
    const http = await httpAs(server.get().url, ann.user)
    const made = await http.post("/v1/conversations", { cid: "g", members: ["bob"], title: "T" })
    assert.strictEqual(made.status, 201)
    const conv = made.body["conv"] as string
    assert.deepInclude(await ann.got("event"), { conv, seq: 1, type: "created", by: ann.user, cid: "g" })
    assert.deepInclude(await ann.ask({ t: "create", rid: "r", cid: "g", members: ["bob"], title: "T" }), {
      ...made.body,
      dup: true
    })
    const sent = await http.post(`/v1/conversations/${conv}/messages`, { cid: "m", body: "hi", kind: "note" })
    assert.deepStrictEqual(sent, { status: 201, body: { seq: 2, at: sent.body["at"] } })
    assert.deepStrictEqual(await ann.got("event", ({ seq }) => seq === 2), {
      t: "event",
      conv,
      seq: 2,
      type: "message",
      by: ann.user,
      at: sent.body["at"],
      cid: "m",
      data: { kind: "note", body: "hi" }
    })
    const stranger = await httpAs(server.get().url, unique("eve"))
    assert.strictEqual((await stranger.get(`/v1/conversations/${conv}/messages`)).status, 404)
    assert.strictEqual((await stranger.post(`/v1/conversations/${conv}/messages`, { cid: "x", body: "x" })).status, 404)
    assert.strictEqual((await stranger.get("/v1/conversations/dm:eve/messages")).status, 400)
  })

  it("a group has at most 10,000 members, and nobody is added when that would pass it", async () => {
    const ann = await connect(server.get(), unique("ann"))
    const users = Array.from({ length: 10_001 }, (_, i) => `crowd-${i}`)
    const conv = await makeGroup(ann, users.slice(0, 256))
    for (let i = 256; i < 9_984; i += 256)
      ann.tell({ t: "members", rid: `r${i}`, cid: `c${i}`, conv, add: users.slice(i, i + 256) })
    await ann.got("reply", ({ rid }) => rid === `r${9_728}`)
    const add = (from: number, to: number) => ann.ask({ t: "members", conv, add: users.slice(from, to) })
    assert.strictEqual((await add(9_984, 10_000))["code"], "too_large")
    assert.strictEqual((await add(9_984, 9_999)).t, "reply")
    assert.strictEqual((await add(10_000, 10_001))["code"], "too_large")
    assert.strictEqual((await add(0, 10)).t, "reply", "who is in it counts once")
    const last = await connect(server.get(), users[9_998]!)
    const { seq } = await say(ann, { conv }, "hello all of you")
    await last.got("event", (event) => event["seq"] === seq)
    assert.strictEqual((await last.ask({ t: "history", conv }))["head"], seq)
  })
})
