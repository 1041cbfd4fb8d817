/** Walks through the protocol on the real server: every frame and its answer, field by field. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { WebSocket } from "ws"
import { type RunningServer, startServer } from "../support/server.ts"
import { httpAs, listen, makeGroup, say, type Talk, talk, unique } from "../support/talk.ts"
import { devToken, openRaw, type Received } from "../support/ws.ts"

let server: RunningServer
const open: Array<Talk> = []
beforeAll(async () => {
  server = await startServer({
    env: { LIMIT_PER_SECOND: "100000", LIMIT_BURST: "100000", LIMIT_NEW_DMS_PER_HOUR: "100000" }
  })
})
afterAll(async () => {
  for (const { socket } of open) socket.terminate()
  await server.dispose()
})

/** A connection of a user whose name no other test has. */
const someone = async (name: string): Promise<Talk> => connect(unique(name))
const connect = async (user: string, hello: object = {}): Promise<Talk> => {
  const connected = await talk(server.url, user, hello)
  open.push(connected)
  return connected
}

const isTime = (value: unknown): boolean =>
  Number.isSafeInteger(value) && Math.abs((value as number) - Date.now()) < 60_000
const fields = (value: unknown): Record<string, unknown> => value as Record<string, unknown>
const list = (value: unknown): ReadonlyArray<Record<string, unknown>> => value as ReadonlyArray<Record<string, unknown>>
const seqs = (value: unknown): ReadonlyArray<unknown> => list(value).map(({ seq }) => seq)
const refused = (answer: Received, code: string): void => {
  assert.strictEqual(answer.t, "err", JSON.stringify(answer))
  assert.strictEqual(answer["code"], code, JSON.stringify(answer))
  assert.isString(answer["message"])
  assert.isBoolean(answer["retryable"])
}

describe("hello", () => {
  it("is answered by a welcome with these fields", async () => {
    const ann = await someone("ann")
    const { cursor, limits, now, recovered, sid, t, user, ...more } = fields(ann.welcome)
    assert.deepStrictEqual(more, {})
    assert.deepStrictEqual({ t, user, recovered }, { t: "welcome", user: ann.user, recovered: false })
    assert.isNotEmpty(sid)
    assert.isNotEmpty(cursor)
    assert.isTrue(isTime(now))
    assert.deepStrictEqual(limits, { frameBytes: 65_536, bodyChars: 16_000, inFlight: 256, perSecond: 100_000 })
  })

  it("may stand in an array with what follows", async () => {
    const [raw, token] = await Promise.all([openRaw(server.url), devToken(server.url, "array-ann")])
    raw.send([
      { t: "hello", v: 1, token, device: "d" },
      { t: "send", cid: "a1", to: "array-bob", body: "hi" },
      { t: "ping" }
    ] as object)
    const ann = await listen(raw, "array-ann")
    open.push(ann)
    assert.strictEqual((await ann.got("ack"))["seq"], 1)
    await ann.got("pong")
  })

  it("takes a ticket, once", async () => {
    const { body } = await (await httpAs(server.url, "ticket-tom")).post("/v1/tickets", {})
    assert.strictEqual((await connect("ticket-tom", { ticket: body["ticket"] })).welcome["user"], "ticket-tom")
    const again = await openRaw(server.url)
    again.send({ t: "hello", v: 1, ticket: body["ticket"], device: "d" })
    assert.strictEqual((await again.closed()).code, 4500)
  })

  it.each([[[]], [["other"]], [["other", "darda.v1"]]])("chooses the subprotocol among %j", async (offered) => {
    const socket = new WebSocket(server.wsUrl, offered)
    const outcome = await new Promise<string>((resolve) => {
      socket.once("open", () => resolve(`chose "${socket.protocol}"`))
      // A client that offered protocols and got none gives up by itself, as ws does.
      socket.once("error", (error) => resolve(error.message))
    })
    socket.terminate()
    if (offered.includes("darda.v1")) assert.strictEqual(outcome, 'chose "darda.v1"')
    else if (offered.length === 0) assert.strictEqual(outcome, 'chose ""')
    else assert.include(outcome, "subprotocol")
  })
})

