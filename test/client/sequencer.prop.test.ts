import fc from "fast-check"
import { expect, it } from "vitest"
import type { TimelineEvent } from "../../src/domain/protocol/server-frames.ts"
import { DardaError } from "../../src/client/errors.ts"
import { Sequencer } from "../../src/client/sequencer.ts"
import { ManualClock } from "./scripted.ts"

const conv = "dm:alice:bob"
const event = (seq: number): TimelineEvent => ({
  conv,
  seq,
  type: "message",
  by: "bob",
  at: seq,
  cid: `c${seq}`,
  data: { kind: "text", body: `${seq}` }
})

/** What may happen to a client: events near the head in any order, more of them, a broken connection, a failed `sync`. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ t: fc.constant("event" as const), back: fc.nat({ max: 6 }) }) },
  { weight: 4, arbitrary: fc.record({ t: fc.constant("grow" as const), by: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 1, arbitrary: fc.constant({ t: "reconnect" as const }) },
  { weight: 1, arbitrary: fc.constant({ t: "cursor" as const }) },
  { weight: 1, arbitrary: fc.record({ t: fc.constant("reset" as const) }) },
  { weight: 1, arbitrary: fc.constant({ t: "fail" as const }) },
  { weight: 2, arbitrary: fc.constant({ t: "settle" as const }) }
)

it("gives events out once, in order and without a hole but after a reset, and reaches the head", async () => {
  let repaired = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), async (steps, page) => {
      const clock = new ManualClock()
      let head = 1
      let failures = 0
      let expected: number | undefined
      let last = 0
      const sequencer: Sequencer = new Sequencer(clock, {
        surface: ({ seq }) => {
          if (expected !== undefined) expect(seq).toBe(expected)
          expected = seq + 1
          last = seq
        },
        sync: async (_, after) => {
          await Promise.resolve()
          if (failures > 0) {
            failures--
            throw new DardaError("unavailable", "later", true)
          }
          repaired++
          const events = Array.from({ length: Math.min(page, head - after) }, (_unused, index) =>
            event(after + 1 + index)
          )
          return { events, head, more: after + events.length < head }
        },
        take: (taken) => sequencer.accept(taken, false),
        reset: (_, at) => {
          expected = at + 1
          last = at
        },
        gone: () => expect.unreachable("nothing is ever gone here")
      })
      const settle = async (): Promise<void> => {
        for (let turn = 0; turn < 200; turn++) await Promise.resolve()
      }
      sequencer.connected("c0", false)
      sequencer.accept(event(1), false)
      for (const now of steps) {
        if (now.t === "grow") head += now.by
        else if (now.t === "event") sequencer.accept(event(Math.max(1, head - now.back)), false)
        else if (now.t === "cursor") sequencer.cursor(`c${head}`)
        else if (now.t === "fail") failures++
        else if (now.t === "settle") await settle()
        else if (now.t === "reset") sequencer.reset(conv, head)
        else {
          sequencer.disconnected()
          const position = sequencer.position()
          // What is behind the cursor was given out, or is asked for by its seq.
          if (position !== undefined && last > 0) expect(position.seqs?.[conv]).toBe(last)
          sequencer.connected(position?.cursor ?? "c0", true)
        }
      }
      failures = 0
      head++
      sequencer.accept(event(head), false)
      sequencer.cursor(`c${head}`)
      for (let turn = 0; turn < 3; turn++) {
        await settle()
        clock.advance(5_000)
      }
      await settle()
      expect(last).toBe(head)
      expect(sequencer.position()?.cursor).toBe(`c${head}`)
    }),
    { numRuns: 1_000 }
  )
  expect(repaired).toBeGreaterThan(100)
})
