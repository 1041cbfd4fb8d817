import { assert, describe, it } from "@effect/vitest"
import type { TimelineEvent } from "../../src/domain/events.ts"
import { foldMessages, type MessageEvent } from "../../src/read-side/messages.ts"

const place = (seq: number, by = "ann") =>
  ({
    conv: "dm:ann:bob",
    seq,
    by,
    at: 100 + seq,
    cid: `c${seq}`,
    v: 1,
    partition: 0,
    position: seq,
    prev: seq - 1,
    digest: ""
  }) as const

const message = (seq: number, body: string): MessageEvent => ({
  ...place(seq),
  type: "message",
  data: { kind: "text", body }
})
const edited = (seq: number, target: number, body: string): TimelineEvent => ({
  ...place(seq),
  type: "edited",
  data: { target, body }
})
const deleted = (seq: number, target: number): TimelineEvent => ({ ...place(seq), type: "deleted", data: { target } })
const reaction = (seq: number, target: number, emoji: string, by: string, on = true): TimelineEvent => ({
  ...place(seq, by),
  type: "reaction",
  data: { target, emoji, on }
})

const given = (...messages: ReadonlyArray<MessageEvent>) => ({
  when: (...amendments: ReadonlyArray<TimelineEvent>) => ({
    gives: (...expected: ReadonlyArray<Record<string, unknown>>) => {
      const folded = foldMessages(messages, amendments)
      assert.deepStrictEqual(
        folded.map((found) => ({ ...found })),
        expected.map((fields, i) => {
          const { at, by, cid, conv, seq } = messages[i]!
          return { conv, seq, by, at, cid, kind: "text", ...fields }
        })
      )
      return folded
    }
  })
})

describe("folding messages", () => {
  it("leaves a message as it was sent", () => given(message(1, "hi")).when().gives({ body: "hi" }))

  it("keeps what a message replies to", () => {
    const reply: MessageEvent = { ...message(2, "yes"), data: { kind: "text", body: "yes", replyTo: 1 } }
    given(message(1, "well?"), reply).when().gives({ body: "well?" }, { body: "yes", replyTo: 1 })
  })

  it("takes the last edit, with its time", () =>
    given(message(1, "hi"))
      .when(edited(2, 1, "hello"), edited(3, 1, "good day"))
      .gives({ body: "good day", editedAt: 103 }))

  it("takes the body and the reactions of a deleted message, and nothing brings them back", () =>
    given(message(1, "hi"))
      .when(
        reaction(2, 1, "👍", "bob"),
        deleted(3, 1),
        edited(4, 1, "back"),
        reaction(5, 1, "👍", "bob"),
        deleted(6, 1)
      )
      .gives({ deleted: true }))

  it("gathers reactions by emoji and user, in the order of code units, each once", () => {
    const [folded] = given(message(1, "hi"))
      .when(
        reaction(2, 1, "\u{1F44D}", "bob"),
        reaction(3, 1, "\uE000", "bob"),
        reaction(4, 1, "\u{1F44D}", "ann"),
        reaction(5, 1, "\u{1F44D}", "bob")
      )
      .gives({ body: "hi", reactions: { "\u{1F44D}": ["ann", "bob"], "\uE000": ["bob"] } })
    assert.deepStrictEqual(Object.keys(folded!.reactions!), ["\u{1F44D}", "\uE000"])
  })

  it("forgets an emoji when the last reaction with it is taken back", () =>
    given(message(1, "hi"))
      .when(reaction(2, 1, "👍", "bob"), reaction(3, 1, "❤️", "bob"), reaction(4, 1, "👍", "bob", false))
      .gives({ body: "hi", reactions: { "❤️": ["bob"] } }))

  it("has no reactions at all when all are taken back", () =>
    given(message(1, "hi"))
      .when(reaction(2, 1, "👍", "bob"), reaction(3, 1, "👍", "bob", false))
      .gives({ body: "hi" }))

  it("ignores taking back what was not there", () =>
    given(message(1, "hi"))
      .when(reaction(2, 1, "👍", "bob", false))
      .gives({ body: "hi" }))

  it("holds an emoji that is called like a property of every object", () => {
    const [folded] = foldMessages([message(1, "hi")], [reaction(2, 1, "__proto__", "bob")])
    assert.strictEqual(JSON.stringify(folded!.reactions), `{"__proto__":["bob"]}`)
  })

  it("ignores amendments of other messages", () =>
    given(message(4, "hi"))
      .when(edited(5, 3, "no"), deleted(6, 2), reaction(7, 1, "👍", "bob"))
      .gives({ body: "hi" }))
})
