import { describe, expect, it } from "vitest"
import { type DardaClient, shown, Store, tick } from "../../src/client/index.ts"
import type { ConversationItem, FoldedMessage, ServerFrame } from "../../src/domain/protocol/server-frames.ts"
import { clientOf, message, type Peer, type Scripted, scripted, until } from "./scripted.ts"

const dm = "dm:alice:bob"
const folded = (seq: number, more: Partial<FoldedMessage> = {}): FoldedMessage => ({
  conv: dm,
  seq,
  by: "bob",
  at: 1_700_000_000_000 + seq,
  cid: `bob-${seq}`,
  kind: "text",
  body: `message ${seq}`,
  ...more
})
const item = (more: Partial<ConversationItem> = {}): ConversationItem => ({
  conv: dm,
  kind: "dm",
  members: ["alice", "bob"],
  head: 3,
  seen: 1,
  unread: 2,
  last: folded(3),
  ...more
})
const event = (seq: number, type: string, data: object, by = "bob"): ServerFrame =>
  message(seq, { type, data, by } as never)

interface Rig {
  readonly server: Scripted
  readonly client: DardaClient
  readonly store: Store
  readonly peer: Peer
}

const rig = async (): Promise<Rig> => {
  const server = await scripted()
  const client = clientOf(server)
  const store = new Store(client)
  const peer = await server.accept()
  await peer.welcome()
  await until("it is open", () => client.status.state === "open")
  return { server, client, store, peer }
}
const open = async (
  { store, peer }: Rig,
  messages: readonly FoldedMessage[],
  head: number,
  more = false
): Promise<void> => {
  const opening = store.open(dm)
  peer.send({ t: "reply", rid: (await peer.take("history")).rid, messages, head, more })
  await opening
}
const seqs = (store: Store): readonly number[] => store.conversation(dm).messages.map(({ seq }) => seq)

describe("the list", () => {
  it("is read in pages and kept up to date by events", async () => {
    const { store, peer } = await rig()
    const reading = store.loadConversations()
    peer.send({ t: "reply", rid: (await peer.take("convs")).rid, items: [item()], next: "n" })
    expect(await reading).toBe(true)
    expect(store.conversation(dm)).toMatchObject({ head: 3, seen: 1, unread: 2, last: { seq: 3 } })
    const further = store.loadConversations()
    const second = await peer.take("convs")
    expect(second.after).toBe("n")
    peer.send({ t: "reply", rid: second.rid, items: [item({ conv: "dm:alice:carol", last: folded(1, { at: 1 }) })] })
    expect(await further).toBe(false)
    expect(await store.loadConversations()).toBe(false)

    const changes: string[] = []
    store.on("change", (convs) => void changes.push(...convs))
    peer.send(message(4), message(5))
    await until("the events are in", () => store.conversation(dm).head === 5)
    expect(store.conversation(dm)).toMatchObject({ unread: 4, last: { seq: 5, body: "message 5" } })
    expect(store.sorted().map(({ conv }) => conv)).toEqual([dm, "dm:alice:carol"])
    await until("the change is told, once for both", () => changes.length > 0)
    expect(changes).toEqual([dm])
    // What came is delivered, without anyone having to ask.
    expect(await peer.take("mark")).toMatchObject({ conv: dm, delivered: 5 })
  })

  it("counts what is unread until it is seen, here or on another device", async () => {
    const { store, peer } = await rig()
    peer.send(message(1), message(2), message(3, { by: "alice", cid: "other-device" }))
    await until("the events are in", () => store.conversation(dm).head === 3)
    expect(store.conversation(dm).unread).toBe(2)
    store.markSeen(dm)
    expect(store.conversation(dm).unread).toBe(0)
    await until("the mark is sent", () => peer.frames.some((frame) => frame.t === "mark" && frame.seen === 3))
    peer.send(message(4), message(5), { t: "receipt", conv: dm, user: "alice", seen: 4 })
    await until("the receipt is in", () => store.conversation(dm).seen === 4)
    expect(store.conversation(dm).unread).toBe(1)
  })
})

