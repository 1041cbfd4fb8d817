/** What a client may get wrong over HTTP, each with the status and code that tell it so. */
import { connect } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type RunningServer, startServer } from "../support/server.ts"
import { devToken } from "../support/ws.ts"

let server: RunningServer
let token: string
beforeAll(async () => {
  server = await startServer({ env: { LIMIT_BODY_CHARS: "100", LIMIT_PER_SECOND: "1000", LIMIT_BURST: "1000" } })
  token = await devToken(server.url, "ann")
  await post("/v1/conversations/dm:ann:bob/messages", { cid: "first", body: "hi" })
})
afterAll(() => server.dispose())

const JSON_TYPE = { "content-type": "application/json" }
const post = (path: string, body: unknown, headers: Record<string, string> = { authorization: `Bearer ${token}` }) =>
  fetch(server.url + path, {
    method: "POST",
    headers: { ...JSON_TYPE, ...headers },
    body:
      typeof body === "string" || body instanceof Uint8Array
        ? (body as string | Uint8Array<ArrayBuffer>)
        : JSON.stringify(body)
  })
const get = (path: string) => fetch(server.url + path, { headers: { authorization: `Bearer ${token}` } })

const expectProblem = async (answer: Response, status: number, code: string): Promise<Record<string, unknown>> => {
  const text = await answer.text()
  assert.strictEqual(answer.status, status, text)
  assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json/)
  const problem = JSON.parse(text) as Record<string, unknown>
  assert.strictEqual(problem["code"], code, text)
  assert.strictEqual(problem["status"], status)
  assert.strictEqual(problem["type"], "about:blank")
  for (const field of ["title", "detail"]) assert.isNotEmpty(problem[field], `${field} of ${text}`)
  return problem
}

const group = "g:00000000-0000-8000-8000-000000000000"
const inDm = "/v1/conversations/dm:ann:bob/messages"
const users = (count: number) => Array.from({ length: count }, (_, i) => `u${i}`)

