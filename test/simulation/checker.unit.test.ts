import { assert, describe, it } from "vitest"
import { check, type Entry, type Fields, type History, type LogEvent } from "../support/checker.ts"

const DM = "dm:ann:bob"
const GROUP = "g:00000000-0000-8000-8000-000000000001"

const message = (seq: number, by: string, cid: string, body = cid): LogEvent => ({
  seq,
  type: "message",
  by,
  at: 1000 + seq,
  cid,
  data: { kind: "text", body }
})
const members = (seq: number, by: string, cid: string, data: Record<string, unknown>): LogEvent => ({
  seq,
  type: "members",
  by,
  at: 1000 + seq,
  cid,
  data
})
const created = (by: string, cid: string, who: ReadonlyArray<string>): LogEvent => ({
  seq: 1,
  type: "created",
  by,
  at: 1001,
  cid,
  data: { kind: "group", members: who }
})

const sent = (at: number, frame: Fields): Entry => ({ at, dir: "sent", frame })
const received = (at: number, frame: Fields): Entry => ({ at, dir: "received", frame })
const given = (at: number, conv: string, event: LogEvent): Entry => received(at, { t: "event", conv, ...event })
const send = (at: number, cid: string, body = cid): Entry => sent(at, { t: "send", cid, conv: DM, body })
const ack = (at: number, cid: string, seq: number, more: object = {}): Entry =>
  received(at, { t: "ack", cid, conv: DM, state: "persisted", seq, at: 1000 + seq, ...more })
const hello = (at: number, resume?: Fields["resume"]): ReadonlyArray<Entry> => [
  { at, dir: "opened" },
  sent(at, { t: "hello", v: 1, token: "x", device: "x", ...(resume === undefined ? {} : { resume }) })
]
const welcome = (at: number, cursor: string, recovered = false): Entry =>
  received(at, { t: "welcome", cursor, recovered })
const closed = (at: number): Entry => ({ at, dir: "closed", code: 1006 })

/** What ann's and bob's connections recorded; `start` and `end` are cursors before and after everything. */
const history = (
  sessions: { readonly ann?: ReadonlyArray<ReadonlyArray<Entry>>; readonly bob?: ReadonlyArray<ReadonlyArray<Entry>> },
  log: History["log"],
  more: Partial<History> = {}
): History => ({
  clients: Object.entries(sessions).map(([user, all]) => ({
    user,
    device: user,
    sessions: all.map((entries) => ({ entries }))
  })),
  log,
  cursors: { start: {}, end: Object.fromEntries(Object.entries(log).map(([conv, events]) => [conv, events.length])) },
  until: 100_000,
  ...more
})

const invariants = (one: History): ReadonlyArray<string> => [
  ...new Set(check(one).violations.map(({ invariant }) => invariant))
]
const holds = (one: History): void => assert.deepStrictEqual(check(one).violations, [])
const violates = (invariant: string, one: History): void => assert.include(invariants(one), invariant)

const a1 = message(1, "ann", "a1")
const b1 = message(2, "bob", "b1")
const a2 = message(3, "ann", "a2")
const talk = { [DM]: [a1, b1, a2] }
const annTalks: ReadonlyArray<Entry> = [
  ...hello(0),
  welcome(1, "start"),
  send(10, "a1"),
  ack(12, "a1", 1),
  given(22, DM, b1),
  send(30, "a2"),
  ack(32, "a2", 3)
]
const bobTalks: ReadonlyArray<Entry> = [
  ...hello(0),
  welcome(1, "start"),
  given(12, DM, a1),
  send(20, "b1"),
  ack(22, "b1", 2),
  given(33, DM, a2)
]

