import { describe, expect, it } from "vitest"
import { type Command, DardaClient, type KeyValueStorage } from "../../src/client/index.ts"
import { DEFAULT_LIMITS } from "../../src/domain/protocol/limits.ts"
import type { TimelineEvent } from "../../src/domain/protocol/server-frames.ts"
import { clientOf, eager, ManualClock, message, type Peer, scripted, seqsOf, until } from "./scripted.ts"

const dm = "dm:alice:bob"
const persisted = (cid: string, seq: number, more: { readonly dup?: true } = {}) =>
  ({ t: "ack", cid, conv: dm, state: "persisted", seq, at: 1_700_000_000_000 + seq, ...more }) as const
const bodies = (peer: Peer): readonly unknown[] => peer.frames.flatMap((frame) => ("body" in frame ? [frame.body] : []))

describe("sending", () => {
  it("goes from sending over sent to persisted, and the ack stands for the event", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const events: TimelineEvent[] = []
    client.on("event", (event, own) => {
      events.push(event)
      expect(own).toBe(true)
    })
    const states: string[] = []
    const command = client.send({ to: "bob", body: "hi", replyTo: 3 }, ({ state }) => void states.push(state))
    expect(command.state).toBe("sending")
    expect(command.cid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    const peer = await server.accept()
    await peer.welcome()
    const { cid } = await peer.take("send")
    peer.send({ t: "ack", cid, conv: dm, state: "sent" })
    peer.send(persisted(cid, 4))
    await until("it is persisted", () => client.pendingCount === 0)
    expect(states).toEqual(["sent", "persisted"])
    expect(command).toMatchObject({ conv: dm, seq: 4, state: "persisted" })
    expect(events).toEqual([
      {
        conv: dm,
        seq: 4,
        type: "message",
        by: "alice",
        at: 1_700_000_000_004,
        cid,
        data: { kind: "text", body: "hi", replyTo: 3 }
      }
    ])
  })

  it("sends again what was not acknowledged, in order, with the same cids, before anything newer", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const first = await server.accept()
    await first.welcome()
    for (const body of ["1", "2", "3"]) client.send({ conv: dm, body })
    const cids = [(await first.take("send")).cid, (await first.take("send")).cid, (await first.take("send")).cid]
    first.send(persisted(cids[0] as string, 1), { t: "ack", cid: cids[1] as string, conv: dm, state: "sent" })
    await until("one is persisted", () => client.pendingCount === 2)
    first.cut()
    await until("it is lost", () => client.status.state !== "open")
    client.send({ conv: dm, body: "4" })
    const second = await server.accept()
    await second.welcome()
    await until("all are sent", () => second.frames.length === 3)
    expect(bodies(second)).toEqual(["2", "3", "4"])
    expect((await second.take("send")).cid).toBe(cids[1])
    expect((await second.take("send")).cid).toBe(cids[2])
  })

  it("takes an event with the cid of a waiting command for its answer, and gives it out once", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const sending = client.sendAwait({ conv: dm, body: "hi" })
    const first = await server.accept()
    await first.welcome()
    const { cid } = await first.take("send")
    first.cut()
    const second = await server.accept()
    await second.welcome()
    second.send(message(1, { by: "alice", cid, data: { kind: "text", body: "hi" } }), persisted(cid, 1, { dup: true }))
    expect(await sending).toMatchObject({ conv: dm, seq: 1 })
    second.send(message(2))
    await until("the next has come", () => seqs.length === 2)
    expect(seqs).toEqual([1, 2])
  })

  it("does not take another's event with the same cid for its answer", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    client.send({ conv: dm, body: "hi", cid: "same" })
    await peer.take("send")
    const seqs = seqsOf(client)
    peer.send(message(1, { cid: "same" }))
    await until("the event has come", () => seqs.length === 1)
    expect(client.pendingCount).toBe(1)
  })

  it("sends again on a fresh connection after 30 s without an answer, but not when the broker has it", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const first = await server.accept()
    await first.welcome()
    await until("it is open", () => client.status.state === "open")
    const accepted = client.send({ conv: dm, body: "accepted" })
    await first.take("send")
    first.send({ t: "ack", cid: accepted.cid, conv: dm, state: "sent" })
    await until("it is sent", () => accepted.state === "sent")
    clock.advance(31_000)
    expect(server.peers).toHaveLength(1)
    const { cid } = client.send({ conv: dm, body: "unanswered" })
    await first.take("send")
    clock.advance(29_000)
    expect(server.peers).toHaveLength(1)
    clock.advance(2_000)
    const second = await server.accept()
    await second.welcome()
    expect(await second.take("send")).toMatchObject({ body: "accepted", cid: accepted.cid })
    expect(await second.take("send")).toMatchObject({ body: "unanswered", cid })
  })

  it("repeats what is refused for now after the time the server names; what follows in that conversation waits", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    const refused = client.send({ conv: dm, body: "1" })
    await peer.take("send")
    peer.send({ t: "err", cid: refused.cid, code: "busy", message: "later", retryable: true, retryAfterMs: 700 })
    const errors: unknown[] = []
    client.on("error", (error) => void errors.push(error))
    peer.send({ t: "err", code: "internal", message: "a sign that the refusal is in", retryable: false })
    await until("the refusal is in", () => errors.length === 1)
    client.send({ conv: dm, body: "2" })
    client.send({ conv: "dm:alice:carol", body: "elsewhere" })
    expect(await peer.take("send")).toMatchObject({ body: "elsewhere" })
    clock.advance(699)
    expect(peer.frames).toEqual([])
    clock.advance(1)
    expect(await peer.take("send")).toMatchObject({ body: "1", cid: refused.cid })
    expect(await peer.take("send")).toMatchObject({ body: "2" })
    expect(refused.state).toBe("sending")
  })

  it("fails what is refused for good, and nothing else", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    const refused = client.sendAwait({ conv: dm, body: "1" })
    const other = client.send({ conv: dm, body: "2" })
    const { cid } = await peer.take("send")
    peer.send({ t: "err", cid, code: "not_found", message: "no such conversation", retryable: false })
    await expect(refused).rejects.toMatchObject({
      code: "not_found",
      message: "no such conversation",
      retryable: false
    })
    expect(client.pending).toEqual([other])
  })

  it("has no more on the wire than the server allows", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome({ limits: { ...DEFAULT_LIMITS, perSecond: 1_000_000, inFlight: 2 } })
    for (let index = 1; index <= 4; index++) client.send({ conv: dm, body: `${index}` })
    await until("two are sent", () => peer.frames.length === 2)
    const { cid } = await peer.take("send")
    peer.send(persisted(cid, 1))
    await until("a third is sent", () => peer.frames.length === 2)
    expect(bodies(peer)).toEqual(["2", "3"])
  })

  it("creates groups and changes them by reply, repeated safely with the same cid", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const events: TimelineEvent[] = []
    client.on("event", (event) => void events.push(event))
    const creating = client.create({ members: ["bob"], title: "T" })
    const first = await server.accept()
    await first.welcome()
    const before = await first.take("create")
    first.cut()
    const second = await server.accept()
    await second.welcome()
    const create = await second.take("create")
    expect(create.cid).toBe(before.cid)
    const conv = "g:0f0e0d0c-0b0a-8908-8706-050403020100"
    second.send({ t: "reply", rid: create.rid, conv, seq: 1, at: 5 })
    expect(await creating).toMatchObject({ conv, seq: 1, at: 5 })
    const adding = client.members({ conv, add: ["carol"] })
    second.send({ t: "reply", rid: (await second.take("members")).rid, seq: 2, at: 6 })
    expect(await adding).toMatchObject({ conv, seq: 2 })
    expect(events).toMatchObject([
      { type: "created", seq: 1, data: { kind: "group", title: "T", members: ["alice", "bob"] } },
      { type: "members", seq: 2, data: { added: ["carol"] } }
    ])
  })

  it("keeps what is not persisted across a restart, for the same user only, before what is newer", async () => {
    const server = await scripted()
    const map = new Map<string, string>()
    const storage: KeyValueStorage = {
      getItem: (key) => map.get(key) ?? null,
      setItem: (key, value) => void map.set(key, value),
      removeItem: (key) => void map.delete(key)
    }
    const options = { url: server.url, token: "t", storage, environment: eager }
    const first = new DardaClient(options)
    first.connect().catch(() => {})
    const peer = await server.accept()
    const { device } = await peer.welcome()
    expect(new DardaClient(options).device).toBe(device)
    first.send({ conv: dm, body: "old" })
    const { cid } = await peer.take("send")
    first.close()

    const other = clientOf(server, { ...options, device: "d2" })
    await (await server.accept()).welcome({ user: "mallory" })
    await until("it is open", () => other.status.state === "open")
    expect(other.pendingCount).toBe(0)
    other.close()

    const second = clientOf(server, options)
    second.send({ conv: dm, body: "new" })
    const again = await server.accept()
    await again.welcome()
    expect(await again.take("send")).toEqual({ t: "send", cid, conv: dm, body: "old" })
    expect(await again.take("send")).toMatchObject({ body: "new" })
  })
})

