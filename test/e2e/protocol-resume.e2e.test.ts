/** What one who comes back is given, on the real server: everything that was missed, in order, once. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type RunningServer, startServer } from "../support/server.ts"
import { makeGroup, say, type Talk, talk, unique } from "../support/talk.ts"
import { type Received } from "../support/ws.ts"

const env = {
  LIMIT_PER_SECOND: "100000",
  LIMIT_BURST: "100000",
  LIMIT_IN_FLIGHT: "100000",
  LIMIT_NEW_DMS_PER_HOUR: "100000"
}
let server: RunningServer
const open: Array<Talk> = []
beforeAll(async () => {
  server = await startServer({ env })
})
afterAll(async () => {
  for (const { socket } of open) socket.terminate()
  await server.dispose()
})

const connect = async (user: string, hello: object = {}): Promise<Talk> => {
  const connected = await talk(server.url, user, hello)
  open.push(connected)
  return connected
}
const someone = (name: string): Promise<Talk> => connect(unique(name))
const resume = (user: string, cursor: unknown, seqs?: Readonly<Record<string, number>>): Promise<Talk> =>
  connect(user, { resume: { cursor, ...(seqs === undefined ? {} : { seqs }) } })

const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)

/** The seqs of a conversation in the order in which they were given: by events, and by the answers that stand for events. */
const given = (who: Talk, conv: string): ReadonlyArray<number> =>
  who.frames
    .filter((frame) => frame["conv"] === conv && frame["dup"] !== true)
    .filter(({ seq, t }) => t === "event" || ((t === "ack" || t === "reply") && seq !== undefined))
    .map(({ seq }) => seq as number)

const ofType = (who: Talk, ...types: ReadonlyArray<string>): ReadonlyArray<Received> =>
  who.frames.filter(({ t }) => types.includes(t))

/** Waits until a connection was given this seq of the conversation. */
const has = (who: Talk, conv: string, seq: number): Promise<unknown> =>
  who.until(`seq ${seq} of ${conv}`, () => (given(who, conv).includes(seq) ? true : undefined))

/** Sends many messages into a conversation and waits until all are persisted. */
const fill = async (from: Talk, conv: string, count: number): Promise<void> => {
  const before = given(from, conv).length
  for (let sent = 0; sent < count; sent += 64) {
    from.tell(
      Array.from({ length: Math.min(64, count - sent) }, () => ({
        t: "send",
        cid: unique("f"),
        conv,
        body: "filled"
      })) as object
    )
  }
  await from.until(`${count} acks`, () => (given(from, conv).length >= before + count ? true : undefined))
}

/** Sees that nothing more was on its way to this connection: what is committed now for its user comes after it. */
const quiet = async (who: Talk): Promise<void> => {
  const { conv, seq } = await say(await connect(unique("last")), { to: who.user }, "last")
  await has(who, conv, seq)
}

