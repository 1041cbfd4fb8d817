import { describe, expect, it } from "vitest"
import { DardaClient, type Status } from "../../src/client/index.ts"
import { DEFAULT_LIMITS } from "../../src/domain/protocol/limits.ts"
import { clientOf, eager, ManualClock, message, scripted, until } from "./scripted.ts"

describe("connecting", () => {
  it("says hello with its token and device and is open after welcome", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    expect(await peer.welcome()).toEqual({ t: "hello", v: 1, token: "token", device: "d1" })
    await until("it is open", () => client.status.state === "open")
    expect(client.user).toBe("alice")
    expect(client.status).toMatchObject({ state: "open", sid: "s", user: "alice" })
  })

  it("says hello with a ticket where it is given one", async () => {
    const server = await scripted()
    clientOf(server, { token: async () => ({ ticket: "once" }) })
    expect(await (await server.accept()).take("hello")).toEqual({ t: "hello", v: 1, ticket: "once", device: "d1" })
  })

  it("tries again when a token cannot be had, when the server is silent, and when it speaks no JSON", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    let tokens = 0
    const client = clientOf(server, {
      environment: { ...eager, clock },
      token: async () => {
        if (++tokens === 1) throw new Error("the identity provider sleeps")
        return "token"
      }
    })
    await until("it waits", () => client.status.state === "waiting")
    expect(client.status).toMatchObject({ reason: expect.stringContaining("sleeps") })
    clock.advance(250)
    await (await server.accept()).take("hello")
    clock.advance(10_000)
    expect(client.status).toMatchObject({ state: "waiting", reason: "no welcome in time" })
    clock.advance(500)
    await (await server.accept()).welcome()
    await until("it is open", () => client.status.state === "open")
  })

  it("fails to connect, with a reason, when the url can never work", async () => {
    const client = new DardaClient({ url: "no url at all", token: "x", device: "d" })
    await expect(client.connect()).rejects.toMatchObject({
      name: "DardaError",
      message: expect.stringContaining("no url at all")
    })
  })
})

describe("reconnecting", () => {
  it("pauses at random, up to a bound that doubles from 250 ms to 10 s", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock } })
    const pauses: number[] = []
    for (let attempt = 0; attempt < 8; attempt++) {
      ;(await server.accept()).cut()
      await until("it waits", () => client.status.state === "waiting")
      const { retryAt } = client.status as Status & { state: "waiting" }
      pauses.push(retryAt - clock.now())
      clock.advance(retryAt - clock.now())
    }
    // The test's chance is always one half.
    expect(pauses).toEqual([125, 250, 500, 1000, 2000, 4000, 5000, 5000])
  })

  it("starts from the shortest pause again after a connection that lasted", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    for (let attempt = 0; attempt < 5; attempt++) {
      ;(await server.accept()).cut()
      await until("it waits", () => client.status.state === "waiting")
      clock.advance(10_000)
    }
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    clock.advance(10_000)
    peer.cut()
    await until("it waits", () => client.status.state === "waiting")
    expect((client.status as Status & { state: "waiting" }).retryAt - clock.now()).toBe(125)
  })

  it("reconnects at once when the network is back", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    let online = (): void => {}
    const client = clientOf(server, {
      environment: { ...eager, clock, onOnline: (run) => ((online = run), () => {}) }
    })
    ;(await server.accept()).cut()
    await until("it waits", () => client.status.state === "waiting")
    online()
    await (await server.accept()).welcome()
    await until("it is open", () => client.status.state === "open")
  })

  it("resumes with its cursor and what it has of each conversation", async () => {
    const server = await scripted()
    clientOf(server)
    const first = await server.accept()
    expect((await first.welcome()).resume).toBeUndefined()
    first.send(message(7), message(8), { t: "cursor", cursor: "c8" })
    first.cut()
    const hello = await (await server.accept()).take("hello")
    expect(hello.resume).toEqual({ cursor: "c8", seqs: { "dm:alice:bob": 8 } })
    expect(hello.device).toBe("d1")
  })

  it("names at most 500 conversations on resume, those that were active last", async () => {
    const server = await scripted()
    clientOf(server)
    const first = await server.accept()
    await first.welcome()
    for (let user = 0; user < 600; user++) first.send(message(1, { conv: `dm:alice:u${user}` }))
    first.send({ t: "cursor", cursor: "c1" })
    first.close(4001)
    const { resume } = await (await server.accept()).take("hello")
    expect(Object.keys(resume?.seqs ?? {})).toHaveLength(500)
    expect(resume?.seqs).toHaveProperty("dm:alice:u599")
    expect(resume?.seqs).not.toHaveProperty("dm:alice:u99")
  })

  it("goes elsewhere within the bounds of drain, whether it is closed before or not", async () => {
    for (const closes of [true, false]) {
      const server = await scripted()
      const clock = new ManualClock()
      const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
      const peer = await server.accept()
      await peer.welcome()
      const got: string[] = []
      client.on("event", ({ cid }) => void got.push(cid))
      peer.send({ t: "drain", reconnectAfterMs: { min: 2_000, max: 4_000 }, deadlineMs: 10_000 }, message(1))
      await until("drain has come", () => got.length === 1)
      if (closes) {
        peer.close(4000)
        await until("it waits", () => client.status.state === "waiting")
      }
      clock.advance(2_999)
      expect(server.peers).toHaveLength(1)
      clock.advance(1)
      await (await server.accept()).take("hello")
    }
  })

  it("asks for a sign of life after 40 s of silence, and replaces a connection that gives none", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock } })
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    const pongs: unknown[] = []
    client.on("event", (event) => void pongs.push(event))
    clock.advance(40_000)
    await peer.take("ping")
    peer.send({ t: "pong" }, message(1))
    await until("the answer has come", () => pongs.length === 1)
    clock.advance(40_000)
    await peer.take("ping")
    expect(server.peers).toHaveLength(1)
    clock.advance(10_000)
    await (await server.accept()).take("hello")
  })
})

