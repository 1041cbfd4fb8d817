import { connect } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type RunningServer, startServer } from "../support/server.ts"
import { devToken, greet, openRaw, type RawClient } from "../support/ws.ts"

let server: RunningServer
beforeAll(async () => {
  server = await startServer({ env: { LIMIT_BODY_CHARS: "100" } })
})
afterAll(() => server.stop())

const group = "g:00000000-0000-8000-8000-000000000000"
const long = "x".repeat(101)
const users = (count: number) => Array.from({ length: count }, (_, i) => `u${i}`)

/** What is sent on a connection that has said hello, and the code of the `err` that answers it. */
const refused: ReadonlyArray<readonly [what: string, frame: string | object, code: string, about?: object]> = [
  ["not JSON", "{", "bad_json"],
  ["an empty frame", "", "bad_json"],
  ["a number", "42", "bad_request"],
  ["null", "null", "bad_request"],
  ["a string", '"send"', "bad_request"],
  ["an empty array", "[]", "bad_request"],
  ["65 objects", JSON.stringify(Array.from({ length: 65 }, () => ({ t: "ping" }))), "bad_request"],
  ["an array in an array", "[[]]", "bad_request"],
  ["no t", { cid: "c" }, "bad_request", { cid: "c" }],
  ["a t that is a number", { t: 5 }, "bad_request"],
  ["an unknown operation", { t: "explode", rid: "r1" }, "unknown_op", { rid: "r1" }],
  ["a name of every object", { t: "constructor" }, "unknown_op"],
  ["the prototype as operation", '{"t":"__proto__"}', "unknown_op"],
  ["hello twice", { t: "hello", v: 1, token: "x", device: "d" }, "bad_request"],
  ["send without cid", { t: "send", to: "bob", body: "hi" }, "bad_request"],
  ["send with an empty cid", { t: "send", cid: "", to: "bob", body: "hi" }, "bad_request"],
  ["send with a cid of 65", { t: "send", cid: "c".repeat(65), to: "bob", body: "hi" }, "bad_request"],
  ["send with a space in its cid", { t: "send", cid: "a b", to: "bob", body: "hi" }, "bad_request"],
  ["send to nobody", { t: "send", cid: "c", body: "hi" }, "bad_request", { cid: "c" }],
  ["send to both", { t: "send", cid: "c", to: "bob", conv: "dm:ann:bob", body: "hi" }, "bad_request", { cid: "c" }],
  ["send to a user with a colon", { t: "send", cid: "c", to: "a:b", body: "hi" }, "bad_request"],
  ["send to a user of 129", { t: "send", cid: "c", to: "u".repeat(129), body: "hi" }, "bad_request"],
  ["send to an unsorted dm", { t: "send", cid: "c", conv: "dm:bob:ann", body: "hi" }, "bad_request"],
  ["send to something else", { t: "send", cid: "c", conv: "room:1", body: "hi" }, "bad_request"],
  ["send without body", { t: "send", cid: "c", to: "bob" }, "bad_request"],
  ["send an empty body", { t: "send", cid: "c", to: "bob", body: "" }, "bad_request"],
  ["send a body that is a number", { t: "send", cid: "c", to: "bob", body: 5 }, "bad_request"],
  ["send NUL", { t: "send", cid: "c", to: "bob", body: "a\u0000b" }, "bad_request"],
  ["send a lone surrogate", '{"t":"send","cid":"c","to":"bob","body":"\\ud800"}', "bad_request"],
  ["send too long a body", { t: "send", cid: "c", to: "bob", body: long }, "too_large", { cid: "c" }],
  ["send with an unlisted field", { t: "send", cid: "c", to: "bob", body: "hi", x: 1 }, "bad_request", { cid: "c" }],
  ["send in reply to 0", { t: "send", cid: "c", to: "bob", body: "hi", replyTo: 0 }, "bad_request"],
  ["send in reply to a fraction", { t: "send", cid: "c", to: "bob", body: "hi", replyTo: 1.5 }, "bad_request"],
  [
    "send in reply to nothing there",
    { t: "send", cid: "c99", to: "bob", body: "hi", replyTo: 99 },
    "not_found",
    { cid: "c99" }
  ],
  ["send into a group of others", { t: "send", cid: "c", conv: group, body: "hi" }, "not_found", { cid: "c" }],
  ["send into a dm of others", { t: "send", cid: "c", conv: "dm:bob:cid", body: "hi" }, "not_found", { cid: "c" }],
  ["edit without target", { t: "edit", cid: "c", conv: group, body: "x" }, "bad_request"],
  ["edit of what is not there", { t: "edit", cid: "ce", conv: "dm:ann:bob", target: 99, body: "x" }, "not_found"],
  ["edit with too long a body", { t: "edit", cid: "c", conv: group, target: 1, body: long }, "too_large"],
  ["delete with a negative target", { t: "delete", cid: "c", conv: group, target: -1 }, "bad_request"],
  ["react without on", { t: "react", cid: "c", conv: group, target: 1, emoji: "+" }, "bad_request"],
  [
    "react with an emoji of 65",
    { t: "react", cid: "c", conv: group, target: 1, emoji: "x".repeat(65), on: true },
    "bad_request"
  ],
  ["mark of nothing", { t: "mark", conv: group }, "bad_request"],
  ["mark past the head", { t: "mark", conv: "dm:ann:bob", seen: 999 }, "bad_request"],
  ["mark in a group of others", { t: "mark", conv: group, seen: 1 }, "not_found"],
  ["create without rid", { t: "create", cid: "c", members: ["bob"] }, "bad_request"],
  ["create with 257 members", { t: "create", rid: "r", cid: "c", members: users(257) }, "bad_request", { rid: "r" }],
  ["create with an empty title", { t: "create", rid: "r", cid: "c", members: [], title: "" }, "bad_request"],
  [
    "create with a title of 201",
    { t: "create", rid: "r", cid: "c", members: [], title: "x".repeat(201) },
    "bad_request"
  ],
  ["members of nobody", { t: "members", rid: "r", cid: "c", conv: group }, "bad_request"],
  [
    "members of 257",
    { t: "members", rid: "r", cid: "c", conv: group, add: users(200), remove: users(57) },
    "bad_request"
  ],
  [
    "members of a dm",
    { t: "members", rid: "r", cid: "cm", conv: "dm:ann:bob", add: ["cid"] },
    "forbidden",
    { rid: "r" }
  ],
  ["leave a dm", { t: "leave", rid: "r", cid: "cl", conv: "dm:ann:bob" }, "forbidden", { rid: "r" }],
  ["leave a group of others", { t: "leave", rid: "r", cid: "c", conv: group }, "not_found", { rid: "r" }],
  ["title without title", { t: "title", rid: "r", cid: "c", conv: group }, "bad_request"],
  ["roster of 257", { t: "roster", rid: "r", conv: group, limit: 257 }, "bad_request"],
  ["roster of others", { t: "roster", rid: "r", conv: group }, "not_found", { rid: "r" }],
  ["sync without after", { t: "sync", rid: "r", conv: "dm:ann:bob" }, "bad_request"],
  ["sync before the beginning", { t: "sync", rid: "r", conv: "dm:ann:bob", after: -1 }, "bad_request"],
  ["sync of others", { t: "sync", rid: "r", conv: group, after: 0 }, "not_found", { rid: "r" }],
  [
    "history both ways",
    { t: "history", rid: "r", conv: "dm:ann:bob", before: 3, after: 1 },
    "bad_request",
    { rid: "r" }
  ],
  ["history of 201", { t: "history", rid: "r", conv: "dm:ann:bob", limit: 201 }, "bad_request"],
  ["history of 0", { t: "history", rid: "r", conv: "dm:ann:bob", limit: 0 }, "bad_request"],
  ["history of others", { t: "history", rid: "r", conv: "dm:bob:cid" }, "not_found", { rid: "r" }],
  ["convs after something made up", { t: "convs", rid: "r", after: "made up" }, "bad_request", { rid: "r" }],
  ["typing without on", { t: "typing", conv: group }, "bad_request"],
  ["typing where one is not", { t: "typing", conv: group, on: true }, "not_found"],
  ["presence of 201", { t: "presence", rid: "r", users: users(201) }, "bad_request", { rid: "r" }],
  ["presence of nothing well formed", { t: "presence", rid: "r", users: ["a b"] }, "bad_request"],
  ["refresh with rubbish", { t: "refresh", rid: "r", token: "rubbish" }, "unauthorized", { rid: "r" }],
  ["a rid of 65", { t: "convs", rid: "r".repeat(65) }, "bad_request"]
]

