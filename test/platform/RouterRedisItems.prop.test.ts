import { assert, describe, it } from "vitest"
import fc from "fast-check"
import type { TimelineEvent } from "../../src/domain/events.ts"
import { eventFrame } from "../../src/edge/Frame.ts"
import type { NodeItem } from "../../src/platform/Router.ts"
import { decodeItems, Encoder } from "../../src/platform/RouterRedisItems.ts"

const NODE = "n1"
const text = fc.string({ unit: "binary", minLength: 1, maxLength: 30 })
const users = fc.array(fc.string({ minLength: 1, maxLength: 5 }), { maxLength: 4 })

const event: fc.Arbitrary<TimelineEvent> = fc
  .record({
    content: fc.oneof(
      fc.record({ type: fc.constant("message"), data: fc.record({ kind: fc.constant("text"), body: text }) }),
      fc.record({ type: fc.constant("members"), data: fc.record({ added: users, removed: users }) }),
      fc.record({ type: fc.constant("deleted"), data: fc.record({ target: fc.nat() }) })
    ),
    place: fc.record({ seq: fc.nat(), partition: fc.nat(15), position: fc.nat(), prev: fc.nat() }),
    origin: fc.option(
      fc.record({ node: fc.constantFrom(NODE, "n2"), session: text, rid: fc.option(text, { nil: undefined }) }),
      { nil: undefined }
    ),
    conv: text,
    by: text,
    at: fc.nat(),
    cid: text
  })
  .map(
    ({ at, by, cid, content, conv, origin, place }) =>
      ({
        ...content,
        ...place,
        conv,
        by,
        at,
        cid,
        digest: "digest",
        v: 1,
        ...(origin === undefined ? {} : { origin })
      }) as unknown as TimelineEvent
  )

const item: fc.Arbitrary<NodeItem> = fc.oneof(
  fc.record({ _tag: fc.constant("MessagePersisted" as const), event, users }),
  fc.record({ _tag: fc.constant("MessagePersisted" as const), event, users, big: fc.constant(true as const) }),
  fc.record({ _tag: fc.constant("MessagePersisted" as const), event, users, traceparent: text }),
  fc.record({ _tag: fc.constant("Progress" as const), partition: fc.nat(15), position: fc.nat() }),
  fc.record({
    _tag: fc.constant("Receipt" as const),
    receipt: fc.record({ conv: text, user: text, seen: fc.nat() }),
    users,
    session: text
  }),
  fc.record({
    _tag: fc.constant("Answer" as const),
    answer: fc.record({
      session: text,
      cid: text,
      conv: text,
      outcome: fc.record({ _tag: fc.constant("Repeat" as const), seq: fc.nat(), at: fc.nat() })
    })
  })
)

const through = (encoder: Encoder, node: string, items: ReadonlyArray<NodeItem>): ReadonlyArray<NodeItem> =>
  encoder.encode(node, items).flatMap(({ frames, meta }) => decodeItems(node, Buffer.from(meta), Buffer.from(frames)))

/** What a node may rely on of an event. */
const known = (
  { big, event, frame, traceparent, users }: Extract<NodeItem, { readonly _tag: "MessagePersisted" }>,
  node: string
) => {
  const { at, by, cid, conv, data, origin, partition, position, prev, seq, type } = event
  return {
    event: { at, by, cid, conv, data, partition, position, prev, seq, type },
    origin: origin?.node === node ? { session: origin.session, rid: origin.rid } : undefined,
    frame: (frame?.() ?? eventFrame(event).payload).toString(),
    users,
    big,
    traceparent
  }
}

describe("items on their way through Redis", () => {
  it("come as they were sent, and events with the frame that clients are given", () => {
    fc.assert(
      fc.property(fc.array(item, { maxLength: 8 }), (items) => {
        const encoder = new Encoder()
        for (const node of [NODE, "n2"]) {
          const came = through(encoder, node, items)
          assert.strictEqual(came.length, items.length)
          came.forEach((one, i) => {
            const sent = items[i]!
            if (one._tag !== "MessagePersisted" || sent._tag !== "MessagePersisted") assert.deepStrictEqual(one, sent)
            else assert.deepStrictEqual(known(one, node), known(sent, node))
          })
        }
      })
    )
  })

  it("are divided into entries of about a mebibyte", () => {
    const [one] = fc.sample(event, 1)
    const large = { ...one!, type: "message", data: { kind: "text", body: "ä".repeat(50_000) } } as TimelineEvent
    const items = Array.from({ length: 100 }, (): NodeItem => ({
      _tag: "MessagePersisted",
      event: { ...large },
      users: ["ann"]
    }))
    const entries = new Encoder().encode(NODE, items)
    assert.isAtLeast(entries.length, 9)
    for (const { frames, meta } of entries)
      assert.isAtMost(Buffer.byteLength(meta) + Buffer.byteLength(frames), 1.2 * 1024 * 1024)
    assert.strictEqual(through(new Encoder(), NODE, items).length, 100)
  })

  it("name the recipients of a conversation once, however many messages it has", () => {
    const [one] = fc.sample(event, 1)
    const everyone = Array.from({ length: 1_000 }, (_, i) => `user${i}`)
    const items = Array.from({ length: 50 }, (): NodeItem => ({
      _tag: "MessagePersisted",
      event: { ...one! },
      users: everyone
    }))
    const [entry] = new Encoder().encode(NODE, items)
    assert.isBelow(entry!.meta.length, 50 * 400 + 10_000)
  })
})