describe.concurrent("with a cursor", () => {
  it("one is given all that came after it, of every kind and conversation, once, and a newer cursor", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const dm = (await say(ann, { to: bob.user }, "one")).conv
    const group = await makeGroup(ann, [bob.user])
    await has(bob, group, 1)
    const { cursor } = await bob.until("a cursor after all of it", (all) =>
      all.slice(all.findLastIndex(({ t }) => t === "event")).find(({ t }) => t === "cursor")
    )
    const phone = await connect(bob.user)
    await bob.leave()
    await say(ann, { to: bob.user }, "two")
    await say(phone, { conv: dm }, "mine, from another device")
    await ann.ask({ t: "react", conv: dm, target: 1, emoji: "x", on: true })
    const late = await makeGroup(ann, [bob.user], { title: "late" })
    await say(ann, { conv: late }, "hello")
    await ann.ask({ t: "title", conv: group, title: "new" })
    await quiet(phone)

    const back = await resume(bob.user, cursor)
    assert.deepInclude(back.welcome, { recovered: true, cursor, user: bob.user })
    const newer = await back.got("cursor")
    assert.deepStrictEqual(given(back, dm), [2, 3, 4])
    assert.deepStrictEqual(given(back, late), [1, 2])
    assert.deepStrictEqual(given(back, group), [2])
    assert.deepStrictEqual(ofType(back, "reset", "gone", "err"), [])
    const phoneEvents = phone.frames.filter(({ conv, t }) => t === "event" && conv !== dm)
    const events = back.frames.filter(({ conv, t }) => t === "event" && conv !== dm)
    const sorted = (all: ReadonlyArray<Received>) => all.map((event) => JSON.stringify(event)).sort()
    assert.deepStrictEqual(sorted(events), sorted(phoneEvents), "a replayed event is the same as a live one")
    assert.strictEqual(back.events(dm)[1]?.["by"], bob.user)

    const again = await resume(bob.user, cursor)
    await again.got("cursor")
    assert.deepStrictEqual(
      sorted(ofType(again, "event")),
      sorted(ofType(back, "event")),
      "as often as one comes back with it"
    )

    const up = await resume(bob.user, newer["cursor"])
    assert.isTrue(up.welcome["recovered"])
    await quiet(up)
    assert.deepStrictEqual(ofType(up, "event").length, 1, "and nothing of it with the newer one")
  })

  it("what is sent together with it is acked in its place among what was missed", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { cursor } = bob.welcome
    await bob.leave()
    const conv = `dm:${ann.user}:${bob.user}`
    await fill(ann, conv, 150)
    const back = await resume(bob.user, cursor)
    back.tell(range(1, 20).map((i) => ({ t: "send", cid: `now-${i}`, conv, body: "now" })) as object)
    await has(back, conv, 170)
    assert.deepStrictEqual(given(back, conv), range(1, 170))
    assert.strictEqual(ofType(back, "ack").length, 20)
    assert.strictEqual(back.events(conv).length, 150)
  })
})

describe.concurrent("with seqs", () => {
  it("what is lower counts, and what is higher does not", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const convs = [(await say(ann, { to: bob.user }, "1")).conv]
    for (let i = 0; i < 3; i++) convs.push(await makeGroup(ann, [bob.user]))
    const [lower, higher, atHead, none] = convs as [string, string, string, string]
    for (const conv of convs) await fill(ann, conv, 4)
    await has(bob, none, 5)
    await has(bob, lower, 5)
    const { cursor } = await bob.until("a cursor after all of it", (all) =>
      all.slice(all.findLastIndex(({ t }) => t === "event")).find(({ t }) => t === "cursor")
    )
    await bob.leave()
    for (const conv of convs) await fill(ann, conv, 3)
    const back = await resume(bob.user, cursor, { [lower]: 2, [higher]: 7, [atHead]: 8 })
    for (const conv of convs) await has(back, conv, 8)
    await back.got("cursor")
    assert.deepStrictEqual(given(back, lower), range(3, 8))
    assert.deepStrictEqual(given(back, higher), range(6, 8))
    assert.deepStrictEqual(given(back, atHead), range(6, 8))
    assert.deepStrictEqual(given(back, none), range(6, 8))
    assert.deepStrictEqual(ofType(back, "reset", "gone"), [])
  })

  it("beyond the head there is a reset, and of a conversation that one is not in a gone", async () => {
    const [ann, bob, cy] = await Promise.all([someone("ann"), someone("bob"), someone("cy")])
    const { conv } = await say(ann, { to: bob.user }, "one")
    const { conv: theirs } = await say(ann, { to: cy.user }, "not for bob")
    await has(bob, conv, 1)
    const { cursor } = await bob.got("cursor")
    const empty = `dm:${bob.user}:nobody`
    const nowhere = "g:00000000-0000-8000-8000-000000000000"
    const back = await resume(bob.user, cursor, { [conv]: 9, [theirs]: 1, [nowhere]: 3, [empty]: 0 })
    assert.isTrue(back.welcome["recovered"])
    await say(ann, { conv }, "two")
    await has(back, conv, 2)
    assert.deepStrictEqual(
      ofType(back, "reset", "gone")
        .map((frame) => JSON.stringify(frame))
        .sort(),
      [
        JSON.stringify({ t: "gone", conv: nowhere }),
        JSON.stringify({ t: "gone", conv: theirs }),
        JSON.stringify({ t: "reset", conv, head: 1 })
      ].sort()
    )
    assert.deepStrictEqual(given(back, conv), [2])
  })

  it("there are at most 500", async () => {
    const ann = await someone("ann")
    const seqs = (count: number) => Object.fromEntries(range(1, count).map((i) => [`dm:${ann.user}:zed-${i}`, 0]))
    assert.isTrue((await resume(ann.user, ann.welcome["cursor"], seqs(500))).welcome["recovered"])
  })
})