describe("send", () => {
  it("is acked to the sending connection, and an event to everyone else, oneself on other devices included", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const tablet = await connect(ann.user)
    const conv = `dm:${ann.user}:${bob.user}`
    ann.tell({ t: "send", cid: "one", to: bob.user, body: "hello" })
    const ack = await ann.got("ack")
    const at = ack["at"] as number
    assert.deepStrictEqual(ack, { t: "ack", cid: "one", conv, state: "persisted", seq: 1, at })
    assert.isTrue(isTime(at))
    const event = {
      t: "event",
      conv,
      seq: 1,
      type: "message",
      by: ann.user,
      at,
      cid: "one",
      data: { kind: "text", body: "hello" }
    }
    assert.deepStrictEqual(await bob.got("event"), event)
    assert.deepStrictEqual(await tablet.got("event"), event)
    const reply = await say(bob, { conv }, "and you?", { kind: "note", replyTo: 1 })
    assert.strictEqual(reply.seq, 2)
    assert.deepStrictEqual((await ann.got("event"))["data"], { kind: "note", body: "and you?", replyTo: 1 })
    assert.deepStrictEqual(seqs(ann.events(conv)), [2], "the sending connection gets its ack and not the event")
    assert.deepStrictEqual(seqs(bob.events(conv)), [1], "nor does the one that replied")
    assert.deepStrictEqual(ann.frames.filter(({ t }) => t === "ack").length, 1)
  })

  it("to oneself is a conversation of one", async () => {
    const ann = await someone("ann")
    const tablet = await connect(ann.user)
    const conv = `dm:${ann.user}:${ann.user}`
    assert.strictEqual((await say(ann, { to: ann.user }, "note")).conv, conv)
    assert.strictEqual((await tablet.got("event"))["conv"], conv)
    const { items } = fields(await ann.ask({ t: "convs" }))
    assert.deepInclude(list(items)[0], { conv, kind: "dm", members: [ann.user], head: 1, unread: 0 })
    const { members } = fields(await ann.ask({ t: "roster", conv }))
    assert.deepStrictEqual(
      list(members).map(({ user }) => user),
      [ann.user]
    )
  })

  it("reaches a user who was never here", async () => {
    const ann = await someone("ann")
    const late = unique("late")
    await say(ann, { to: late }, "are you there?")
    const newcomer = await connect(late)
    const { items } = fields(await newcomer.ask({ t: "convs" }))
    assert.strictEqual(list(items)[0]?.["unread"], 1)
  })

  it("again with the same cid is the same message, wherever it comes from, and other content is a conflict", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const first = await say(ann, { to: bob.user }, "once", { cid: "same" })
    const { conv } = first
    const repeat = { ...first, dup: true }
    assert.deepStrictEqual(await ann.ask({ t: "send", cid: "same", conv, body: "once" }), repeat)
    const tablet = await connect(ann.user)
    assert.deepStrictEqual(
      await tablet.ask({ t: "send", cid: "same", to: bob.user, body: "once", kind: "text" }),
      repeat
    )
    const http = await httpAs(server.url, ann.user)
    const path = `/v1/conversations/${encodeURIComponent(conv)}/messages`
    assert.deepStrictEqual(await http.post(path, { cid: "same", body: "once" }), {
      status: 200,
      body: { seq: 1, at: first.at }
    })
    for (const other of [{ body: "twice" }, { body: "once", kind: "x" }, { body: "once", replyTo: 1 }]) {
      const conflict = await tablet.ask({ t: "send", cid: "same", conv, ...other })
      refused(conflict, "conflict")
      assert.strictEqual(conflict["cid"], "same")
      assert.isFalse(conflict["retryable"])
    }
    assert.strictEqual((await say(bob, { conv }, "once", { cid: "same" })).seq, 2, "cids are each sender's own")
    assert.strictEqual((await say(ann, { to: ann.user }, "else", { cid: "same" })).seq, 1, "and each conversation's")
  })

  it("twice in one breath is one message, and the same holds for all that is done", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { conv } = await say(ann, { to: bob.user }, "one", { cid: "one" })
    const commands = [
      { t: "send", conv, body: "two" },
      { t: "edit", conv, target: 1, body: "edited" },
      { t: "react", conv, target: 1, emoji: "x", on: true },
      { t: "delete", conv, target: 1 }
    ]
    for (const [i, command] of commands.entries()) {
      const frame = { ...command, cid: `c${i}` }
      ann.tell([frame, frame] as object)
      const acks = await ann.until("two acks", (all) => {
        const found = all.filter(({ cid, t }) => t === "ack" && cid === `c${i}`)
        return found.length === 2 ? found : undefined
      })
      assert.deepStrictEqual(
        acks.map(({ dup, seq }) => [seq, dup]),
        [
          [i + 2, undefined],
          [i + 2, true]
        ]
      )
      refused(await ann.ask({ ...command, cid: "one" }), "conflict")
    }
    refused(await ann.ask({ t: "react", conv, target: 1, emoji: "x", on: false, cid: "c2" }), "conflict")
    await bob.got("event", ({ seq }) => seq === 5)
    assert.deepStrictEqual(seqs(bob.events(conv)), [1, 2, 3, 4, 5])
  })

  it("again after having left is answered still", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user])
    await bob.got("event")
    const sent = await say(bob, { conv }, "I was here", { cid: "here" })
    const left = await bob.ask({ t: "leave", conv, cid: "bye", rid: "r1" })
    assert.strictEqual(left["seq"], 3)
    assert.deepStrictEqual(await bob.ask({ t: "send", cid: "here", conv, body: "I was here" }), { ...sent, dup: true })
    assert.deepInclude(await bob.ask({ t: "leave", conv, cid: "bye", rid: "r2" }), {
      t: "reply",
      rid: "r2",
      seq: 3,
      dup: true
    })
    refused(await bob.ask({ t: "send", cid: "there", conv, body: "and now" }), "not_found")
  })

  it("keeps the order of one connection, also in arrays of 64, and its time never falls", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = `dm:${ann.user}:${bob.user}`
    const sends = Array.from({ length: 192 }, (_, i) => ({ t: "send", cid: `c${i}`, to: bob.user, body: String(i) }))
    for (let i = 0; i < 192; i += 64) ann.tell(sends.slice(i, i + 64))
    const given = await bob.until("192 messages", () =>
      bob.events(conv).length === 192 ? bob.events(conv) : undefined
    )
    assert.deepStrictEqual(
      seqs(given),
      Array.from({ length: 192 }, (_, i) => i + 1)
    )
    assert.deepStrictEqual(
      given.map(({ data }) => fields(data)["body"]),
      sends.map(({ body }) => body)
    )
    const times = given.map(({ at }) => at as number)
    assert.deepStrictEqual(
      times,
      times.toSorted((a, b) => a - b)
    )
    const acks = ann.frames.filter(({ t }) => t === "ack")
    assert.deepStrictEqual(
      acks.map(({ cid }) => cid),
      sends.map(({ cid }) => cid)
    )
    assert.isTrue(acks.every((ack) => !("dup" in ack)))
  })

  it("can be read at once after its ack, by everyone", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    for (let i = 1; i <= 10; i++) {
      const { conv } = await say(ann, { to: bob.user }, `m${i}`)
      const [mine, theirs, lines] = await Promise.all([
        ann.ask({ t: "history", conv, limit: 1 }),
        bob.ask({ t: "sync", conv, after: i - 1 }),
        bob.ask({ t: "convs" })
      ])
      assert.strictEqual(list(mine["messages"])[0]?.["body"], `m${i}`)
      assert.deepStrictEqual(seqs(theirs["events"]), [i])
      assert.deepInclude(list(lines["items"])[0], { head: i, unread: i })
    }
  })

  it("takes bodies of 16,000 characters of any kind, and a frame of exactly 64 KiB", async () => {
    const ann = await someone("ann")
    const bodies = [
      "x".repeat(16_000),
      "é".repeat(16_000),
      "漢".repeat(16_000),
      "😀".repeat(16_000),
      "\t\r\n \u200d\ufeff\u202e"
    ]
    for (const body of bodies) {
      const { conv, seq } = await say(ann, { to: ann.user }, body)
      const { messages } = fields(await ann.ask({ t: "history", conv, around: seq, limit: 1 }))
      assert.isTrue(list(messages)[0]?.["body"] === body)
    }
    for (const body of ["x".repeat(16_001), `${"😀".repeat(16_000)}x`]) {
      const frame = { t: "send", cid: "long", to: ann.user, body }
      refused(await ann.ask(frame), "too_large")
    }
    const frame = JSON.stringify({ t: "send", cid: "full", to: ann.user, body: "full" })
    const { length } = frame
    ann.tell(`${frame.slice(0, -1)}${" ".repeat(65_536 - length)}}`)
    assert.isNumber((await ann.got("ack", ({ cid }) => cid === "full"))["seq"])
  })

  it("into what is not one's own is not found, whether it exists or not", async () => {
    const [ann, bob, eve] = await Promise.all([someone("ann"), someone("bob"), someone("eve")])
    const group = await makeGroup(ann, [bob.user])
    const { conv: dm } = await say(ann, { to: bob.user }, "secret")
    const convs = [group, dm, `dm:${ann.user}:nobody`, "g:00000000-0000-8000-8000-000000000000"]
    const messages = new Set<unknown>()
    for (const conv of convs) {
      for (const frame of [
        { t: "send", body: "let me in" },
        { t: "edit", target: 1, body: "x" },
        { t: "delete", target: 1 },
        { t: "react", target: 1, emoji: "x", on: true },
        { t: "members", add: [eve.user] },
        { t: "leave" },
        { t: "title", title: "mine" },
        { t: "roster" },
        { t: "sync", after: 0 },
        { t: "history" }
      ]) {
        const answer = await eve.ask({ ...frame, conv })
        refused(answer, "not_found")
        messages.add((answer["message"] as string).replace(conv, "CONV"))
      }
      eve.tell({ t: "mark", conv, seen: 1 })
      eve.tell({ t: "typing", conv, on: true })
    }
    const errors = await eve.until("refusals", (all) => {
      const unnamed = all.filter((frame) => frame.t === "err" && !("rid" in frame) && !("cid" in frame))
      return unnamed.length === 2 * convs.length ? unnamed : undefined
    })
    assert.isTrue(errors.every(({ code }) => code === "not_found"))
    assert.strictEqual(messages.size, 1, "the answers cannot be told apart")
  })
})

