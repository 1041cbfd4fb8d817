import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { TimelineEvent } from "../../src/domain/events.ts"
import { Feed } from "../../src/edge/Feed.ts"
import { eventFrame, type Frame } from "../../src/edge/Frame.ts"
import { Outgoing } from "../../src/edge/Outgoing.ts"
import { type Persisted, runAt } from "../../src/edge/Run.ts"
import type { Queries } from "../../src/read-side/Queries.ts"

const conv = "g:00000000-0000-8000-8000-000000000000"

const event = (seq: number, more: Partial<Pick<TimelineEvent, "type" | "data">> = {}): TimelineEvent =>
  ({
    conv,
    seq,
    type: "message",
    by: "ann",
    at: seq,
    cid: `c${seq}`,
    data: { kind: "text", body: `${seq}` },
    digest: "",
    v: 1,
    partition: 0,
    position: seq,
    prev: seq - 1,
    ...more
  }) as TimelineEvent

const log: ReadonlyArray<TimelineEvent> = [
  event(1, { type: "created", data: { kind: "group", members: ["ann", "eve"] } }),
  event(2),
  event(3),
  event(4, { type: "members", data: { removed: ["eve"] } }),
  event(5),
  event(6, { type: "members", data: { added: ["eve"] } })
]

const MEMBERS = ["ann", "eve"]

/** A feed of eve's that has gone live at the beginning of the log. */
const scene = () => {
  const given: Array<string> = []
  const show = (frame: Frame): void => {
    const { seq, t } = JSON.parse(frame.payload.toString()) as { t: string; seq?: number }
    given.push(seq === undefined ? t : `${seq}`)
  }
  const work: Array<Effect.Effect<void>> = []
  const queries = {
    pull: (_: string, after: number, limit: number) =>
      Effect.succeed(log.filter(({ seq }) => seq > after).slice(0, limit))
  } as unknown as Queries["Service"]
  const feed = new Feed({
    id: "session",
    user: "eve",
    out: new Outgoing({ write: () => {}, ping: () => {}, close: () => {}, pause: () => {}, resume: () => {} }),
    node: { metrics: { update: () => {} }, partitionOf: () => 0, queries, fork: (effect) => void work.push(effect) },
    push: show,
    pushRun: ({ frames }) => frames.forEach(show),
    settled: () => {}
  })
  feed.start([0], [])
  const take = (seq: number): void => feed.event(log[seq - 1]!, () => eventFrame(log[seq - 1]!))
  const takeRuns = (...seqs: ReadonlyArray<number>): void => {
    const items = seqs.map((seq): Persisted => ({ _tag: "MessagePersisted", event: log[seq - 1]!, users: MEMBERS }))
    for (let i = 0; i < items.length;) {
      const run = runAt(items, i)
      feed.run(run)
      i += run.items.length
    }
  }
  const repaired = Effect.suspend(() => Effect.forEach(work.splice(0), (one) => one, { discard: true }))
  return { feed, given, take, takeRuns, repaired }
}

describe("a feed after a loss", () => {
  it.effect("goes on from what was given when one who was told to be gone comes back", () =>
    Effect.gen(function* () {
      const { feed, given, repaired, take } = scene()
      for (const seq of [1, 2, 3]) take(seq)
      feed.suspend([3])
      yield* feed.resume(feed.hold(), [5], [{ _tag: "Gone", conv }])
      take(6)
      yield* repaired
      assert.deepStrictEqual(given, ["1", "2", "3", "gone", "4", "5", "6"])
    })
  )

  it.effect("stays suspended when what it is told was read before the next loss", () =>
    Effect.gen(function* () {
      const { feed } = scene()
      feed.suspend([0])
      const first = feed.hold()
      feed.suspend([0])
      const second = feed.hold()
      yield* feed.resume(first, [3], [])
      assert.isTrue(feed.isSuspended)
      assert.isUndefined(feed.cursor([3]))
      yield* feed.resume(second, [3], [])
      assert.isFalse(feed.isSuspended)
    })
  )
})

describe("events that come together", () => {
  it.effect.each([
    { seqs: [1, 2, 3, 4, 5, 6] },
    { seqs: [1, 2, 2, 3, 1, 3, 4] },
    { seqs: [1, 3] },
    { seqs: [2, 3, 4, 6] },
    { seqs: [3, 2, 1] }
  ])("are given as if they came one by one: $seqs", ({ seqs }) =>
    Effect.gen(function* () {
      const single = scene()
      for (const seq of seqs) single.take(seq)
      yield* single.repaired
      const together = scene()
      together.takeRuns(...seqs)
      yield* together.repaired
      assert.isNotEmpty(single.given)
      assert.deepStrictEqual(together.given, single.given)
    })
  )
})