describe("a bad frame is answered and does no harm", () => {
  it.each(refused.map(([what, frame, code, about]) => ({ what, frame, code, about })))(
    "$what",
    async ({ about = {}, code, frame }) => {
      const client = await greet(server.url, "ann")
      client.send(frame)
      const err = await client.any()
      assert.strictEqual(err.t, "err", JSON.stringify(err))
      assert.deepInclude(err, { code, retryable: false, ...about })
      assert.isAbove((err["message"] as string).length, 10, "says what is wrong")
      client.send({ t: "ping" })
      assert.strictEqual((await client.any()).t, "pong", "the connection lives on")
      client.close()
    }
  )
})

/** What is done on a new connection, and the code with which it is closed. */
const closes: ReadonlyArray<readonly [what: string, act: (client: RawClient) => void | Promise<void>, code: number]> = [
  ["a binary frame", (client) => client.sendBinary(new Uint8Array([1, 2, 3])), 1003],
  ["a frame over 64 KiB", (client) => client.send("x".repeat(65_537)), 1009],
  ["a frame before hello", (client) => client.send({ t: "ping" }), 4501],
  ["an unknown operation before hello", (client) => client.send({ t: "explode" }), 4501],
  ["an array before hello", (client) => client.send([{ t: "ping" }]), 4501],
  ["three frames that are not JSON", (client) => ["{", "{", "{"].forEach(client.send), 4501],
  ["a token that is none", (client) => client.send({ t: "hello", v: 1, token: "none", device: "d" }), 4500],
  ["a ticket that is none", (client) => client.send({ t: "hello", v: 1, ticket: "none", device: "d" }), 4500],
  [
    "a token as ticket",
    async (client) => client.send({ t: "hello", v: 1, ticket: await devToken(server.url, "ann"), device: "d" }),
    4500
  ],
  ["silence", () => {}, 4008],
  [
    "bad UTF-8",
    // One masked text frame of one byte that no text begins with.
    (client) =>
      void (client.socket as unknown as { _socket: { write: (b: Buffer) => void } })._socket.write(
        Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])
      ),
    1007
  ],
  [
    "a frame that is not masked",
    (client) =>
      void (client.socket as unknown as { _socket: { write: (b: Buffer) => void } })._socket.write(
        Buffer.from([0x81, 0x01, 0x41])
      ),
    1002
  ]
]