describe("what is done to messages", () => {
  it("is an event each, also when it changes nothing, and folded into the history", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { conv } = await say(ann, { to: bob.user }, "first", { cid: "m1" })
    await say(bob, { conv }, "second", { replyTo: 1 })
    const tell = async (from: Talk, frame: object, type: string, data: object) => {
      const ack = await from.ask({ ...frame, conv })
      const { at, cid, seq } = ack
      assert.deepStrictEqual(ack, { t: "ack", cid, conv, state: "persisted", seq, at })
      const to = from === ann ? bob : ann
      const event = await to.got("event", (frame) => frame["seq"] === seq)
      assert.deepStrictEqual(event, { t: "event", conv, seq, type, by: from.user, at, cid, data })
      return at
    }
    const at = await tell(ann, { t: "edit", target: 1, body: "edited" }, "edited", { target: 1, body: "edited" })
    for (const on of [true, true, false, false, true]) {
      await tell(bob, { t: "react", target: 1, emoji: "👍🏽", on }, "reaction", { target: 1, emoji: "👍🏽", on })
    }
    await tell(ann, { t: "react", target: 1, emoji: "👍🏽", on: true }, "reaction", { target: 1, emoji: "👍🏽", on: true })
    await tell(ann, { t: "react", target: 2, emoji: "__proto__", on: true }, "reaction", {
      target: 2,
      emoji: "__proto__",
      on: true
    })
    const { messages, ...page } = fields(await bob.ask({ t: "history", conv }))
    assert.strictEqual(page["head"], 10)
    assert.strictEqual(page["more"], false)
    const [first, second] = list(messages)
    assert.deepStrictEqual(first, {
      conv,
      seq: 1,
      by: ann.user,
      at: first?.["at"],
      cid: "m1",
      kind: "text",
      body: "edited",
      editedAt: at,
      reactions: { "👍🏽": [ann.user, bob.user] }
    })
    assert.strictEqual(second?.["replyTo"], 1)
    assert.deepStrictEqual(Object.entries(fields(second?.["reactions"])), [["__proto__", [ann.user]]])
    await tell(bob, { t: "delete", target: 2 }, "deleted", { target: 2 })
    await tell(bob, { t: "delete", target: 2 }, "deleted", { target: 2 })
    await tell(bob, { t: "edit", target: 2, body: "back?" }, "edited", { target: 2, body: "back?" })
    await tell(ann, { t: "react", target: 2, emoji: "x", on: true }, "reaction", { target: 2, emoji: "x", on: true })
    await say(ann, { conv }, "to what is gone", { replyTo: 2 })
    const after = list((await ann.ask({ t: "history", conv }))["messages"])
    const deleted = after[1]!
    assert.deepStrictEqual(deleted, {
      conv,
      seq: 2,
      by: bob.user,
      at: deleted["at"],
      cid: deleted["cid"],
      kind: "text",
      replyTo: 1,
      deleted: true
    })
    assert.strictEqual(after[2]?.["replyTo"], 2)
  })

  it("must name a message", async () => {
    const ann = await someone("ann")
    const conv = await makeGroup(ann, [])
    for (const target of [1, 2, Number.MAX_SAFE_INTEGER]) {
      refused(await ann.ask({ t: "edit", conv, target, body: "x" }), "not_found")
      refused(await ann.ask({ t: "delete", conv, target }), "not_found")
      refused(await ann.ask({ t: "react", conv, target, emoji: "x", on: true }), "not_found")
      refused(await ann.ask({ t: "send", conv, replyTo: target, body: "x" }), "not_found")
    }
  })
})

