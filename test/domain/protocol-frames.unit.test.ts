import * as Result from "effect/Result"
import { describe, expect, it } from "vitest"
import { CLOSE, closeCode } from "../../src/domain/protocol/close-codes.ts"
import { decodeClientFrame } from "../../src/domain/protocol/decode.ts"

const limits = { bodyChars: 100 }
const answer = (frame: unknown) => {
  const result = decodeClientFrame(typeof frame === "string" ? JSON.parse(frame) : frame, limits)
  return Result.isSuccess(result) ? "ok" : result.failure
}

const dm = "dm:alice:bob"
const group = "g:0f0e0d0c-0b0a-8908-8706-050403020100"
const users = (count: number) => Array.from({ length: count }, (_, index) => `u${index}`)
const seqs = (count: number) => Object.fromEntries(users(count).map((user) => [`dm:a:${user}`, 3]))

/** One valid frame of each operation, to be spoilt one rule at a time. */
const good = {
  hello: { t: "hello", v: 1, token: "x", device: "d", resume: { cursor: "abc", seqs: { [dm]: 0, [group]: 7 } } },
  send: { t: "send", cid: "c1", conv: dm, body: "hi", kind: "text", replyTo: 1 },
  edit: { t: "edit", cid: "c1", conv: dm, target: 1, body: "hi" },
  delete: { t: "delete", cid: "c1", conv: group, target: 1 },
  react: { t: "react", cid: "c1", conv: dm, target: 1, emoji: "👋", on: true },
  mark: { t: "mark", conv: dm, delivered: 2, seen: 1 },
  create: { t: "create", rid: "r1", cid: "c1", members: ["bob"], title: "T" },
  members: { t: "members", rid: "r1", cid: "c1", conv: group, add: ["x"], remove: ["y"] },
  leave: { t: "leave", rid: "r1", cid: "c1", conv: group },
  title: { t: "title", rid: "r1", cid: "c1", conv: group, title: "T" },
  roster: { t: "roster", rid: "r1", conv: group, after: "bob", limit: 256 },
  sync: { t: "sync", rid: "r1", conv: dm, after: 0, limit: 200 },
  history: { t: "history", rid: "r1", conv: dm, before: 5, limit: 200 },
  convs: { t: "convs", rid: "r1", after: "opaque", limit: 200 },
  typing: { t: "typing", conv: dm, on: false },
  presence: { t: "presence", rid: "r1", users: ["bob"], watch: true },
  refresh: { t: "refresh", rid: "r1", token: "x" },
  ping: { t: "ping" }
} as const
const without = (frame: object, ...keys: string[]) =>
  Object.fromEntries(Object.entries(frame).filter(([key]) => !keys.includes(key)))