const posts: ReadonlyArray<readonly [what: string, path: string, body: unknown, status: number, code: string]> = [
  ["a token for nobody", "/v1/auth/dev", {}, 400, "bad_request"],
  ["a token for a user with a colon", "/v1/auth/dev", { user: "a:b" }, 400, "bad_request"],
  ["a token for an empty user", "/v1/auth/dev", { user: "" }, 400, "bad_request"],
  ["a token for a user of 129", "/v1/auth/dev", { user: "u".repeat(129) }, 400, "bad_request"],
  ["a token for a number", "/v1/auth/dev", { user: 5 }, 400, "bad_request"],
  ["a token with an unlisted field", "/v1/auth/dev", { user: "ann", admin: true }, 400, "bad_request"],
  ["a body that is not JSON", "/v1/auth/dev", '{"user":', 400, "bad_json"],
  ["a body that is not UTF-8", "/v1/auth/dev", new Uint8Array([0x22, 0xff, 0xfe, 0x22]), 400, "bad_json"],
  ["a body that is an array", "/v1/auth/dev", [], 400, "bad_request"],
  ["a body that is null", "/v1/auth/dev", "null", 400, "bad_request"],
  ["a body that is a text", "/v1/auth/dev", '"ann"', 400, "bad_request"],
  ["a body over 64 KiB", "/v1/auth/dev", { user: "u".repeat(65_536) }, 413, "too_large"],
  ["a ticket with a field", "/v1/tickets", { user: "bob" }, 400, "bad_request"],
  ["a group without cid", "/v1/conversations", { members: ["bob"] }, 400, "bad_request"],
  ["a group without members", "/v1/conversations", { cid: "c" }, 400, "bad_request"],
  ["a group with members that are no array", "/v1/conversations", { cid: "c", members: "bob" }, 400, "bad_request"],
  ["a group with a malformed member", "/v1/conversations", { cid: "c", members: ["b b"] }, 400, "bad_request"],
  ["a group of 257", "/v1/conversations", { cid: "c", members: users(257) }, 400, "bad_request"],
  ["a group with an empty title", "/v1/conversations", { cid: "c", members: ["bob"], title: "" }, 400, "bad_request"],
  ["a title of 201", "/v1/conversations", { cid: "c", members: ["bob"], title: "t".repeat(201) }, 400, "bad_request"],
  ["a title with NUL", "/v1/conversations", { cid: "c", members: ["bob"], title: "a\u0000" }, 400, "bad_request"],
  ["a group with an unlisted field", "/v1/conversations", { cid: "c", members: ["bob"], x: 1 }, 400, "bad_request"],
  [
    "a group with the prototype as field",
    "/v1/conversations",
    '{"cid":"c","members":[],"__proto__":{}}',
    400,
    "bad_request"
  ],
  ["a message without body", inDm, { cid: "c" }, 400, "bad_request"],
  ["an empty message", inDm, { cid: "c", body: "" }, 400, "bad_request"],
  ["a message that is a number", inDm, { cid: "c", body: 1 }, 400, "bad_request"],
  ["a message with NUL", inDm, { cid: "c", body: "a\u0000b" }, 400, "bad_request"],
  ["a message with a lone surrogate", inDm, '{"cid":"c","body":"\\ud800"}', 400, "bad_request"],
  ["a message without cid", inDm, { body: "hi" }, 400, "bad_request"],
  ["a message with a cid of 65", inDm, { cid: "c".repeat(65), body: "hi" }, 400, "bad_request"],
  ["a message with a malformed kind", inDm, { cid: "c", body: "hi", kind: "a b" }, 400, "bad_request"],
  ["a reply to 0", inDm, { cid: "c", body: "hi", replyTo: 0 }, 400, "bad_request"],
  ["a reply to a text", inDm, { cid: "c", body: "hi", replyTo: "1" }, 400, "bad_request"],
  ["a reply to what is not there", inDm, { cid: "c404", body: "hi", replyTo: 404 }, 404, "not_found"],
  ["a message with an unlisted field", inDm, { cid: "c", body: "hi", conv: "dm:ann:bob" }, 400, "bad_request"],
  ["a message that is too long", inDm, { cid: "c", body: "x".repeat(101) }, 413, "too_large"],
  ["another content under the same cid", inDm, { cid: "first", body: "other" }, 409, "conflict"],
  [
    "a message into a dm of others",
    "/v1/conversations/dm:bob:cid/messages",
    { cid: "c", body: "hi" },
    404,
    "not_found"
  ],
  ["a message into no group", `/v1/conversations/${group}/messages`, { cid: "c", body: "hi" }, 404, "not_found"],
  ["a bad message into no group", `/v1/conversations/${group}/messages`, { cid: "c" }, 400, "bad_request"],
  [
    "a message into an unsorted dm",
    "/v1/conversations/dm:bob:ann/messages",
    { cid: "c", body: "hi" },
    400,
    "bad_request"
  ],
  ["a query where none is", `${inDm}?limit=5`, { cid: "c", body: "hi" }, 400, "bad_request"]
]