describe("groups", () => {
  it("are made, changed and left by requests, and everyone is told of each", async () => {
    const [ann, bob, cy] = await Promise.all([someone("ann"), someone("bob"), someone("cy")])
    const made = await ann.ask({
      t: "create",
      rid: "r",
      cid: "g1",
      members: [cy.user, bob.user, bob.user],
      title: "Plans"
    })
    const { conv } = made as unknown as { conv: string }
    assert.deepStrictEqual(made, { t: "reply", rid: "r", conv, seq: 1, at: made["at"] })
    assert.match(conv, /^g:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    const members = [ann.user, bob.user, cy.user].sort()
    const event = { t: "event", conv, seq: 1, type: "created", by: ann.user, at: made["at"], cid: "g1" }
    for (const other of [bob, cy]) {
      assert.deepStrictEqual(await other.got("event"), { ...event, data: { kind: "group", title: "Plans", members } })
    }
    assert.deepInclude(
      await ann.ask({ t: "create", rid: "r2", cid: "g1", members: [bob.user, cy.user], title: "Plans" }),
      {
        rid: "r2",
        conv,
        seq: 1,
        dup: true
      }
    )
    const conflict = await ann.ask({ t: "create", rid: "r3", cid: "g1", members: [bob.user] })
    refused(conflict, "conflict")
    assert.strictEqual(conflict["rid"], "r3")

    const dee = unique("dee")
    const change = async (from: Talk, frame: Record<string, unknown>, type: string, data: object) => {
      const reply = await from.ask({ ...frame, conv, rid: unique("r") })
      assert.strictEqual(reply.t, "reply", JSON.stringify(reply))
      assert.isFalse("dup" in reply)
      assert.isTrue(isTime(reply["at"]))
      const to = from === cy ? ann : cy
      const event = await to.got("event", ({ seq }) => seq === reply["seq"])
      assert.deepInclude(event, { conv, type, by: from.user, at: reply["at"] })
      assert.deepStrictEqual(event["data"], data)
      return reply["seq"]
    }
    assert.strictEqual(await change(bob, { t: "members", add: [dee, bob.user] }, "members", { added: [dee] }), 2)
    assert.strictEqual(await change(bob, { t: "members", add: [dee] }, "members", {}), 3)
    assert.strictEqual(await change(cy, { t: "title", title: "Other plans" }, "title", { title: "Other plans" }), 4)
    assert.strictEqual(
      await change(ann, { t: "members", add: ["zed"], remove: [dee, "nobody"] }, "members", {
        added: ["zed"],
        removed: [dee]
      }),
      5
    )
    assert.strictEqual(await change(bob, { t: "leave" }, "members", { removed: [bob.user] }), 6)
    await bob.got("gone", (frame) => frame["conv"] === conv)
    assert.deepInclude(list((await ann.ask({ t: "convs" }))["items"])[0], {
      conv,
      kind: "group",
      title: "Other plans",
      members: [ann.user, cy.user, "zed"].sort(),
      head: 6
    })
  })

  it("without a title have none, and one may be alone in a group", async () => {
    const ann = await someone("ann")
    const tablet = await connect(ann.user)
    const conv = await makeGroup(ann, [])
    assert.deepStrictEqual((await tablet.got("event"))["data"], { kind: "group", members: [ann.user] })
    const [line] = list((await ann.ask({ t: "convs" }))["items"])
    assert.deepStrictEqual(line, { conv, kind: "group", members: [ann.user], head: 1, seen: 0, unread: 0 })
  })

  it("let everyone do what they may, and nobody else", async () => {
    const [ann, bob, cy] = await Promise.all([someone("ann"), someone("bob"), someone("cy")])
    const conv = await makeGroup(ann, [bob.user, cy.user])
    await say(ann, { conv }, "by the admin")
    await say(bob, { conv }, "by a member")
    const table: ReadonlyArray<readonly [who: Talk, frame: Record<string, unknown>, code?: string]> = [
      [bob, { t: "react", target: 2, emoji: "+", on: true }],
      [bob, { t: "title", title: "by a member" }],
      [bob, { t: "members", add: ["more"] }],
      [bob, { t: "members", remove: [cy.user] }, "forbidden"],
      [bob, { t: "members", remove: [bob.user, cy.user] }, "forbidden"],
      [bob, { t: "edit", target: 2, body: "x" }, "forbidden"],
      [ann, { t: "edit", target: 3, body: "x" }, "forbidden"],
      [bob, { t: "edit", target: 3, body: "x" }],
      [bob, { t: "delete", target: 2 }, "forbidden"],
      [cy, { t: "delete", target: 3 }, "forbidden"],
      [ann, { t: "delete", target: 3 }],
      [ann, { t: "members", remove: ["more"] }]
    ]
    for (const [who, frame, code] of table) {
      const answer = await who.ask({ ...frame, conv })
      if (code === undefined) assert.notStrictEqual(answer.t, "err", JSON.stringify([frame, answer]))
      else refused(answer, code)
    }
    const { conv: dm } = await say(ann, { to: bob.user }, "between us")
    refused(await ann.ask({ t: "members", conv: dm, add: [cy.user] }), "forbidden")
    refused(await ann.ask({ t: "leave", conv: dm }), "forbidden")
    refused(await ann.ask({ t: "title", conv: dm, title: "us" }), "forbidden")
    refused(await ann.ask({ t: "delete", conv: dm, target: 9 }), "not_found")
  })

  it("always have an admin: the longest-standing member when the last one leaves", async () => {
    const [ann, bob, cy] = await Promise.all([someone("ann"), someone("bob"), someone("cy")])
    const conv = await makeGroup(ann, [cy.user])
    await ann.ask({ t: "members", conv, add: [bob.user] })
    await ann.ask({ t: "leave", conv })
    const { members } = fields(await bob.ask({ t: "roster", conv }))
    assert.deepStrictEqual(
      list(members).map(({ admin, user }) => [user, admin]),
      [
        [bob.user, false],
        [cy.user, true]
      ]
    )
    assert.isTrue(list(members).every(({ since }) => isTime(since)))
    refused(await bob.ask({ t: "members", conv, remove: [cy.user] }), "forbidden")
    assert.strictEqual((await cy.ask({ t: "members", conv, remove: [bob.user] })).t, "reply")
    assert.strictEqual((await cy.ask({ t: "leave", conv })).t, "reply")
    refused(await cy.ask({ t: "send", conv, body: "anyone?" }), "not_found")
  })

  it("show all of their history to who comes later, or comes back", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [])
    await say(ann, { conv }, "before")
    await ann.ask({ t: "members", conv, add: [bob.user] })
    assert.strictEqual((await bob.got("event"))["type"], "members")
    assert.deepStrictEqual(
      list((await bob.ask({ t: "history", conv }))["messages"]).map(({ body }) => body),
      ["before"]
    )
    await ann.ask({ t: "members", conv, remove: [bob.user] })
    await bob.got("gone")
    await say(ann, { conv }, "while away")
    refused(await bob.ask({ t: "history", conv }), "not_found")
    refused(await bob.ask({ t: "sync", conv, after: 0 }), "not_found")
    refused(await bob.ask({ t: "roster", conv }), "not_found")
    assert.deepStrictEqual((await bob.ask({ t: "convs" }))["items"], [])
    assert.deepStrictEqual(seqs(bob.events(conv)), [3, 4], "the removal is the last that they are given")
    await ann.ask({ t: "members", conv, add: [bob.user] })
    await say(ann, { conv }, "welcome back")
    await bob.got("event", ({ seq }) => seq === 7)
    assert.deepStrictEqual(seqs(bob.events(conv)), [3, 4, 5, 6, 7], "without a hole")
    const { messages } = fields(await bob.ask({ t: "history", conv }))
    assert.deepStrictEqual(
      list(messages).map(({ body }) => body),
      ["before", "while away", "welcome back"]
    )
  })

  it("list their members in pages of at most 256", async () => {
    const ann = await someone("ann")
    const users = Array.from({ length: 512 }, (_, i) => `member-${String(i).padStart(4, "0")}`)
    const conv = await makeGroup(ann, users.slice(0, 256))
    await ann.ask({ t: "members", conv, add: users.slice(256) })
    const pages: Array<Received> = []
    for (let after: unknown; pages.length < 9; after = pages.at(-1)!["next"]) {
      if (pages.length > 0 && after === undefined) break
      pages.push(await ann.ask({ t: "roster", conv, ...(after === undefined ? {} : { after }) }))
    }
    assert.deepStrictEqual(
      pages.map(({ members }) => list(members).length),
      [256, 256, 1]
    )
    assert.deepStrictEqual(
      pages.flatMap(({ members }) => list(members).map(({ user }) => user)),
      [ann.user, ...users].sort()
    )
    assert.isFalse("next" in pages.at(-1)!)
    for (const member of list(pages[0]!["members"])) assert.hasAllKeys(member, ["user", "admin", "since"])
    const [line = {}] = list((await ann.ask({ t: "convs" }))["items"])
    assert.isFalse("members" in line, "over 50 they are not named in the list")
    assert.isFalse("receipts" in (await ann.ask({ t: "history", conv })))
  })
})