describe("client frames", () => {
  it.each(Object.entries(good))("accepts %s", (_, frame) => expect(answer(frame)).toBe("ok"))

  it.each(Object.entries(good))("refuses a field that %s does not have", (_, frame) => {
    const problem = answer({ ...frame, extra: 1 })
    expect(problem).toMatchObject({ code: "bad_request", message: expect.stringContaining("extra") })
  })

  const required: Record<string, readonly string[]> = {
    hello: ["v", "token", "device"],
    send: ["cid", "conv", "body"],
    edit: ["cid", "conv", "target", "body"],
    delete: ["cid", "conv", "target"],
    react: ["cid", "conv", "target", "emoji", "on"],
    mark: ["conv"],
    create: ["rid", "cid", "members"],
    members: ["rid", "cid", "conv"],
    leave: ["rid", "cid", "conv"],
    title: ["rid", "cid", "conv", "title"],
    roster: ["rid", "conv"],
    sync: ["rid", "conv", "after"],
    history: ["rid", "conv"],
    convs: ["rid"],
    typing: ["conv", "on"],
    presence: ["rid", "users"],
    refresh: ["rid", "token"]
  }
  it.each(Object.entries(required).flatMap(([op, fields]) => fields.map((field) => [op, field] as const)))(
    "%s needs %s, and not null",
    (op, field) => {
      const frame = good[op as keyof typeof good]
      expect(answer(without(frame, field))).toMatchObject({
        code: "bad_request",
        message: expect.stringContaining(field)
      })
      expect(answer({ ...frame, [field]: null })).toMatchObject({
        code: "bad_request",
        message: expect.stringContaining(field)
      })
    }
  )

  it.each([
    ["send with 'to'", { ...without(good.send, "conv"), to: "bob" }],
    ["send to oneself", { t: "send", cid: "c", to: "alice", body: "x" }],
    ["a body of exactly the limit", { ...good.send, body: "x".repeat(100) }],
    ["hello with a ticket", { ...without(good.hello, "token"), ticket: "t" }],
    ["hello with 500 seqs", { ...good.hello, resume: { cursor: "x", seqs: seqs(500) } }],
    ["hello with an empty cursor, which is merely unknown", { ...good.hello, resume: { cursor: "" } }],
    ["create of 256", { ...good.create, members: users(256) }],
    ["create of nobody else", { ...good.create, members: [] }],
    ["256 members in add and remove", { ...good.members, add: users(200), remove: users(56) }],
    ["history after 0", { t: "history", rid: "r", conv: dm, after: 0 }],
    ["a title of 200", { ...good.title, title: "x".repeat(200) }],
    ["an emoji of 64", { ...good.react, emoji: "x".repeat(64) }],
    ["a kind that is a media type", { ...good.send, kind: "image/svg+xml" }],
    ["an empty rid", { ...good.leave, rid: "" }],
    ["a title of 200 emoji", { ...good.title, title: "😀".repeat(200) }]
  ])("accepts %s", (_, frame) => expect(answer(frame)).toBe("ok"))

  it.each([
    ["null", null, "got null"],
    ["a number", 5, "got 5"],
    ["an array in an array", [], "an array of 0"],
    ["no t", {}, "t:"],
    ["t of another type", { t: 1 }, "t:"],
    ["another version", { ...good.hello, v: 2 }, "v:"],
    ["token and ticket", { ...good.hello, ticket: "x" }, "exactly one of token and ticket"],
    ["an empty token", { ...good.hello, token: "" }, "token:"],
    ["a device with a space", { ...good.hello, device: "a b" }, "device:"],
    ["501 seqs", { ...good.hello, resume: { cursor: "x", seqs: seqs(501) } }, "500"],
    ["a negative seq to resume from", { ...good.hello, resume: { cursor: "x", seqs: { [dm]: -1 } } }, "seqs"],
    ["a resume of no conversation", { ...good.hello, resume: { cursor: "x", seqs: { foo: 1 } } }, "resume.seqs"],
    ["a resume with more fields", { ...good.hello, resume: { cursor: "x", zap: 1 } }, "zap"],
    ["a resume without cursor", { ...good.hello, resume: {} }, "cursor"],
    ["conv and to", { ...good.send, to: "bob" }, "exactly one of conv and to"],
    ["neither conv nor to", without(good.send, "conv"), "exactly one of conv and to"],
    ["an unsorted dm", { ...good.send, conv: "dm:bob:alice" }, "sorted"],
    ["a malformed user", { ...without(good.send, "conv"), to: "b b" }, "to:"],
    ["an empty body", { ...good.send, body: "" }, "body:"],
    ["NUL in a body", { ...good.send, body: "a\u0000" }, "body:"],
    ["a lone surrogate in a body", { ...good.send, body: "\ud800" }, "body:"],
    ["a body of another type", { ...good.send, body: 5 }, "body:"],
    ["a kind with a space", { ...good.send, kind: "a b" }, "kind:"],
    ["an empty kind", { ...good.send, kind: "" }, "kind:"],
    ["a kind of 65", { ...good.send, kind: "x".repeat(65) }, "kind:"],
    ["replyTo 0", { ...good.send, replyTo: 0 }, "replyTo:"],
    ["replyTo 1.5", { ...good.send, replyTo: 1.5 }, "replyTo:"],
    ["replyTo as text", { ...good.send, replyTo: "1" }, "replyTo:"],
    [
      "replyTo beyond safe integers",
      '{"t":"send","cid":"c","to":"b","body":"x","replyTo":9007199254740993}',
      "replyTo:"
    ],
    ["target 0", { ...good.edit, target: 0 }, "target:"],
    ["an empty edit", { ...good.edit, body: "" }, "body:"],
    ["an empty emoji", { ...good.react, emoji: "" }, "emoji:"],
    ["an emoji of 65", { ...good.react, emoji: "x".repeat(65) }, "emoji:"],
    ["NUL as emoji", { ...good.react, emoji: "\u0000" }, "emoji:"],
    ["on as a number", { ...good.react, on: 1 }, "on:"],
    ["a mark of nothing", { t: "mark", conv: dm }, "delivered and seen"],
    ["a mark at 0", { t: "mark", conv: dm, seen: 0 }, "seen:"],
    ["257 members", { ...good.create, members: users(257) }, "256"],
    ["a member with a colon", { ...good.create, members: ["bob", "a:b"] }, "members.1:"],
    ["members as text", { ...good.create, members: "bob" }, "members:"],
    ["an empty title", { ...good.create, title: "" }, "title:"],
    ["a title of 201", { ...good.title, title: "x".repeat(201) }, "title:"],
    ["neither add nor remove", without(good.members, "add", "remove"), "add and remove"],
    ["empty add and remove", { ...good.members, add: [], remove: [] }, "add and remove"],
    ["257 in add and remove", { ...good.members, add: users(200), remove: users(57) }, "256"],
    ["a title of 201 emoji", { ...good.title, title: "😀".repeat(201) }, "title:"],
    ["a rid of 65", { ...good.leave, rid: "x".repeat(65) }, "rid:"],
    ["a rid that is a number", { ...good.leave, rid: 1 }, "rid:"],
    ["a cid of 65", { ...good.leave, cid: "x".repeat(65) }, "cid:"],
    ["a roster limit of 257", { ...good.roster, limit: 257 }, "limit:"],
    ["a limit of 0", { ...good.roster, limit: 0 }, "limit:"],
    ["a sync limit of 201", { ...good.sync, limit: 201 }, "limit:"],
    ["sync after -1", { ...good.sync, after: -1 }, "after:"],
    ["a history limit of 201", { ...good.history, limit: 201 }, "limit:"],
    ["before and after", { ...good.history, after: 1 }, "at most one of"],
    ["before 0", { ...good.history, before: 0 }, "before:"],
    ["around 0", { t: "history", rid: "r", conv: dm, around: 0 }, "around:"],
    ["a convs limit as text", { ...good.convs, limit: "5" }, "limit:"],
    ["201 users", { ...good.presence, users: users(201) }, "200"],
    ["watch as text", { ...good.presence, watch: "yes" }, "watch:"],
    ["a key named __proto__", '{"t":"ping","__proto__":{}}', "__proto__"],
    [
      "a key named __proto__ among seqs",
      '{"t":"hello","v":1,"token":"x","device":"d","resume":{"cursor":"","seqs":{"__proto__":1}}}',
      "seqs"
    ]
  ])("refuses %s", (_, frame, says) => {
    expect(answer(frame)).toMatchObject({ code: "bad_request", message: expect.stringContaining(says) })
  })

  it("says that a body is too large, and how large it may be", () => {
    for (const frame of [good.send, good.edit]) {
      expect(answer({ ...frame, body: "x".repeat(101) })).toMatchObject({
        code: "too_large",
        cid: "c1",
        message: expect.stringMatching(/101.*100/)
      })
    }
    // A character outside the basic plane is one, although it takes two code units.
    expect(answer({ ...good.send, body: "👋".repeat(101) })).toMatchObject({ code: "too_large" })
    expect(answer({ ...good.send, body: "👋".repeat(100) })).toBe("ok")
  })

  it("names the operations there are to one who asks for another", () => {
    expect(answer({ t: "sned", rid: "r9", cid: "c9" })).toEqual({
      code: "unknown_op",
      message: expect.stringMatching(/"sned".*send/),
      rid: "r9",
      cid: "c9"
    })
    expect(answer({ t: "toString" })).toMatchObject({ code: "unknown_op" })
  })

  it("gives back the ids of a refused frame only where they can be echoed", () => {
    expect(answer({ ...good.create, members: 1 })).toMatchObject({ rid: "r1", cid: "c1" })
    const problem = answer({ ...good.create, rid: "x".repeat(65), cid: "a b", members: 1 })
    expect(problem).not.toHaveProperty("rid")
    expect(problem).not.toHaveProperty("cid")
  })

  it("never repeats a token, nor more than a line of anything", () => {
    const problem = answer({ ...good.refresh, token: { secret: "s3cret" } })
    expect(JSON.stringify(problem)).not.toContain("s3cret")
    const long = answer({ ...good.typing, conv: "x".repeat(5_000) })
    expect(long === "ok" ? "" : long.message.length).toBeLessThan(300)
    const key = answer({ ...good.ping, ["k\n".repeat(5_000)]: 1 })
    expect(key === "ok" ? "" : key.message).toMatch(/^.{1,200}$/)
  })
})

describe("close codes", () => {
  it("are found by number and fit a close frame", () => {
    for (const close of Object.values(CLOSE)) {
      expect(closeCode(close.code)).toBe(close)
      expect(Buffer.byteLength(close.reason)).toBeLessThanOrEqual(123)
    }
    expect(closeCode(1006)).toBeUndefined()
  })
})