const gets: ReadonlyArray<readonly [what: string, path: string, status: number, code: string]> = [
  ["a limit of 0", "/v1/conversations?limit=0", 400, "bad_request"],
  ["a limit of 201", "/v1/conversations?limit=201", 400, "bad_request"],
  ["a negative limit", "/v1/conversations?limit=-1", 400, "bad_request"],
  ["a fraction as limit", "/v1/conversations?limit=1.5", 400, "bad_request"],
  ["a limit in hexadecimal", "/v1/conversations?limit=0x10", 400, "bad_request"],
  ["an empty limit", "/v1/conversations?limit=", 400, "bad_request"],
  ["a limit with a blank", "/v1/conversations?limit=%201", 400, "bad_request"],
  ["two limits", "/v1/conversations?limit=1&limit=2", 400, "bad_request"],
  ["an unlisted parameter", "/v1/conversations?offset=1", 400, "bad_request"],
  ["a name of every object as parameter", "/v1/conversations?constructor=1", 400, "bad_request"],
  ["an after that was not given out", "/v1/conversations?after=%00%00", 400, "bad_request"],
  ["before 0", `${inDm}?before=0`, 400, "bad_request"],
  ["before a text", `${inDm}?before=x`, 400, "bad_request"],
  ["before and after", `${inDm}?before=5&after=1`, 400, "bad_request"],
  ["after and around", `${inDm}?after=5&around=1`, 400, "bad_request"],
  ["around more than a number holds", `${inDm}?around=99999999999999999999`, 400, "bad_request"],
  ["messages with a bad limit of no group", `/v1/conversations/${group}/messages?limit=x`, 400, "bad_request"],
  ["messages of no group", `/v1/conversations/${group}/messages`, 404, "not_found"],
  ["messages of a dm of others", "/v1/conversations/dm:bob:cid/messages", 404, "not_found"],
  ["messages of a malformed conversation", "/v1/conversations/room/messages", 400, "bad_request"],
  ["messages of a group in capitals", `/v1/conversations/${group.replace(/8/g, "A")}/messages`, 400, "bad_request"],
  ["messages of a conversation with a slash", "/v1/conversations/dm:a%2Fb:c/messages", 400, "bad_request"],
  ["messages of a conversation of 2,000", `/v1/conversations/dm:${"a".repeat(2_000)}:b/messages`, 400, "bad_request"],
  ["a path that is not well encoded", "/v1/conversations/%zz/messages", 400, "bad_request"],
  ["members of no group", `/v1/conversations/${group}/members`, 404, "not_found"],
  ["members after no user", `/v1/conversations/dm:ann:bob/members?after=a%20b`, 400, "bad_request"],
  ["members with a limit of 257", `/v1/conversations/dm:ann:bob/members?limit=257`, 400, "bad_request"],
  ["presence of nobody", "/v1/presence", 400, "bad_request"],
  ["presence of an empty list", "/v1/presence?users=", 400, "bad_request"],
  ["presence of an empty user", "/v1/presence?users=ann,", 400, "bad_request"],
  ["presence of 201", `/v1/presence?users=${users(201).join(",")}`, 400, "bad_request"],
  ["presence with watch", "/v1/presence?users=ann&watch=true", 400, "bad_request"],
  ["an unknown path", "/v1/nothing", 404, "not_found"],
  ["the WebSocket without an upgrade", "/v1/ws", 426, "bad_request"],
  ["a path with a slash at its end", "/v1/conversations/", 404, "not_found"],
  ["a path with two slashes", "//v1/conversations", 404, "not_found"],
  ["a path in capitals", "/V1/conversations", 404, "not_found"],
  ["another version", "/v2/conversations", 404, "not_found"],
  ["a page of the app that is none", "/chat/ann", 404, "not_found"],
  ["a file of the app that is not there", "/assets/index-00000000.js", 404, "not_found"],
  ["a file below a file", "/index.html/x", 404, "not_found"],
  ["a path that is very long", `/${"a".repeat(5_000)}`, 404, "not_found"]
]

describe("refused with the reason", () => {
  it.each(posts)("%s", async (_what, path, body, status, code) => {
    await expectProblem(await post(path, body), status, code)
  })
  it.each(gets)("%s", async (_what, path, status, code) => {
    await expectProblem(await get(path), status, code)
  })

  it("says which field is wrong, what is allowed and what was given", async () => {
    const { detail } = await expectProblem(await get("/v1/conversations?limit=many"), 400, "bad_request")
    assert.strictEqual(detail, 'limit: expected an integer from 1 to 200, got "many"')
    const unlisted = await expectProblem(await get(`${inDm}?page=2`), 400, "bad_request")
    assert.strictEqual(unlisted["detail"], "page: is no field of the query, which has before, after, around, limit")
  })

  it("a body that is missing", async () => {
    const answer = await fetch(`${server.url}/v1/auth/dev`, { method: "POST", headers: JSON_TYPE })
    assert.strictEqual(answer.status, 400)
    assert.match(((await answer.json()) as { readonly code: string }).code, /^bad_(?:json|request)$/)
  })

  it("but not a body whose type is not told: it counts as JSON", async () => {
    const body = new TextEncoder().encode('{"user":"ann"}')
    assert.strictEqual((await fetch(`${server.url}/v1/auth/dev`, { method: "POST", body })).status, 200)
  })

  it("a body over 64 KiB whose length is not told before", async () => {
    const chunks = new ReadableStream({
      start: (controller) => {
        for (let i = 0; i < 70; i++) controller.enqueue(new Uint8Array(1024).fill(0x20))
        controller.close()
      }
    })
    const init = { method: "POST", headers: JSON_TYPE, body: chunks, duplex: "half" } as RequestInit
    await expectProblem(await fetch(`${server.url}/v1/auth/dev`, init), 413, "too_large")
  })
})