describe("what cannot be answered closes the connection, with a code that tells a client what to do", () => {
  it.each(closes.map(([what, act, code]) => ({ what, act, code })))("$what", async ({ act, code }) => {
    const client = await openRaw(server.url)
    await act(client)
    assert.strictEqual((await client.closed()).code, code)
  })

  it("too many objects are refused, and going on closes with 4029", async () => {
    const client = await greet(server.url, "rita")
    const flood = setInterval(() => client.send(JSON.stringify(Array.from({ length: 64 }, () => ({ t: "ping" })))), 50)
    try {
      const err = await client.next("rate_limited", (frame) => frame.t === "err")
      assert.deepInclude(err, { code: "rate_limited", retryable: true })
      assert.isAtLeast(err["retryAfterMs"] as number, 1)
      assert.strictEqual((await client.closed()).code, 4029)
    } finally {
      clearInterval(flood)
    }
  })
})

describe("the upgrade", () => {
  const upgrade = (path: string, headers: Record<string, string> = {}): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(server.port, "127.0.0.1", () =>
        socket.write(
          `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
            Object.entries(headers)
              .map(([name, value]) => `${name}: ${value}\r\n`)
              .join("") +
            "\r\n"
        )
      )
      socket.once("data", (data) => {
        resolve(data.toString().split("\r\n")[0]!)
        socket.destroy()
      })
      socket.once("error", reject)
    })

  it.each([
    ["an unknown path", "/v1/nothing", {}, "404"],
    ["a foreign origin", "/v1/ws", { Origin: "https://evil.example" }, "403"],
    ["an origin that is none", "/v1/ws", { Origin: "null" }, "403"]
  ] as const)("refuses %s", async (_what, path, headers, status) => {
    assert.include(await upgrade(path, headers), ` ${status} `)
  })
  it("lets its own pages in", async () => {
    assert.include(await upgrade("/v1/ws", { Origin: `http://127.0.0.1:${server.port}` }), " 101 ")
  })
  it("chooses its subprotocol and never echoes another", async () => {
    const line = await upgrade("/v1/ws", { "Sec-WebSocket-Protocol": "secret-token" })
    assert.include(line, " 101 ")
  })
})
