/** What one client does to hurt the server or the others, and what it costs. */
import { connect, type Socket } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type RunningServer, startServer } from "../support/server.ts"
import { greet, openRaw } from "../support/ws.ts"

let server: RunningServer
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server.stop())

const UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket"

/** Sends a text on a socket whose own side stays open, and waits for the first line of the answer. */
const ask = (text: string): Promise<{ readonly socket: Socket; readonly line: string }> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true })
    socket.once("error", reject)
    socket.once("data", (data) => resolve({ socket, line: data.toString().split("\r\n")[0]! }))
    socket.write(text)
  })

/** Waits until the server has let go of a socket: what is written to it then fails. */
const released = (socket: Socket): Promise<void> =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("the server still holds the socket after 10 s")), 10_000)
    const writing = setInterval(() => socket.write("x"), 50)
    socket.on("error", () => {
      clearTimeout(late)
      clearInterval(writing)
      socket.destroy()
      resolve()
    })
  })

describe("sockets that are held open", () => {
  it("by one who was refused an upgrade and never closes: cut", async () => {
    const { line, socket } = await ask(`GET /nope HTTP/1.1\r\nHost: x\r\n${UPGRADE}\r\n\r\n`)
    assert.strictEqual(line, "HTTP/1.1 404 Not Found")
    await released(socket)
  })
  it("by one who speaks no HTTP and never closes: cut", async () => {
    const { line, socket } = await ask("garbage\r\n\r\n")
    assert.strictEqual(line, "HTTP/1.1 400 Bad Request")
    await released(socket)
  })
})

describe("upgrades to something else", () => {
  it("are requests like any other: HTTP clients offer HTTP/2 with them", async () => {
    const { line, socket } = await ask(
      "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
    )
    socket.destroy()
    assert.strictEqual(line, "HTTP/1.1 200 OK")
  })
})

describe("a message in pieces", () => {
  it("is taken when they are of use", async () => {
    const client = await greet(server.url, "ann")
    const text = JSON.stringify({ t: "send", cid: "pieces", to: "bob", body: "x".repeat(10_000) })
    for (let at = 0; at < text.length; at += 100) client.socket.send(text.slice(at, at + 100), { fin: false })
    client.socket.send("", { fin: true })
    assert.strictEqual((await client.next("ack", (frame) => frame["cid"] === "pieces")).t, "ack")
    client.close()
  })
  it("closes the connection with 1008 when they are many and tiny", async () => {
    const client = await openRaw(server.url)
    for (let i = 0; i < 300; i++) client.socket.send(" ", { fin: false })
    assert.strictEqual((await client.closed()).code, 1008)
  })
})

describe("names that every object has", () => {
  it("are users, cids and emojis like others", async () => {
    const client = await greet(server.url, "__proto__")
    client.send({ t: "create", rid: "r", cid: "__proto__", members: ["constructor"] })
    const { conv } = await client.next("reply", (frame) => frame.t === "reply")
    client.send({ t: "send", cid: "constructor", conv, body: "__proto__" })
    for (const emoji of ["__proto__", "constructor"])
      client.send({ t: "react", cid: `r${emoji}`, conv, target: 2, emoji, on: true })
    for (let i = 0; i < 3; i++) await client.next("ack", (frame) => frame.t === "ack")
    client.send({ t: "history", rid: "h", conv })
    const page = await client.next("history", (frame) => frame["rid"] === "h")
    const [message] = page["messages"] as ReadonlyArray<{ readonly reactions: object }>
    assert.deepStrictEqual(Object.entries(message!.reactions), [
      ["__proto__", ["__proto__"]],
      ["constructor", ["__proto__"]]
    ])
    assert.sameMembers(Object.keys(page["receipts"] as object), ["__proto__", "constructor"])
    client.close()
  })
})