describe.concurrent("too much to send", () => {
  it("is more than 200 events of a conversation: it is reset, and goes on live from its head", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { cursor } = bob.welcome
    await bob.leave()
    const much = await makeGroup(ann, [bob.user])
    const just = await makeGroup(ann, [bob.user])
    await fill(ann, much, 200)
    await fill(ann, just, 199)
    const back = await resume(bob.user, cursor)
    assert.isTrue(back.welcome["recovered"])
    assert.deepStrictEqual(await back.got("reset"), { t: "reset", conv: much, head: 201 })
    await has(back, just, 200)
    await say(ann, { conv: much }, "live")
    await say(ann, { conv: just }, "live")
    await has(back, much, 202)
    await has(back, just, 201)
    assert.deepStrictEqual(given(back, much), [202])
    assert.deepStrictEqual(given(back, just), range(1, 201))
    assert.strictEqual(ofType(back, "reset").length, 1)
    const { cursor: newer } = await back.got("cursor")
    const again = await resume(bob.user, newer)
    await quiet(again)
    assert.deepStrictEqual(ofType(again, "reset"), [])
    // From a seq that is too far away as well.
    const far = await resume(bob.user, newer, { [much]: 1 })
    assert.deepStrictEqual((await far.got("reset"))["head"], 202)
  })

  it("is more than 2,000 events in all: what is beyond is reset, whole conversations at a time", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { cursor } = bob.welcome
    await bob.leave()
    const convs: Array<string> = []
    for (let i = 0; i < 12; i++) convs.push(await makeGroup(ann, [bob.user]))
    for (const conv of convs) await fill(ann, conv, 179)
    const back = await resume(bob.user, cursor)
    await quiet(back)
    await back.got("cursor")
    const reset = ofType(back, "reset")
    assert.strictEqual(reset.length, 1)
    assert.strictEqual(reset[0]!["head"], 180)
    for (const conv of convs) assert.deepStrictEqual(given(back, conv), reset[0]!["conv"] === conv ? [] : range(1, 180))
  })
})

describe.concurrent("an unknown cursor", () => {
  it.each([
    ["made up", "bm90LWEtY3Vyc29y"],
    ["empty", ""],
    ["of another log", Buffer.from(`AAAAAAAAAAAA.${"0,".repeat(15)}0`).toString("base64url")]
  ])("%s: every conversation is reset, and goes on live", async (_, cursor) => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const dm = (await say(ann, { to: bob.user }, "one")).conv
    const group = await makeGroup(ann, [bob.user])
    const left = await makeGroup(ann, [bob.user])
    await say(ann, { conv: group }, "two")
    await ann.ask({ t: "members", conv: left, remove: [bob.user] })
    const back = await resume(bob.user, cursor, { [dm]: 1 })
    assert.isFalse(back.welcome["recovered"])
    assert.isNotEmpty(back.welcome["cursor"])
    await say(ann, { conv: dm }, "two")
    await has(back, dm, 2)
    const resets = ofType(back, "reset").map(({ conv, head }) => [conv, head])
    assert.deepStrictEqual(
      new Map(resets as Array<[string, number]>),
      new Map([
        [dm, 1],
        [group, 2]
      ])
    )
    assert.strictEqual(resets.length, 2)
    assert.deepStrictEqual(given(back, dm), [2])
    assert.deepStrictEqual(given(back, group), [])
    const { cursor: newer } = await back.got("cursor")
    assert.isTrue((await resume(bob.user, newer)).welcome["recovered"])
  })

  it("is also that of a log that got further, as after a backup was put back", async () => {
    const bob = await someone("bob")
    const [log] = Buffer.from(bob.welcome["cursor"] as string, "base64url")
      .toString()
      .split(".")
    const ahead = Buffer.from(`${log}.${Array(16).fill("zzzz").join(",")}`).toString("base64url")
    assert.isFalse((await resume(bob.user, ahead)).welcome["recovered"])
  })
})