describe("reading", () => {
  it("history in pages from anywhere, oldest first", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = `dm:${ann.user}:${bob.user}`
    assert.deepStrictEqual(
      { ...(await ann.ask({ t: "history", rid: "h0", conv })) },
      {
        t: "reply",
        rid: "h0",
        messages: [],
        head: 0,
        more: false,
        receipts: { [ann.user]: { delivered: 0, seen: 0 }, [bob.user]: { delivered: 0, seen: 0 } }
      }
    )
    for (let i = 0; i < 4; i++)
      ann.tell(
        Array.from({ length: 64 }, (_, j) => ({ t: "send", cid: `c${i}-${j}`, conv, body: `${i * 64 + j + 1}` }))
      )
    await bob.got("event", ({ seq }) => seq === 256)
    const page = async (request: object) => {
      const { head, messages, more } = fields(await bob.ask({ t: "history", conv, ...request }))
      assert.strictEqual(head, 256)
      const found = seqs(messages) as ReadonlyArray<number>
      found.forEach((seq, i) => assert.strictEqual(seq, found[0]! + i))
      return [found[0], found.at(-1), more]
    }
    assert.deepStrictEqual(await page({}), [207, 256, true])
    assert.deepStrictEqual(await page({ limit: 200 }), [57, 256, true])
    assert.deepStrictEqual(await page({ limit: 1 }), [256, 256, true])
    assert.deepStrictEqual(await page({ before: 57, limit: 56 }), [1, 56, false])
    assert.deepStrictEqual(await page({ before: 57, limit: 55 }), [2, 56, true])
    assert.deepStrictEqual(await page({ before: 1 }), [undefined, undefined, false])
    assert.deepStrictEqual(await page({ before: 9_999, limit: 2 }), [255, 256, true])
    assert.deepStrictEqual(await page({ after: 0, limit: 2 }), [1, 2, true])
    assert.deepStrictEqual(await page({ after: 200, limit: 56 }), [201, 256, false])
    assert.deepStrictEqual(await page({ after: 200, limit: 55 }), [201, 255, true])
    assert.deepStrictEqual(await page({ after: 256 }), [undefined, undefined, false])
    assert.deepStrictEqual(await page({ after: 9_999 }), [undefined, undefined, false])
    for (const around of [1, 2, 100, 255, 256]) {
      const [first, last] = await page({ around, limit: 5 })
      assert.isTrue((first as number) <= around && around <= (last as number), `around ${around}`)
      assert.strictEqual((last as number) - (first as number), 4)
    }
    assert.deepStrictEqual((await page({ around: 9_999, limit: 3 })).slice(0, 2), [254, 256])
  })

  it("raw events, in pages", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user], { title: "T" })
    for (let i = 0; i < 4; i++)
      ann.tell(
        Array.from({ length: 60 }, (_, j) => ({ t: "send", cid: `c${i}-${j}`, conv, body: `${i * 60 + j + 2}` }))
      )
    await bob.got("event", ({ seq }) => seq === 241)
    const first = await bob.ask({ t: "sync", rid: "s", conv, after: 0 })
    assert.hasAllKeys(first, ["t", "rid", "events", "head", "more"])
    assert.strictEqual(list(first["events"]).length, 200)
    assert.deepInclude(first, { head: 241, more: true })
    const given = bob.events(conv).map(({ t: _, ...event }) => event)
    assert.deepStrictEqual(list(first["events"]), given.slice(0, 200), "the same as was given live")
    const rest = await bob.ask({ t: "sync", conv, after: 200, limit: 41 })
    assert.deepInclude(rest, { head: 241, more: false })
    assert.deepStrictEqual(list(rest["events"]), given.slice(200))
    assert.deepInclude(await bob.ask({ t: "sync", conv, after: 241 }), { events: [], head: 241, more: false })
    assert.deepInclude(await bob.ask({ t: "sync", conv, after: 999 }), { events: [], head: 241, more: false })
    assert.deepInclude(await bob.ask({ t: "sync", conv: `dm:${bob.user}:${bob.user}`, after: 0 }), {
      events: [],
      head: 0,
      more: false
    })
  })

  it("conversations in pages, the newest first, and nothing twice", async () => {
    const ann = await someone("ann")
    const others = Array.from({ length: 60 }, (_, i) => `other-${String(i).padStart(2, "0")}`)
    for (const other of others) await say(ann, { to: other }, `to ${other}`)
    const { conv } = await say(ann, { to: others[5]! }, "again")
    const pages: Array<Received> = []
    for (let after: unknown; pages.length < 9; after = pages.at(-1)!["next"]) {
      if (pages.length > 0 && after === undefined) break
      pages.push(await ann.ask({ t: "convs", ...(after === undefined ? { limit: 7 } : { after }) }))
    }
    assert.deepStrictEqual(
      pages.map(({ items }) => list(items).length),
      [7, 50, 3]
    )
    const items = pages.flatMap(({ items }) => list(items))
    assert.strictEqual(new Set(items.map((item) => item["conv"])).size, 60)
    assert.strictEqual(items[0]?.["conv"], conv)
    assert.deepStrictEqual(items[0]?.["last"], list((await ann.ask({ t: "history", conv }))["messages"])[1])
    for (const item of items) assert.hasAllKeys(item, ["conv", "kind", "members", "head", "seen", "unread", "last"])
    assert.isFalse("next" in pages.at(-1)!)
    refused(await ann.ask({ t: "convs", after: "not one of ours" }), "bad_request")
  })

  it("at most 256 KiB at a time, and then says that there is more", async () => {
    const ann = await someone("ann")
    const conv = `dm:${ann.user}:${ann.user}`
    for (let i = 1; i <= 8; i++) await say(ann, { conv }, "😀".repeat(15_900))
    const walk = async (request: (after: number) => Record<string, unknown>, field: string): Promise<void> => {
      let after = 0
      for (let pages = 1; ; pages++) {
        const answer = await ann.ask(request(after))
        assert.isAtMost(Buffer.byteLength(JSON.stringify(answer)), 262_144)
        const found = seqs(answer[field])
        assert.deepStrictEqual(
          found,
          found.map((_, i) => after + 1 + i)
        )
        after += found.length
        if (answer["more"] !== true) {
          assert.strictEqual(after, 8)
          return assert.isAtLeast(pages, 2)
        }
      }
    }
    await walk((after) => ({ t: "history", conv, after }), "messages")
    await walk((after) => ({ t: "sync", conv, after }), "events")
    const newest = await ann.ask({ t: "history", conv })
    assert.deepInclude(newest, { more: true, head: 8 })
    assert.strictEqual(list(newest["messages"]).at(-1)?.["seq"], 8)
    // As many as are answered at a time, and more: what they take together is more than waits for one connection.
    ann.tell(Array.from({ length: 40 }, (_, i) => ({ t: "history", rid: `h${i}`, conv })) as object)
    for (let i = 0; i < 40; i++) await ann.got("reply", ({ rid }) => rid === `h${i}`)
    const [bob, cy] = [unique("bob"), unique("cy")]
    for (const to of [bob, cy, `${bob}2`, `${cy}2`]) await say(ann, { to }, "😀".repeat(15_900))
    const lines = await ann.ask({ t: "convs" })
    assert.isAtMost(Buffer.byteLength(JSON.stringify(lines)), 262_144)
    const rest = await ann.ask({ t: "convs", after: lines["next"] })
    assert.strictEqual(list(lines["items"]).length + list(rest["items"]).length, 5)
  })
})

