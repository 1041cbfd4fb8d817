import { assert, describe, it } from "@effect/vitest"
import * as HashMap from "effect/HashMap"
import { type Command, type Intent, contentDigest, sortedUsers } from "../../src/domain/commands.ts"
import {
  type Conversation,
  evolve,
  initial,
  MAX_MEMBERS,
  memberOf,
  receiptCounts
} from "../../src/domain/conversation.ts"
import { decide, type Decision, type Facts } from "../../src/domain/decide.ts"
import type { EventData } from "../../src/domain/events.ts"

const DM = "dm:ann:bob"
const GROUP = "g:00000000-0000-8000-8000-000000000001"

const command = (by: string, intent: Intent, conv: string, cid = "c1"): Command => ({
  conv,
  by,
  cid,
  intent,
  origin: { node: "n", session: "s" }
})

/** A conversation, and what was decided of it last. */
const given = (conv: string) => {
  let state = initial(conv)
  let position = 0
  let cid = 0
  const scenario = {
    when: (by: string, intent: Intent, facts: Partial<Facts> = {}): Decision =>
      decide(state, command(by, intent, conv, `c${++cid}`), { now: 1000, recentDms: 0, newDmsPerHour: 60, ...facts }),
    has: (by: string, intent: Intent, facts: Partial<Facts> = {}) => {
      const decision = scenario.when(by, intent, facts)
      assert.strictEqual(decision._tag, "Accepted", JSON.stringify(decision))
      if (decision._tag === "Accepted") state = evolve(state, decision.event, ++position)
      return scenario
    },
    get state(): Conversation {
      return state
    }
  }
  return scenario
}

const send = (body: string): Intent => ({ type: "send", kind: "text", body })
const create = (...members: ReadonlyArray<string>): Intent => ({ type: "create", members: sortedUsers(members) })
const change = (add: ReadonlyArray<string>, remove: ReadonlyArray<string> = []): Intent => ({
  type: "members",
  add,
  remove
})

const refusedWith = (decision: Decision, code: string) => {
  assert.strictEqual(decision._tag, "Rejected", JSON.stringify(decision))
  if (decision._tag === "Rejected") assert.strictEqual(decision.rejection.code, code)
}
const accepted = (decision: Decision) => {
  assert.strictEqual(decision._tag, "Accepted", JSON.stringify(decision))
  return decision._tag === "Accepted" ? decision.event : assert.fail("not accepted")
}

describe("direct conversations", () => {
  it("begin with their first message, which has seq 1 and makes both members", () => {
    const dm = given(DM).has("ann", send("hi"))
    assert.strictEqual(dm.state.seq, 1)
    assert.deepStrictEqual([...HashMap.keys(dm.state.members)].sort(), ["ann", "bob"])
    assert.strictEqual(memberOf(dm.state, "bob")?.since, 1000)
  })
  it("are not there for strangers", () => {
    refusedWith(given(DM).has("ann", send("hi")).when("eve", send("hello")), "not_found")
  })
  it("have two fixed members and no title", () => {
    const dm = given(DM).has("ann", send("hi"))
    refusedWith(dm.when("ann", change(["eve"])), "forbidden")
    refusedWith(dm.when("ann", { type: "leave" }), "forbidden")
    refusedWith(dm.when("ann", { type: "title", title: "us" }), "forbidden")
  })
  it("may be held with oneself", () => {
    const notes = given("dm:ann:ann").has("ann", send("note"))
    assert.strictEqual(HashMap.size(notes.state.members), 1)
  })
  it("cannot be opened without end", () => {
    refusedWith(given(DM).when("ann", send("hi"), { recentDms: 60 }), "rate_limited")
    accepted(given(DM).has("bob", send("hi")).when("ann", send("hi"), { recentDms: 60 }))
  })
})