describe.concurrent("those who are removed", () => {
  it("while they are here are given the removal, told to be gone, and nothing after", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user])
    await ann.ask({ t: "members", conv, remove: [bob.user] })
    await say(ann, { conv }, "without bob")
    await quiet(bob)
    const about = bob.frames.filter((frame) => frame["conv"] === conv)
    assert.deepStrictEqual(
      about.map(({ seq, t }) => [t, seq]),
      [
        ["event", 1],
        ["event", 2],
        ["gone", undefined]
      ]
    )
    assert.deepStrictEqual(about[1]?.["data"], { removed: [bob.user] })
    assert.strictEqual((await bob.ask({ t: "history", conv }))["code"], "not_found")
  })

  it("while they are away are told gone, and nothing else of it", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user])
    await has(bob, conv, 1)
    const { cursor } = await bob.got("cursor")
    await bob.leave()
    await say(ann, { conv }, "before")
    await ann.ask({ t: "members", conv, remove: [bob.user] })
    await say(ann, { conv }, "after")
    for (const seqs of [undefined, { [conv]: 1 }, { [conv]: 99 }]) {
      const back = await resume(bob.user, cursor, seqs)
      await quiet(back)
      assert.deepStrictEqual(
        back.frames.filter((frame) => frame["conv"] === conv),
        [{ t: "gone", conv }]
      )
      assert.strictEqual((await back.ask({ t: "sync", conv, after: 0 }))["code"], "not_found")
      const { cursor: newer } = await back.got("cursor")
      // Who knows it is told no more; who names it again is.
      const knowing = await resume(bob.user, newer)
      await quiet(knowing)
      assert.deepStrictEqual(ofType(knowing, "gone"), [])
      await (await resume(bob.user, newer, { [conv]: 1 })).got("gone")
    }
  })

  it("and come back meanwhile are given everything, and are not gone", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = await makeGroup(ann, [bob.user])
    await has(bob, conv, 1)
    const { cursor } = await bob.got("cursor")
    await bob.leave()
    await ann.ask({ t: "members", conv, remove: [bob.user] })
    await say(ann, { conv }, "without bob")
    await ann.ask({ t: "members", conv, add: [bob.user] })
    await say(ann, { conv }, "with bob")
    const back = await resume(bob.user, cursor)
    await has(back, conv, 5)
    assert.deepStrictEqual(given(back, conv), range(2, 5))
    assert.deepStrictEqual(ofType(back, "gone", "reset"), [])
    const { members } = (await back.ask({ t: "roster", conv })) as unknown as {
      members: ReadonlyArray<{ user: string }>
    }
    assert.isTrue(members.some(({ user }) => user === bob.user))
  })
})