describe("receiving", () => {
  it("fills a hole by sync, and gives every event out once and in order", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(5), message(8), message(9), message(5))
    const sync = await peer.take("sync")
    expect(sync).toMatchObject({ conv: dm, after: 5 })
    // While the answer is on its way, the stream goes on.
    peer.send(message(10))
    peer.send({ t: "reply", rid: sync.rid, events: [6, 7].map((seq) => message(seq)), head: 10, more: false })
    await until("all have come", () => seqs.length === 6)
    peer.send(message(7), message(11))
    await until("the next has come", () => seqs.length === 7)
    expect(seqs).toEqual([5, 6, 7, 8, 9, 10, 11])
  })

  it("reads on while there is more", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(1), message(6))
    const first = await peer.take("sync")
    peer.send({ t: "reply", rid: first.rid, events: [2, 3].map((seq) => message(seq)), head: 6, more: true })
    const second = await peer.take("sync")
    expect(second.after).toBe(3)
    peer.send({ t: "reply", rid: second.rid, events: [4, 5, 6].map((seq) => message(seq)), head: 6, more: false })
    await until("all have come", () => seqs.length === 6)
    expect(seqs).toEqual([1, 2, 3, 4, 5, 6])
  })

  it("an ack that comes before the events below it does not hide them", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(1))
    const sending = client.sendAwait({ conv: dm, body: "hi" })
    const { cid } = await peer.take("send")
    peer.send(persisted(cid, 3), message(2))
    await sending
    await until("all have come", () => seqs.length === 3)
    expect(seqs).toEqual([1, 2, 3])
  })

  it("gives the replay time to fill holes, and does not move its cursor past one", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const first = await server.accept()
    await first.welcome()
    first.send(message(1), { t: "cursor", cursor: "c1" }, message(3), { t: "cursor", cursor: "c3" })
    await first.take("sync")
    first.cut()
    const second = await server.accept()
    // What came after the hole is not counted as had: the replay begins before it.
    expect((await second.welcome()).resume).toEqual({ cursor: "c1", seqs: { [dm]: 1 } })
    const sync = await second.take("sync")
    // Another hole, which the replay closes too; nothing is asked about either.
    const far = seqsOf(client, "dm:alice:carol")
    second.send(message(1, { conv: "dm:alice:carol" }), message(3, { conv: "dm:alice:carol" }))
    second.send(message(2, { conv: "dm:alice:carol" }), message(2), message(3), message(4), {
      t: "cursor",
      cursor: "c4"
    })
    second.send({ t: "reply", rid: sync.rid, events: [message(2)], head: 4, more: false })
    await until("all have come", () => seqs.length === 4)
    expect(seqs).toEqual([1, 2, 3, 4])
    expect(far).toEqual([1, 2, 3])
    await until("the cursor moved", () => client.position()?.cursor === "c4")
    client.send({ to: "bob", body: "a sign that all before it was sent" })
    await second.take("send")
    expect(second.frames.filter(({ t }) => t === "sync")).toEqual([])
  })

  it("says reset and goes on after its head", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const resets: unknown[] = []
    client.on("reset", (conv, head) => void resets.push([conv, head, [...seqs]]))
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(1), { t: "reset", conv: dm, head: 900 }, message(900), message(901))
    await until("the next has come", () => seqs.length === 2)
    expect(resets).toEqual([[dm, 900, [1]]])
    expect(seqs).toEqual([1, 901])
  })

  it("drops a conversation that is gone, also when that shows only as a hole", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const gone: string[] = []
    client.on("gone", (conv) => void gone.push(conv))
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(1), { t: "gone", conv: dm })
    await until("it is gone", () => gone.length === 1)
    expect(client.lastSeq(dm)).toBe(0)
    peer.send(message(5), message(7))
    const { rid } = await peer.take("sync")
    peer.send({ t: "err", rid, code: "not_found", message: "no such conversation", retryable: false })
    await until("it is gone", () => gone.length === 2)
  })

  it("ignores types and fields it does not know", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const seqs = seqsOf(client)
    const peer = await server.accept()
    await peer.welcome()
    peer.send({ t: "confetti", colour: "red" } as never, null as never, { ...message(1), shiny: true } as never)
    await until("the event has come", () => seqs.length === 1)
    expect(client.status.state).toBe("open")
  })

  it("a listener that throws keeps nothing from the others", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const reported: unknown[] = []
    const before = globalThis.reportError
    globalThis.reportError = (error) => void reported.push(error)
    client.on("event", () => {
      throw new Error("oops")
    })
    const seqs = seqsOf(client)
    const peer = await server.accept()
    await peer.welcome()
    peer.send(message(1), message(2))
    await until("both have come", () => seqs.length === 2)
    globalThis.reportError = before
    expect(reported).toHaveLength(2)
  })
})