describe("marks", () => {
  it("move forward only and never past the head, and the others are told", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const tablet = await connect(bob.user)
    const conv = `dm:${ann.user}:${bob.user}`
    for (let i = 1; i <= 4; i++) await say(ann, { to: bob.user }, `m${i}`)
    await bob.got("event", ({ seq }) => seq === 4)
    const receipt = (delivered: number, seen?: number) => ({
      t: "receipt",
      conv,
      user: bob.user,
      delivered,
      ...(seen === undefined ? {} : { seen })
    })
    const told = async (who: Talk, count: number) =>
      who.until(`${count} receipts`, (all) => {
        const receipts = all.filter(({ t }) => t === "receipt")
        return receipts.length >= count ? receipts : undefined
      })
    bob.tell({ t: "mark", conv, delivered: 3 })
    assert.deepStrictEqual([...(await told(ann, 1))], [receipt(3)])
    bob.tell({ t: "mark", conv, seen: 2 })
    assert.deepStrictEqual((await told(ann, 2))[1] as object, receipt(3, 2))
    bob.tell({ t: "mark", conv, seen: 1 })
    bob.tell({ t: "mark", conv, seen: 5 })
    refused(await bob.got("err"), "bad_request")
    bob.tell({ t: "mark", conv, delivered: 4, seen: 3 })
    assert.deepStrictEqual([...(await told(ann, 3))], [receipt(3), receipt(3, 2), receipt(4, 3)])
    assert.strictEqual((await told(tablet, 3)).length, 3, "one's other devices are told too")
    assert.strictEqual(bob.frames.filter(({ t }) => t === "receipt").length, 0, "the marking connection is not")
    const { receipts } = fields(await ann.ask({ t: "history", conv }))
    assert.deepStrictEqual(receipts, { [ann.user]: { delivered: 0, seen: 0 }, [bob.user]: { delivered: 4, seen: 3 } })
    const [line] = list((await bob.ask({ t: "convs" }))["items"])
    assert.deepInclude(line, { seen: 3, unread: 1, head: 4 })
    await ann.ask({ t: "delete", conv, target: 4 })
    assert.deepInclude(list((await bob.ask({ t: "convs" }))["items"])[0], { unread: 1, head: 5 })
    await say(bob, { conv }, "mine")
    assert.deepInclude(list((await bob.ask({ t: "convs" }))["items"])[0], { unread: 1, head: 6 })
  })

  it("that come in a hurry all count, and soon", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    for (let i = 1; i <= 30; i++) await say(ann, { to: bob.user }, `m${i}`)
    await bob.got("event", ({ seq }) => seq === 30)
    const conv = `dm:${ann.user}:${bob.user}`
    for (let i = 1; i <= 29; i++) bob.tell({ t: "mark", conv, delivered: i + 1, seen: i })
    bob.tell({ t: "mark", conv, seen: 12 })
    await ann.got("receipt", ({ delivered, seen }) => delivered === 30 && seen === 29)
    const seen = ann.frames.filter(({ t }) => t === "receipt").map((receipt) => receipt["seen"] as number)
    assert.deepStrictEqual(
      seen,
      [...new Set(seen)].sort((a, b) => a - b),
      "each one further than the one before"
    )
  })

  it("count also when the connection ends right after them", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    for (let i = 1; i <= 20; i++) await say(ann, { to: bob.user }, `m${i}`)
    await bob.got("event", ({ seq }) => seq === 20)
    for (let i = 1; i <= 20; i++) bob.tell({ t: "mark", conv: `dm:${ann.user}:${bob.user}`, seen: i })
    await bob.leave()
    await ann.got("receipt", ({ seen }) => seen === 20)
  })

  it("are counted in groups of more than 50", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user, ...Array.from({ length: 50 }, (_, i) => `many-${i}`)])
    await bob.got("event")
    await say(ann, { conv }, "hello all")
    bob.tell({ t: "mark", conv, seen: 2 })
    assert.deepStrictEqual(await ann.got("receipt"), { t: "receipt", conv, seq: 2, deliveredCount: 1, seenCount: 1 })
  })

  it("are named in groups of up to 50", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user, ...Array.from({ length: 48 }, (_, i) => `few-${i}`)])
    await bob.got("event")
    bob.tell({ t: "mark", conv, delivered: 1 })
    assert.deepStrictEqual(await ann.got("receipt"), { t: "receipt", conv, user: bob.user, delivered: 1 })
    assert.strictEqual(Object.keys(fields((await ann.ask({ t: "history", conv }))["receipts"])).length, 50)
    assert.lengthOf((list((await ann.ask({ t: "convs" }))["items"])[0]?.["members"] ?? []) as Array<string>, 50)
  })
})