describe("a conversation", () => {
  it("shows history, and folds what comes into it", async () => {
    const it = await rig()
    await open(it, [folded(1), folded(2)], 2)
    it.peer.send(
      message(3),
      event(4, "edited", { target: 1, body: "better" }),
      event(5, "reaction", { target: 2, emoji: "__proto__", on: true }, "carol"),
      event(6, "deleted", { target: 3 }),
      event(7, "edited", { target: 3, body: "too late" })
    )
    await until("all are in", () => it.store.conversation(dm).head === 7)
    const { messages } = it.store.conversation(dm)
    expect(messages).toMatchObject([
      { seq: 1, body: "better", editedAt: expect.any(Number) },
      { seq: 2 },
      { seq: 3, deleted: true }
    ])
    expect(Object.entries(messages[1]?.reactions ?? {})).toEqual([["__proto__", ["carol"]]])
    expect(messages[2]).not.toHaveProperty("body")
    it.peer.send(event(8, "reaction", { target: 2, emoji: "__proto__", on: false }, "carol"))
    await until("it is in", () => it.store.conversation(dm).head === 8)
    expect(it.store.conversation(dm).messages[1]).not.toHaveProperty("reactions")
  })

  it("misses nothing that happens while a page is on its way", async () => {
    const { store, peer } = await rig()
    const opening = store.open(dm)
    const { rid } = await peer.take("history")
    // The page was made before the edit and message 4, and arrives after them.
    peer.send(event(3, "edited", { target: 1, body: "better" }), message(4))
    await until("the events are in", () => store.conversation(dm).head === 4)
    peer.send({ t: "reply", rid, messages: [folded(1), folded(2)], head: 2, more: false })
    await opening
    expect(store.conversation(dm).messages).toMatchObject([{ seq: 1, body: "better" }, { seq: 2 }, { seq: 4 }])
  })

  it("reads older pages on demand until there are none, and forgets them when it is closed", async () => {
    const it = await rig()
    const newest = Array.from({ length: 200 }, (_, index) => folded(101 + index))
    await open(it, newest, 300, true)
    const scrolling = it.store.loadOlder(dm)
    const { rid, before } = await it.peer.take("history")
    expect(before).toBe(101)
    it.peer.send({
      t: "reply",
      rid,
      messages: Array.from({ length: 100 }, (_, index) => folded(1 + index)),
      head: 300,
      more: false
    })
    expect(await scrolling).toBe(false)
    expect(seqs(it.store)).toHaveLength(300)
    expect(seqs(it.store)[0]).toBe(1)
    it.store.close(dm)
    expect(seqs(it.store)).toHaveLength(200)
    expect(it.store.conversation(dm).more).toBe(true)
  })

  it("is read anew after a reset while it is open", async () => {
    const it = await rig()
    await open(it, [folded(1)], 1)
    it.peer.send({ t: "reset", conv: dm, head: 500 })
    const { rid } = await it.peer.take("history")
    expect(seqs(it.store)).toEqual([])
    it.peer.send(message(501), { t: "reply", rid, messages: [folded(499), folded(500)], head: 500, more: true })
    await until("it is read", () => it.store.conversation(dm).loaded)
    expect(seqs(it.store)).toEqual([499, 500, 501])
  })

  it("does not use a page that a reset has made void", async () => {
    const { store, peer } = await rig()
    const opening = store.open(dm)
    const first = await peer.take("history")
    peer.send(
      { t: "reset", conv: dm, head: 500 },
      { t: "reply", rid: first.rid, messages: [folded(1)], head: 1, more: false }
    )
    const second = await peer.take("history")
    peer.send({ t: "reply", rid: second.rid, messages: [folded(500)], head: 500, more: true })
    await opening
    expect(seqs(store)).toEqual([500])
  })

  it("goes when its user was removed", async () => {
    const { store, peer } = await rig()
    const conv = "g:0f0e0d0c-0b0a-8908-8706-050403020100"
    peer.send(message(1, { conv, type: "created", data: { kind: "group", title: "T", members: ["alice", "bob"] } }))
    await until("it is there", () => store.conversations.has(conv))
    expect(store.conversation(conv)).toMatchObject({
      kind: "group",
      title: "T",
      members: ["alice", "bob"],
      more: false
    })
    peer.send(message(2, { conv, type: "members", data: { removed: ["alice"] } }))
    await until("it is gone", () => !store.conversations.has(conv))
  })
})