describe("who asks", () => {
  const without: ReadonlyArray<readonly [what: string, authorization: string | undefined]> = [
    ["no token", undefined],
    ["an empty header", ""],
    ["only the scheme", "Bearer"],
    ["another scheme", "Basic YW5uOmFubg=="],
    ["something that is no token", "Bearer hello"],
    ["three dots", "Bearer ..."]
  ]
  it.each(without)("is refused with %s", async (_what, authorization) => {
    const headers = authorization === undefined ? {} : { authorization }
    for (const path of ["/v1/conversations", inDm, "/v1/presence?users=ann", `/v1/conversations/${group}/members`]) {
      const answer = await fetch(server.url + path, { headers })
      await expectProblem(answer, 401, "unauthorized")
      assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer/)
    }
    await expectProblem(await post("/v1/tickets", {}, headers), 401, "unauthorized")
    await expectProblem(await post(inDm, { cid: "c", body: "hi" }, headers), 401, "unauthorized")
  })

  it("is refused with a ticket in place of a token", async () => {
    const { ticket } = (await (await post("/v1/tickets", {})).json()) as { readonly ticket: string }
    const answer = await fetch(`${server.url}/v1/conversations`, { headers: { authorization: `Bearer ${ticket}` } })
    const problem = await expectProblem(answer, 401, "unauthorized")
    assert.notInclude(JSON.stringify(problem), ticket.slice(0, 20), "no part of a credential in an answer")
  })

  it("may write the scheme in any case", async () => {
    const answer = await fetch(`${server.url}/v1/conversations`, { headers: { authorization: `bearer ${token}` } })
    assert.strictEqual(answer.status, 200)
  })
})

describe("methods that are not served", () => {
  const methods: ReadonlyArray<readonly [method: string, path: string, allow: string]> = [
    ["DELETE", "/v1/conversations", "GET, POST, HEAD"],
    ["PUT", inDm, "GET, POST, HEAD"],
    ["PATCH", "/v1/tickets", "POST"],
    ["GET", "/v1/auth/dev", "POST"],
    ["POST", "/healthz", "GET, HEAD"],
    ["DELETE", "/metrics", "GET, HEAD"],
    ["POST", "/v1/presence", "GET, HEAD"],
    ["POST", "/", "GET, HEAD"]
  ]
  it.each(methods)("%s %s", async (method, path, allow) => {
    const answer = await fetch(server.url + path, { method, headers: { authorization: `Bearer ${token}` } })
    assert.strictEqual(answer.status, 405)
    assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json/)
    assert.sameMembers((answer.headers.get("allow") ?? "").split(", "), allow.split(", "))
  })
})

/** What a server answers to these bytes, up to the end of the connection. */
const raw = (port: number, request: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(request))
    let answer = ""
    socket.setEncoding("latin1").on("data", (text: string) => (answer += text))
    socket.setTimeout(10_000, () => reject(new Error(`no end of the answer: ${answer}`)))
    socket.once("error", reject)
    socket.once("close", () => resolve(answer))
  })

describe("paths that fetch does not send", () => {
  const paths: ReadonlyArray<readonly [path: string]> = [
    ["/../package.json"],
    ["/assets/../../../package.json"],
    ["/%2e%2e/%2e%2e/package.json"],
    ["/..%2f..%2fpackage.json"],
    ["/assets/..%5c..%5cpackage.json"],
    ["/%00"],
    ["/index.html%00.js"]
  ]
  it.each(paths)("%s", async (path) => {
    const answer = await raw(server.port, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    assert.match(answer, /^HTTP\/1\.1 40[04] /)
    assert.match(answer, /application\/problem\+json/)
  })

  it("everything at once leaves the server as it was", async () => {
    await raw(server.port, "GET * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await raw(server.port, "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await raw(server.port, "GET / HTTP/9.9\r\n\r\n")
    assert.strictEqual((await fetch(`${server.url}/healthz`)).status, 200)
    assert.notInclude(server.output(), "A request failed")
  })
})
