import { randomInt } from "node:crypto"
import { assert, beforeAll, describe, it } from "vitest"
import { exploreInChild } from "./child.ts"
import type { Report } from "./explore.ts"
import { describeFailure } from "./failures.ts"

/** Histories in all, half of them with small limits. */
const RUNS = Number(process.env["SIM_RUNS"] ?? 2000)
/** Another one every time; what fails says how to see it again. */
const SEED = Number(process.env["SIM_SEED"] ?? randomInt(2 ** 31))

const INVARIANTS: Readonly<Record<string, string>> = {
  I1: "what was acked is in the log once and for ever, with the same bytes",
  I2: "nothing is told to be persisted before the log holds it",
  I3: "a cid is one event and one answer, and another content under it a conflict",
  I4: "the seqs of a conversation are 1, 2, 3, …",
  I5: "what one connection sends keeps its order, and what was acked comes before what is sent afterwards",
  I6: "a command's outcome is explained by the conversation, and what is refused leaves no trace",
  I7: "events, heads, members and outbox are written together",
  I8: "a partition is read as positions 1, 2, 3, … whoever commits",
  I9: "every event is published before it leaves the outbox, and no checkpoint is ahead",
  I10: "a connection is given every event once and in order, or told of the hole",
  I11: "when faults end everybody is at the head within 5 s",
  I12: "a resume leaves nothing out, and a cursor covers only what was given",
  I13: "marks only grow and never pass the head, and unread counts are what the log counts",
  I14: "an answer is a whole slice, with everything that the asker knew of",
  I15: "the read models are what the log comes to, whatever happened on the way",
  I16: "a replay sends nothing to anybody",
  I17: "who was removed is given nothing that came after, and reads nothing 5 s later",
  I18: "what waits for a slow client is bounded, and nobody else waits for it",
  I19: "every command is answered within 30 s"
}

describe("simulated histories", () => {
  const half = ["--runs", String(Math.ceil(RUNS / 2)), "--seed"]
  const explored: Array<{ readonly options: ReadonlyArray<string>; readonly report: Report }> = []

  beforeAll(async () => {
    const of = async (seed: number, options: ReadonlyArray<string>) => {
      explored.push({ options, report: await exploreInChild([...half, String(seed), ...options]) })
    }
    await Promise.all([of(SEED, []), of(SEED, ["--tight"])])
  }, 170_000)

  const failuresOf = (invariant: string): ReadonlyArray<string> =>
    explored.flatMap(({ options, report }) =>
      report.failures
        .filter((failure) => failure.invariant === invariant)
        .map((failure) => describeFailure(failure, options))
    )

  for (const [invariant, what] of Object.entries(INVARIANTS)) {
    it(`${invariant}: ${what}`, () => {
      assert.strictEqual(explored.length, 2)
      for (const { report } of explored) {
        assert.isAbove(report.judged[invariant] ?? 0, 0, `${report.runs} histories said nothing about ${invariant}`)
      }
      const failures = failuresOf(invariant)
      if (failures.length > 0) assert.fail(failures.join("\n\n"))
    })
  }

  it("no process fails in a way that nobody foresaw", () => {
    const failures = failuresOf("defect")
    if (failures.length > 0) assert.fail(failures.join("\n\n"))
  })

  it("as many faults take place as there are histories, or more", () => {
    for (const { report } of explored) assert.isAtLeast(report.faults, report.runs * 0.5)
  })

  it("the same seed is the same history, to the last byte", async () => {
    const options = ["--runs", "15", "--seed", String(SEED), "--no-shrink"]
    const [one, other] = await Promise.all([exploreInChild(options), exploreInChild(options)])
    assert.strictEqual(one.digest, other.digest)
    assert.isAbove(one.digest.length, 0)
  })
})