describe("one's own", () => {
  it("message is shown at once, with its state, and is a message like others once persisted", async () => {
    const it = await rig()
    await open(it, [folded(1)], 1)
    const { cid } = it.client.send({ to: "bob", body: "mine" })
    expect(it.store.conversation(dm).outgoing).toMatchObject([{ cid, state: "sending" }])
    await it.peer.take("send")
    it.peer.send({ t: "ack", cid, conv: dm, state: "sent" })
    await until("it is sent", () => it.store.conversation(dm).outgoing[0]?.state === "sent")
    it.peer.send({ t: "ack", cid, conv: dm, state: "persisted", seq: 2, at: 5 })
    await until("it is persisted", () => it.store.conversation(dm).outgoing.length === 0)
    expect(it.store.conversation(dm)).toMatchObject({
      unread: 0,
      messages: [{ seq: 1 }, { seq: 2, by: "alice", body: "mine" }]
    })
    expect(tick(it.store.conversation(dm), 2, "alice")).toBe("persisted")
    it.peer.send({ t: "receipt", conv: dm, user: "bob", delivered: 2 })
    await until("it is delivered", () => tick(it.store.conversation(dm), 2, "alice") === "delivered")
    it.peer.send({ t: "receipt", conv: dm, user: "bob", seen: 2 })
    await until("it is seen", () => tick(it.store.conversation(dm), 2, "alice") === "seen")
  })

  it("message never vanishes between its answer and its event, when there is a hole", async () => {
    const it = await rig()
    await open(it, [folded(1)], 1)
    it.peer.send(message(2))
    await until("it is in", () => it.store.conversation(dm).head === 2)
    const { cid } = it.client.send({ to: "bob", body: "mine" })
    await it.peer.take("send")
    it.peer.send({ t: "ack", cid, conv: dm, state: "persisted", seq: 4, at: 5 })
    const { rid } = await it.peer.take("sync")
    expect(it.store.conversation(dm).outgoing).toMatchObject([{ cid, state: "persisted" }])
    it.peer.send({ t: "reply", rid, events: [message(3)], head: 4, more: false })
    await until("the hole is filled", () => it.store.conversation(dm).outgoing.length === 0)
    expect(seqs(it.store)).toEqual([1, 2, 3, 4])
  })

  it("edit, deletion and reaction show at once and are taken back when refused", async () => {
    const it = await rig()
    await open(it, [folded(1, { by: "alice" })], 1)
    const now = () => shown(it.store.conversation(dm), it.store.conversation(dm).messages[0] as FoldedMessage, "alice")
    it.client.edit({ conv: dm, target: 1, body: "better" })
    it.client.react({ conv: dm, target: 1, emoji: "👍", on: true })
    expect(now()).toMatchObject({ body: "better", reactions: { "👍": ["alice"] } })
    const { cid } = await it.peer.take("edit")
    it.peer.send({ t: "err", cid, code: "forbidden", message: "only the author edits", retryable: false })
    await until("it is taken back", () => now().body === "message 1")
    expect(now().reactions).toEqual({ "👍": ["alice"] })
    it.store.discard(dm, cid)
    it.client.delete({ conv: dm, target: 1 })
    expect(now()).toMatchObject({ deleted: true })
  })

  it("failed message stays until it is sent again or discarded", async () => {
    const it = await rig()
    const { cid } = it.client.send({ to: "bob", body: "mine" })
    await it.peer.take("send")
    it.peer.send({ t: "err", cid, code: "forbidden", message: "no", retryable: false })
    await until("it failed", () => it.store.conversation(dm).outgoing[0]?.state === "failed")
    it.store.again(dm, cid)
    expect(it.store.conversation(dm).outgoing).toMatchObject([{ cid, state: "sending" }])
    expect(await it.peer.take("send")).toMatchObject({ cid, body: "mine" })
    it.peer.send({ t: "err", cid, code: "forbidden", message: "no", retryable: false })
    await until("it failed", () => it.store.conversation(dm).outgoing[0]?.state === "failed")
    it.store.discard(dm, cid)
    expect(it.store.conversation(dm).outgoing).toEqual([])
  })
})

describe("what may be lost", () => {
  it("live messages end with their event, an unlive, or the connection", async () => {
    const it = await rig()
    const live = (cid: string, client: DardaClient): ServerFrame => ({
      t: "live",
      conv: dm,
      cid,
      by: "bob",
      at: client.serverNow(),
      type: "message",
      data: { kind: "text", body: cid }
    })
    const cids = () => it.store.conversation(dm).live.map(({ cid }) => cid)
    it.peer.send(live("a", it.client), live("b", it.client), live("c", it.client), live("a", it.client))
    await until("they show", () => cids().length === 3)
    it.peer.send(message(1, { cid: "a" }))
    await until("its event ends one", () => cids().length === 2)
    it.peer.send({ t: "unlive", conv: dm, cid: "b", by: "bob", code: "forbidden" })
    await until("unlive ends one", () => cids().length === 1)
    it.peer.cut()
    await (await it.server.accept()).welcome()
    await until("the connection ends the last", () => cids().length === 0)
  })

  it("typing ends with its message", async () => {
    const it = await rig()
    it.store.conversation(dm)
    it.peer.send({ t: "typing", conv: dm, user: "bob", on: true })
    await until("he types", () => it.store.conversation(dm).typing.has("bob"))
    it.peer.send(message(1))
    await until("he is done", () => it.store.conversation(dm).head === 1)
    expect(it.store.conversation(dm).typing.size).toBe(0)
  })
})