describe("requests", () => {
  it("are asked again after a reconnect", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const asking = client.history({ conv: dm, limit: 5 })
    const first = await server.accept()
    await first.welcome()
    await first.take("history")
    first.cut()
    const second = await server.accept()
    await second.welcome()
    const { rid } = await second.take("history")
    second.send({ t: "reply", rid, messages: [], head: 0, more: false })
    expect(await asking).toEqual({ messages: [], head: 0, more: false })
  })

  it("fail with the server's reason, or after 30 s", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const refused = client.roster({ conv: dm })
    const unanswered = client.convs()
    const peer = await server.accept()
    await peer.welcome()
    const { rid } = await peer.take("roster")
    peer.send({ t: "err", rid, code: "not_found", message: "none", retryable: false })
    await expect(refused).rejects.toMatchObject({ code: "not_found" })
    clock.advance(30_000)
    await expect(unanswered).rejects.toMatchObject({ code: "timeout" })
  })

  it("are asked again where the refusal says so", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const peer = await server.accept()
    await peer.welcome()
    const asking = client.sync({ conv: dm, after: 0 })
    const first = await peer.take("sync")
    peer.send({ t: "err", rid: first.rid, code: "unavailable", message: "soon", retryable: true, retryAfterMs: 5 })
    const second = await peer.take("sync")
    expect(second).toEqual(first)
    peer.send({ t: "reply", rid: second.rid, events: [], head: 0, more: false })
    expect(await asking).toEqual({ events: [], head: 0, more: false })
  })

  it("watch presence over reconnects", async () => {
    const server = await scripted()
    const client = clientOf(server)
    const changes: unknown[] = []
    client.on("presence", ({ user, online }) => void changes.push([user, online]))
    const first = await server.accept()
    await first.welcome()
    const asking = client.presence(["bob"], true)
    first.send({ t: "reply", rid: (await first.take("presence")).rid, users: { bob: { online: true } } })
    expect(await asking).toEqual({ users: { bob: { online: true } } })
    first.cut()
    const second = await server.accept()
    await second.welcome()
    const again = await second.take("presence")
    expect(again).toMatchObject({ users: ["bob"], watch: true })
    second.send({ t: "reply", rid: again.rid, users: { bob: { online: false } } })
    await until("it is given out", () => changes.length === 1)
    expect(changes).toEqual([["bob", false]])
  })
})