describe("signals", () => {
  it("of typing reach the others, and neither their sender nor strangers", async () => {
    const [ann, bob, eve] = await Promise.all([someone("ann"), someone("bob"), someone("eve")])
    const conv = await makeGroup(ann, [bob.user])
    await bob.got("event")
    ann.tell({ t: "typing", conv, on: true })
    assert.deepStrictEqual(await bob.got("typing"), { t: "typing", conv, user: ann.user, on: true })
    ann.tell({ t: "typing", conv, on: false })
    assert.isFalse((await bob.got("typing", (frame) => frame["on"] === false))["on"])
    eve.tell({ t: "typing", conv, on: true })
    refused(await eve.got("err"), "not_found")
    // In a direct conversation without a message too.
    ann.tell({ t: "typing", conv: `dm:${ann.user}:${bob.user}`, on: true })
    await bob.got("typing", (frame) => frame["conv"] === `dm:${ann.user}:${bob.user}`)
    assert.isTrue([ann, eve].every(({ frames }) => !frames.some(({ t }) => t === "typing")))
  })

  it("of typing are of a member as soon as there is one, also while the server has much to do", async () => {
    const [ann, bob, busy] = await Promise.all([someone("ann"), someone("bob"), someone("busy")])
    let going = true
    const load = (async () => {
      for (let i = 0; going; i++) {
        busy.tell(
          Array.from({ length: 64 }, (_, j) => ({
            t: "send",
            cid: `l${i}-${j}`,
            to: `other-${j}`,
            body: "x"
          })) as object
        )
        await busy.got("ack", ({ cid }) => cid === `l${i}-63`)
      }
    })()
    const conv = await makeGroup(ann, [])
    for (let i = 1; i <= 30; i++) {
      await ann.ask({ t: "members", conv, add: [bob.user] })
      await bob.got("event", ({ seq }) => seq === 2 * i)
      bob.tell({ t: "typing", conv, on: true })
      await ann.until(`typing ${i}`, (all) => (all.filter(({ t }) => t === "typing").length === i ? true : undefined))
      await ann.ask({ t: "members", conv, remove: [bob.user] })
    }
    going = false
    await load
    assert.deepStrictEqual(
      bob.frames.filter(({ t }) => t === "err"),
      []
    )
  })

  it("of presence are asked for, watched, and watched no more", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const [absent, fence, stranger] = [unique("absent"), unique("fence"), await someone("stranger")]
    const users = [bob.user, absent]
    await makeGroup(ann, [...users, fence])
    assert.deepStrictEqual(
      { ...(await ann.ask({ t: "presence", rid: "p", users, watch: true })) },
      { t: "reply", rid: "p", users: { [bob.user]: { online: true }, [absent]: { online: false } } }
    )
    assert.deepStrictEqual((await ann.ask({ t: "presence", users: [stranger.user] }))["users"], {
      [stranger.user]: { online: false }
    })
    const tablet = await connect(bob.user)
    await tablet.leave()
    await bob.leave()
    const offline = await ann.got("presence", ({ user }) => user === bob.user)
    const { lastSeen } = offline
    assert.deepStrictEqual(offline, { t: "presence", user: bob.user, online: false, lastSeen })
    assert.isTrue(isTime(lastSeen))
    assert.deepStrictEqual(fields((await ann.ask({ t: "presence", users }))["users"])[bob.user], {
      online: false,
      lastSeen
    })
    const late = await connect(absent)
    assert.deepStrictEqual(await ann.got("presence", ({ user }) => user === absent), {
      t: "presence",
      user: absent,
      online: true
    })
    assert.strictEqual(
      ann.frames.filter(({ t, user }) => t === "presence" && user === bob.user).length,
      1,
      "one device more or less is no change"
    )
    assert.strictEqual((await ann.ask({ t: "presence", users, watch: false })).t, "reply")
    await late.leave()
    await ann.ask({ t: "presence", users: [fence], watch: true })
    await connect(fence)
    await ann.got("presence", ({ user }) => user === fence)
    assert.strictEqual(ann.frames.filter(({ t, user }) => t === "presence" && user === absent).length, 1)
  })

  it("ping is answered by pong, and refresh by when the new token expires", async () => {
    const ann = await someone("ann")
    ann.tell({ t: "ping" })
    assert.deepStrictEqual(await ann.got("pong"), { t: "pong" })
    const reply = await ann.ask({ t: "refresh", rid: "f", token: await devToken(server.url, ann.user) })
    assert.deepStrictEqual(reply, { t: "reply", rid: "f", expiresAt: reply["expiresAt"] })
    assert.isAbove(reply["expiresAt"] as number, Date.now())
    refused(await ann.ask({ t: "refresh", token: await devToken(server.url, "another") }), "unauthorized")
  })
})