describe.concurrent("while messages keep flowing", () => {
  it("every connection is given each conversation without a hole and nothing twice, from whichever cursor", async () => {
    const [ann, bob, cy] = await Promise.all([someone("ann"), someone("bob"), someone("cy")])
    const convs = [
      `dm:${ann.user}:${bob.user}`,
      await makeGroup(ann, [bob.user, cy.user]),
      await makeGroup(cy, [bob.user, ann.user])
    ]
    await say(ann, { to: bob.user }, "begin")
    await Promise.all([has(ann, convs[2]!, 1), has(cy, convs[1]!, 1)])
    let flowing = true
    const flow = async (from: Talk, into: ReadonlyArray<string>): Promise<void> => {
      while (flowing) {
        await Promise.all(
          into.flatMap((conv) => [say(from, { conv }, "x"), say(from, { conv }, "y"), say(from, { conv }, "z")])
        )
      }
    }
    const flows = Promise.all([flow(ann, convs), flow(cy, convs.slice(1))])

    /** What the device has, as one that keeps the cursor and the seqs together. */
    const known = new Map<string, number>()
    /** The highest seqs that had been given when a cursor came. */
    const covered = new Map<string, ReadonlyMap<string, number>>()
    let device = bob
    let cursor = bob.welcome["cursor"] as string
    covered.set(cursor, new Map())
    for (let round = 0; round < 12; round++) {
      // Some leave at once, in the middle of the replay; some stay for a cursor.
      const until = given(device, convs[round % 3]!).length + 1 + round * 3
      device.tell({ t: "send", cid: `mine-${round}`, conv: convs[round % 3]!, body: "mine" })
      await device.until("some of it", () => (given(device, convs[round % 3]!).length >= until ? true : undefined))
      if (round % 3 === 2) await device.got("cursor")
      await device.leave()
      // Frames that came before the last cursor are what it covers.
      const sofar = new Map(covered.get(cursor))
      const { frames } = device
      for (const frame of frames) {
        const conv = frame["conv"] as string
        if (frame.t === "cursor") {
          cursor = frame["cursor"] as string
          covered.set(cursor, new Map(sofar))
        } else if (["event", "ack", "reply"].includes(frame.t) && frame["dup"] !== true && conv !== undefined) {
          sofar.set(conv, Math.max(sofar.get(conv) ?? 0, frame["seq"] as number))
          known.set(conv, Math.max(known.get(conv) ?? 0, frame["seq"] as number))
        } else if (frame.t === "reset") {
          sofar.set(conv, Math.max(sofar.get(conv) ?? 0, frame["head"] as number))
          known.set(conv, Math.max(known.get(conv) ?? 0, frame["head"] as number))
        }
      }
      const from = covered.get(cursor)!
      device = await resume(bob.user, cursor, round % 2 === 0 ? undefined : Object.fromEntries(known))
      assert.isTrue(device.welcome["recovered"])
      for (const conv of convs) {
        const first = await device.until(`something of ${conv}`, (all) =>
          all.find((frame) => frame["conv"] === conv && ["event", "ack", "reset"].includes(frame.t))
        )
        if (first.t === "reset") continue
        assert.isAtMost(first["seq"] as number, (from.get(conv) ?? 0) + 1, `a hole after the cursor in ${conv}`)
      }
    }
    flowing = false
    await flows
    const heads = await Promise.all(
      convs.map(async (conv) => (await ann.ask({ t: "sync", conv, after: 0, limit: 1 }))["head"] as number)
    )
    for (const [i, conv] of convs.entries()) await has(device, conv, heads[i]!)
    for (const who of open.filter(({ user }) => [ann, bob, cy].some((one) => one.user === user))) {
      for (const conv of convs) {
        const seqs = given(who, conv)
        assert.deepStrictEqual(seqs, range(seqs[0] ?? 1, (seqs[0] ?? 1) + seqs.length - 1), `${who.user} in ${conv}`)
      }
    }
    assert.isAbove(covered.size, 3, "there were cursors to come back to")
    assert.isAbove(heads[0]!, 100, "and messages all the while")
  })

  it("cursors come at most once a second, and each of them is a place to come back to", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const conv = `dm:${ann.user}:${bob.user}`
    const times: Array<number> = []
    bob.socket.on("message", (data: Buffer) => {
      const frames = [JSON.parse(data.toString()) as Received].flat()
      for (const { t } of frames) if (t === "cursor") times.push(performance.now())
    })
    let sent = 0
    while (ofType(bob, "cursor").length < 3) {
      await say(ann, { conv }, "x")
      sent++
    }
    await has(bob, conv, sent)
    // A second of leave, since a busy machine may have brought the first one late.
    assert.isAtLeast(times.at(-1)! - times[0]!, (times.length - 2) * 1_000, `${times.length} cursors`)
    const { frames } = bob
    for (const [i, { cursor, t }] of frames.entries()) {
      if (t !== "cursor") continue
      const before = frames.slice(0, i).filter((frame) => frame.t === "event").length
      if (sent - before > 200) continue
      const back = await resume(bob.user, cursor)
      await has(back, conv, sent)
      assert.deepStrictEqual(given(back, conv), range(given(back, conv)[0]!, sent))
      assert.isAtMost(given(back, conv)[0]!, before + 1)
    }
  })
})

describe("with a cursor of before", () => {
  it("of a first welcome holds after a restart of the server, too", async () => {
    const [ann, bob] = await Promise.all([someone("ann"), someone("bob")])
    const { cursor } = bob.welcome
    await bob.leave()
    const { conv } = await say(ann, { to: bob.user }, "one")
    await server.restart()
    const back = await resume(bob.user, cursor)
    assert.isTrue(back.welcome["recovered"])
    await has(back, conv, 1)
    await say(await connect(ann.user), { conv }, "two")
    await has(back, conv, 2)
    assert.deepStrictEqual(given(back, conv), [1, 2])
  })
})