describe("marks and typing", () => {
  it("merges marks, sends them only forward, and again after a connection that broke", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    for (let seq = 1; seq <= 50; seq++) client.mark(dm, { delivered: seq })
    client.mark(dm, { seen: 49 })
    client.mark(dm, { seen: 20 })
    clock.advance(250)
    expect(await peer.take("mark")).toEqual({ t: "mark", conv: dm, delivered: 50, seen: 49 })
    client.mark(dm, { delivered: 50, seen: 49 })
    clock.advance(1_000)
    peer.cut()
    await until("it is lost", () => client.status.state === "waiting")
    expect(peer.frames).toEqual([])
    clock.advance(10_000)
    const second = await server.accept()
    await second.welcome()
    expect(await second.take("mark")).toEqual({ t: "mark", conv: dm, delivered: 50, seen: 49 })
  })

  it("tells typing once per two seconds, and its end at once", async () => {
    const server = await scripted()
    const clock = new ManualClock()
    const client = clientOf(server, { environment: { ...eager, clock }, probeAfterMs: 0 })
    const peer = await server.accept()
    await peer.welcome()
    await until("it is open", () => client.status.state === "open")
    for (let key = 0; key < 10; key++) client.typing(dm, true)
    client.typing(dm, false)
    client.typing(dm, false)
    client.typing(dm, true)
    await until("all are sent", () => peer.frames.length === 3)
    expect(peer.frames.map((frame) => "on" in frame && frame.on)).toEqual([true, false, true])
    clock.advance(2_000)
    client.typing(dm, true)
    expect(await peer.take("typing")).toEqual({ t: "typing", conv: dm, on: true })
  })
})

it("carries ten thousand messages without a promise or timer for each", async () => {
  const server = await scripted()
  const client = clientOf(server)
  const peer = await server.accept()
  await peer.welcome({ limits: { ...DEFAULT_LIMITS, perSecond: 1_000_000, inFlight: 1_000_000 } })
  await until("it is open", () => client.status.state === "open")
  let done = 0
  const last: (Command | undefined)[] = []
  for (let index = 0; index < 10_000; index++) {
    last[0] = client.send({ conv: dm, body: `${index}` }, ({ state }) => {
      if (state === "persisted") done++
    })
  }
  await until("all are sent", () => peer.frames.length === 10_000)
  for (const [index, frame] of peer.frames.entries()) if (frame.t === "send") peer.send(persisted(frame.cid, index + 1))
  await until("all are persisted", () => done === 10_000)
  expect(last[0]).toMatchObject({ seq: 10_000 })
})