describe("close codes", () => {
  it.each([
    [4001, "waiting"],
    [4003, "waiting"],
    [4008, "waiting"],
    [1001, "waiting"],
    [1011, "waiting"],
    [4009, "stop"],
    [4503, "stop"],
    [4500, "login"],
    [4501, "fix"],
    [1003, "fix"],
    [1009, "fix"]
  ])("%d: %s", async (code, what) => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock } })
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    peer.close(code)
    await until("it notices", () => client.status.state !== "open")
    expect(client.status).toMatchObject(
      what === "waiting" ? { state: "waiting", code } : { state: "stopped", why: what, code }
    )
    clock.advance(60_000)
    if (what === "waiting") await server.accept()
    else expect(server.peers).toHaveLength(1)
  })

  it("4004 gets a new token where there is a way, and stops for a login where there is none", async () => {
    const server = await scripted()
    let tokens = 0
    clientOf(server, { token: async () => `token ${++tokens}` })
    const first = await server.accept()
    expect(await first.welcome()).toMatchObject({ token: "token 1" })
    first.close(4004)
    expect(await (await server.accept()).take("hello")).toMatchObject({ token: "token 2", resume: { cursor: "c0" } })

    const other = await scripted()
    const stuck = clientOf(other)
    ;(await other.accept()).close(4004)
    await until("it stops", () => stuck.status.state === "stopped")
    expect(stuck.status).toMatchObject({ why: "login" })
  })

  it("4029 waits for seconds, not for a quarter of one", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock } })
    const peer = await server.accept()
    await peer.welcome()
    peer.close(4029)
    await until("it waits", () => client.status.state === "waiting")
    expect((client.status as Status & { state: "waiting" }).retryAt - clock.now()).toBeGreaterThanOrEqual(5_000)
  })

  it("a refused login fails connect, and connect may be called again", async () => {
    const server = await scripted()
    const client = new DardaClient({ url: server.url, token: "bad", device: "d", environment: eager })
    const connecting = client.connect()
    ;(await server.accept()).close(4500)
    await expect(connecting).rejects.toMatchObject({ code: "unauthorized" })
    const again = client.connect()
    await (await server.accept()).welcome()
    expect(await again).toMatchObject({ user: "alice" })
    client.close()
    expect(client.status).toMatchObject({ state: "stopped", why: "closed" })
  })
})

describe("batches", () => {
  it("puts what is sent in one turn into arrays of at most 64, in order", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    for (let index = 0; index < 150; index++) client.send({ to: "bob", body: `${index}` })
    await until("all are sent", () => peer.frames.length === 150)
    expect(peer.texts.slice(1).map((text) => (JSON.parse(text) as unknown[]).length)).toEqual([64, 64, 22])
    expect(peer.frames.map((frame) => "body" in frame && Number(frame.body))).toEqual(
      Array.from({ length: 150 }, (_, index) => index)
    )
  })

  it("keeps every array within 64 KiB, also where a character takes four bytes", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    for (let index = 0; index < 20; index++) client.send({ to: "bob", body: "👋".repeat(5_000) })
    await until("all are sent", () => peer.frames.length === 20)
    expect(Math.max(...peer.texts.map((text) => Buffer.byteLength(text)))).toBeLessThanOrEqual(65_536)
    expect(peer.texts.length).toBeLessThan(20)
  })

  it("fails a message that no frame can hold, and sends the others", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    const refused = client.sendAwait({ to: "bob", body: "x".repeat(70_000) })
    client.send({ to: "bob", body: "short" })
    await expect(refused).rejects.toMatchObject({ code: "too_large" })
    expect(await peer.take("send")).toMatchObject({ body: "short" })
    expect(client.pendingCount).toBe(1)
  })

  it("keeps to the server's rate rather than being refused", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const peer = await server.accept()
    await peer.welcome({ limits: { ...DEFAULT_LIMITS, perSecond: 10 } })
    await until("it is open", () => client.status.state === "open")
    for (let index = 0; index < 25; index++) client.send({ to: "bob", body: `${index}` })
    await until("the allowance is used", () => peer.frames.length === 10)
    clock.advance(1_000)
    await until("the next second's are sent", () => peer.frames.length === 20)
    clock.advance(500)
    await until("the rest is sent", () => peer.frames.length === 25)
    expect(peer.frames.map((frame) => "body" in frame && Number(frame.body))).toEqual(
      Array.from({ length: 25 }, (_, index) => index)
    )
  })
})