describe("the checker", () => {
  it("finds nothing wrong with a conversation as it should be, and says what it looked at", () => {
    const { judged, violations } = check(history({ ann: [annTalks], bob: [bobTalks] }, talk, { quietFrom: 40 }))
    assert.deepStrictEqual(violations, [])
    for (const invariant of ["I1", "I3", "I4", "I5", "I10", "I11", "I19"])
      assert.isAbove(judged[invariant] ?? 0, 0, invariant)
  })

  describe("I1", () => {
    it("an ack of what the log does not hold", () => violates("I1", history({ ann: [annTalks] }, { [DM]: [a1, b1] })))
    it("an event with other bytes than the log's", () =>
      violates(
        "I1",
        history(
          { bob: [[...hello(0), welcome(1, "start"), given(5, DM, { ...a1, data: { kind: "text", body: "!" } })]] },
          talk
        )
      ))
    it("an event that the log does not hold", () =>
      violates(
        "I1",
        history({ bob: [[...hello(0), welcome(1, "start"), given(5, DM, message(4, "ann", "a9"))]] }, talk)
      ))
  })

  describe("I3", () => {
    it("a cid that is two events", () => violates("I3", history({}, { [DM]: [a1, { ...a1, seq: 2 }] })))
    it("a repeat with another answer", () =>
      violates("I3", history({ ann: [[...annTalks, send(40, "a1"), ack(41, "a1", 2, { dup: true })]] }, talk)))
    it("a repeat with the same answer is fine", () =>
      holds(history({ ann: [[...annTalks, send(40, "a1"), ack(41, "a1", 1, { dup: true })]] }, talk)))
    it("an ack for another content", () => {
      const second = [
        ...hello(50, { cursor: "end" }),
        welcome(51, "end", true),
        send(52, "a1", "else"),
        ack(53, "a1", 1, { dup: true })
      ]
      violates("I3", history({ ann: [[...annTalks, closed(45)], second] }, talk))
    })
    it("a conflict with itself", () => {
      const refused = received(12, { t: "err", cid: "a1", code: "conflict", message: "", retryable: false })
      violates("I3", history({ ann: [[...hello(0), welcome(1, "start"), send(10, "a1"), refused]] }, { [DM]: [a1] }))
    })
    it("an event that nobody sent", () =>
      violates(
        "I3",
        history(
          { ann: [[...hello(0), welcome(1, "start"), send(10, "a1", "one thing")]] },
          { [DM]: [message(1, "ann", "a1", "another")] }
        )
      ))
  })

  it("I4: a hole, and a time that falls", () => {
    violates("I4", history({}, { [DM]: [a1, { ...b1, seq: 3 }] }))
    violates("I4", history({}, { [DM]: [a1, { ...b1, at: 5 }] }))
  })

  describe("I5", () => {
    it("two sends of one connection that changed places", () => {
      const log = { [DM]: [message(1, "ann", "a2"), message(2, "ann", "a1")] }
      violates("I5", history({ ann: [[...hello(0), welcome(1, "start"), send(10, "a1"), send(11, "a2")]] }, log))
    })
    it("something that was sent after another was acked, and comes before it", () => {
      const log = { [DM]: [message(1, "bob", "b1"), message(2, "ann", "a1")] }
      const ann = [...hello(0), welcome(1, "start"), send(10, "a1"), ack(12, "a1", 2)]
      const bob = [...hello(0), welcome(1, "start"), send(20, "b1"), ack(22, "b1", 1)]
      violates("I5", history({ ann: [ann], bob: [bob] }, log))
    })
    it("one that was refused for the moment may come later", () => {
      const busy = received(12, { t: "err", cid: "a1", code: "busy", message: "", retryable: true })
      const ann = [
        ...hello(0),
        welcome(1, "start"),
        send(10, "a1"),
        send(11, "a2"),
        busy,
        ack(13, "a2", 1),
        send(20, "a1"),
        ack(22, "a1", 2)
      ]
      holds(history({ ann: [ann] }, { [DM]: [message(1, "ann", "a2"), message(2, "ann", "a1")] }))
    })
  })

  describe("I6", () => {
    const refused = received(12, { t: "err", cid: "a1", code: "not_found", message: "", retryable: false })
    it("a command that was refused and is in the log", () =>
      violates("I6", history({ ann: [[...hello(0), welcome(1, "start"), send(10, "a1"), refused]] }, { [DM]: [a1] })))
    it("a refusal that nothing explains", () =>
      violates("I6", history({ ann: [[...hello(0), welcome(1, "start"), send(10, "a1"), refused]] }, {})))
    it("a refusal that the conversation explains", () => {
      const edit = sent(10, { t: "edit", cid: "a1", conv: DM, target: 1, body: "new" })
      holds(history({ ann: [[...hello(0), welcome(1, "start"), edit, refused]] }, {}))
    })
  })

  describe("I10", () => {
    const from = (...entries: ReadonlyArray<Entry>) =>
      history({ bob: [[...hello(0), welcome(1, "start"), ...entries]] }, talk)
    it("a hole", () => violates("I10", from(given(12, DM, a1), given(33, DM, a2))))
    it("a repeat", () => violates("I10", from(given(12, DM, a1), given(13, DM, a1))))
    it("a hole that a reset told of", () =>
      holds(from(given(12, DM, a1), received(20, { t: "reset", conv: DM, head: 2 }), given(33, DM, a2))))
    it("what a reset covers, given again", () =>
      violates("I10", from(received(20, { t: "reset", conv: DM, head: 3 }), given(33, DM, a2))))
    it("an answer that stands for its event", () =>
      violates("I10", history({ ann: [[...annTalks.slice(0, 4), send(30, "a2"), ack(32, "a2", 3)]] }, talk)))
  })

  it("I11: somebody who is connected and behind, and somebody who came to the head too late", () => {
    violates("I11", history({ bob: [bobTalks.slice(0, -1)] }, talk, { quietFrom: 100 }))
    violates("I11", history({ bob: [[...bobTalks.slice(0, -1), given(5_200, DM, a2)]] }, talk, { quietFrom: 100 }))
    holds(history({ bob: [[...bobTalks.slice(0, -1), given(5_050, DM, a2)]] }, talk, { quietFrom: 100 }))
  })

  describe("I12", () => {
    const cursors = { start: {}, first: { [DM]: 1 }, end: { [DM]: 3 } }
    const resumed = (resume: object, ...entries: ReadonlyArray<Entry>) =>
      history({ bob: [[...hello(0, resume), welcome(1, "first", true), ...entries]] }, talk, { cursors })
    it("a resume that leaves something out", () => violates("I12", resumed({ cursor: "first" }, given(2, DM, a2))))
    it("a resume from where the cursor is", () =>
      holds(resumed({ cursor: "first" }, given(2, DM, b1), given(3, DM, a2))))
    it("a resume from what the device says that it has", () =>
      holds(resumed({ cursor: "first", seqs: { [DM]: 0 } }, given(2, DM, a1), given(3, DM, b1), given(4, DM, a2))))
    it("a cursor past what was given", () =>
      violates("I12", resumed({ cursor: "first" }, given(2, DM, b1), received(3, { t: "cursor", cursor: "end" }))))
    it("an unknown cursor that was recovered from", () =>
      violates("I12", history({ bob: [[...hello(0, { cursor: "?" }), welcome(1, "start", true)]] }, talk, { cursors })))
  })

  describe("I13 and I14", () => {
    const asked = (request: Fields, reply: Fields, ...before: ReadonlyArray<Entry>) =>
      history(
        {
          bob: [
            [
              ...hello(0),
              welcome(1, "start"),
              ...before,
              sent(50, { ...request, rid: "r" }),
              received(51, { ...reply, rid: "r" })
            ]
          ]
        },
        talk
      )
    const convs = (item: object, ...before: ReadonlyArray<Entry>) =>
      asked(
        { t: "convs" },
        { t: "reply", items: [{ conv: DM, kind: "dm", head: 3, seen: 1, unread: 1, ...item }] },
        ...before
      )
    it("a count of unread messages", () => {
      holds(convs({}))
      violates("I13", convs({ unread: 2 }))
      violates("I13", convs({ seen: 4, unread: 0 }))
    })
    it("a receipt past the head", () =>
      violates(
        "I13",
        history(
          { ann: [[...hello(0), welcome(1, "start"), received(9, { t: "receipt", conv: DM, user: "bob", seen: 4 })]] },
          talk
        )
      ))
    it("a list that lacks what the asker was given", () =>
      violates("I14", asked({ t: "convs" }, { t: "reply", items: [] }, given(12, DM, a1))))
    it("a head behind what the asker was given", () =>
      violates("I14", convs({ head: 1, unread: 0 }, given(12, DM, a1), given(13, DM, b1))))

    const rawEvents = (...events: ReadonlyArray<LogEvent>) => events.map((event) => ({ conv: DM, ...event }))
    it("events of a sync", () => {
      const sync = { t: "sync", conv: DM, after: 1, limit: 200 }
      holds(asked(sync, { t: "reply", events: rawEvents(b1, a2), head: 3, more: false }))
      violates("I14", asked(sync, { t: "reply", events: rawEvents(a2), head: 3, more: false }))
      violates("I14", asked(sync, { t: "reply", events: rawEvents(b1), head: 3, more: false }))
    })
    const folded = ({ data, type: _, ...rest }: LogEvent) => ({ conv: DM, ...rest, ...data })
    it("messages of a history", () => {
      const newest = { t: "history", conv: DM, limit: 2 }
      holds(asked(newest, { t: "reply", messages: [folded(b1), folded(a2)], head: 3, more: true }))
      violates("I14", asked(newest, { t: "reply", messages: [folded(a1), folded(a2)], head: 3, more: false }))
      violates("I14", asked(newest, { t: "reply", messages: [folded(a1), folded(b1)], head: 3, more: false }))
      violates("I14", asked(newest, { t: "reply", messages: [folded(b1), folded(a2)], head: 3, more: false }))
      violates(
        "I14",
        asked(newest, { t: "reply", messages: [folded(b1), { ...folded(a2), body: "?" }], head: 3, more: true })
      )
    })
  })

  describe("I17", () => {
    const out = members(2, "ann", "a2", { removed: ["bob"] })
    const after = { ...message(3, "ann", "a3") }
    const log = { [GROUP]: [created("ann", "a1", ["ann", "bob"]), out, after] }
    const remove = sent(20, { t: "members", rid: "r", cid: "a2", conv: GROUP, remove: ["bob"] })
    const ann = [
      ...hello(0),
      welcome(1, "start"),
      given(5, GROUP, log[GROUP][0]!),
      remove,
      received(22, { t: "reply", rid: "r", conv: GROUP, seq: 2, at: 1002 })
    ]
    const bob = (...entries: ReadonlyArray<Entry>) =>
      history(
        {
          ann: [ann],
          bob: [[...hello(0), welcome(1, "start"), given(5, GROUP, log[GROUP][0]!), given(23, GROUP, out), ...entries]]
        },
        log
      )
    it("an event after the removal", () => violates("I17", bob(given(30, GROUP, after))))
    it("the removal and nothing more", () => holds(bob(received(23, { t: "gone", conv: GROUP }))))
    it("an answer with what came after the removal", () =>
      violates(
        "I17",
        bob(
          sent(24, { t: "sync", rid: "s", conv: GROUP, after: 2 }),
          received(25, { t: "reply", rid: "s", events: [{ conv: GROUP, ...after }], head: 3, more: false })
        )
      ))
    it("any answer 5 s later", () =>
      violates(
        "I17",
        bob(
          sent(6_000, { t: "sync", rid: "s", conv: GROUP, after: 0, limit: 1 }),
          received(6_001, { t: "reply", rid: "s", events: [{ conv: GROUP, ...log[GROUP][0]! }], head: 2, more: true })
        )
      ))
  })

  it("I19: a send without an answer, unless its connection ended or did not read", () => {
    const silent = [...hello(0), welcome(1, "start"), send(10, "a1")]
    violates("I19", history({ ann: [silent] }, {}))
    holds(history({ ann: [[...silent, closed(20_000)]] }, {}))
    holds(history({ ann: [[...silent, { at: 11, dir: "stalled" }]] }, {}))
    violates("I19", history({ ann: [[...silent, ack(30_011, "a1", 1)]] }, { [DM]: [a1] }))
  })
})