describe("groups", () => {
  const group = () => given(GROUP).has("ann", create("bob", "cid"))

  it("hold their creator as admin and each member once", () => {
    const event = accepted(given(GROUP).when("ann", create("bob", "ann", "bob")))
    assert.deepStrictEqual((event.data as EventData["created"]).members, ["ann", "bob"])
    assert.isTrue(memberOf(group().state, "ann")?.admin)
    assert.isFalse(memberOf(group().state, "bob")?.admin)
  })
  it("let any member add, name and leave, and only admins remove others", () => {
    accepted(group().when("bob", change(["dan"])))
    accepted(group().when("bob", { type: "title", title: "x" }))
    accepted(group().when("bob", { type: "leave" }))
    accepted(group().when("bob", change([], ["bob"])))
    refusedWith(group().when("bob", change([], ["cid"])), "forbidden")
    accepted(group().when("ann", change([], ["cid"])))
  })
  it("are not there for those who were removed", () => {
    refusedWith(
      group()
        .has("ann", change([], ["cid"]))
        .when("cid", send("hi")),
      "not_found"
    )
  })
  it("answer a repeat also to one who has left, and refuse other content under the same cid", () => {
    const gone = group().has("ann", change([], ["cid"]))
    const prior = { seq: 2, at: 5, digest: contentDigest(send("hi")) }
    assert.deepStrictEqual(gone.when("cid", send("hi"), { prior }), { _tag: "Repeat", seq: 2, at: 5 })
    refusedWith(gone.when("cid", send("other"), { prior }), "conflict")
  })
  it("make the longest-standing member admin when the last admin leaves", () => {
    const left = group()
      .has("bob", change(["abe"]), { now: 2000 })
      .has("ann", { type: "leave" }, { now: 3000 })
    assert.isTrue(memberOf(left.state, "bob")?.admin, "bob and cid joined first; bob comes first by id")
    assert.isFalse(memberOf(left.state, "abe")?.admin)
  })
  it("make one event of one command, also when it changes nothing", () => {
    const event = accepted(group().when("ann", change(["bob"], ["dan"])))
    assert.deepStrictEqual(event.data, {})
    assert.strictEqual(event.seq, 2)
  })
  it("refuse a user in both lists", () => {
    refusedWith(group().when("ann", change(["dan"], ["dan"])), "bad_request")
  })
  it(`hold at most ${MAX_MEMBERS} members`, () => {
    const many = Array.from({ length: MAX_MEMBERS - 3 }, (_, i) => `u${String(i).padStart(5, "0")}`)
    const full = group().has("ann", change(many))
    refusedWith(full.when("ann", change(["zed"])), "too_large")
    accepted(full.when("ann", change(["zed"], ["cid"])))
  })
})

describe("messages", () => {
  const talk = () => given(GROUP).has("ann", create("bob", "cid")).has("bob", send("hi"))
  const author = "bob"

  it("are edited by their author only", () => {
    accepted(talk().when("bob", { type: "edit", target: 2, body: "ho" }, { author }))
    refusedWith(talk().when("ann", { type: "edit", target: 2, body: "ho" }, { author }), "forbidden")
  })
  it("are deleted by their author and by admins", () => {
    accepted(talk().when("bob", { type: "delete", target: 2 }, { author }))
    accepted(talk().when("ann", { type: "delete", target: 2 }, { author }))
    refusedWith(talk().when("cid", { type: "delete", target: 2 }, { author }), "forbidden")
  })
  it("must exist to be edited, deleted, reacted or replied to", () => {
    refusedWith(talk().when("bob", { type: "edit", target: 9, body: "x" }), "not_found")
    refusedWith(talk().when("bob", { type: "delete", target: 9 }), "not_found")
    refusedWith(talk().when("bob", { type: "react", target: 9, emoji: "+", on: true }), "not_found")
    refusedWith(talk().when("bob", { type: "send", kind: "text", body: "x", replyTo: 9 }), "not_found")
  })
  it("never go back in time within a conversation", () => {
    assert.strictEqual(
      accepted(talk().has("ann", send("x"), { now: 9000 }).when("bob", send("y"), { now: 8000 })).at,
      9000
    )
  })
})

describe("marks", () => {
  const talk = () => given(GROUP).has("ann", create("bob", "cid")).has("bob", send("1")).has("bob", send("2"))
  const mark = (marks: { delivered?: number; seen?: number }): Intent => ({ type: "mark", ...marks })

  it("move forward only, and seen implies delivered", () => {
    const marked = talk().has("ann", mark({ seen: 3 }))
    assert.deepInclude(memberOf(marked.state, "ann"), { seen: 3, delivered: 3 })
    assert.strictEqual(marked.when("ann", mark({ seen: 2 }))._tag, "Unchanged")
    assert.strictEqual(marked.when("ann", mark({ delivered: 3 }))._tag, "Unchanged")
  })
  it("take no seq", () => {
    assert.strictEqual(talk().has("ann", mark({ seen: 3 })).state.seq, 3)
  })
  it("never pass the head, and belong to members", () => {
    refusedWith(talk().when("ann", mark({ seen: 4 })), "bad_request")
    refusedWith(talk().when("eve", mark({ seen: 1 })), "not_found")
  })
  it("are counted", () => {
    const marked = talk()
      .has("ann", mark({ seen: 3 }))
      .has("cid", mark({ delivered: 3 }))
    assert.deepStrictEqual(receiptCounts(marked.state, 3), { deliveredCount: 2, seenCount: 1 })
  })
})
