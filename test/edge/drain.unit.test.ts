import { assert, describe, it } from "@effect/vitest"
import { drainPlan } from "../../src/edge/drain.ts"

const GRACE_MS = 30_000

/** Connections that come back in a second: their turns are even over one time and their pauses over another, and the longer one of them decides. */
const aSecond = (count: number, graceMs: number): number => {
  const { pause, spread } = drainPlan(count, graceMs)
  return (count * 1_000) / Math.max(spread, pause)
}

describe("how connections leave", () => {
  it("150 a second, as long as the grace period has room for that", () => {
    for (const count of [600, 1_250, 2_000, 2_700])
      assert.approximately(aSecond(count, GRACE_MS), 150, 1e-9, String(count))
  })

  it("and where it has not, over three fifths of it, with a pause that ends before all are closed", () => {
    for (const grace of [15_000, GRACE_MS, 120_000]) {
      const { closed, pause, spread, stay } = drainPlan(20_000, grace)
      assert.strictEqual(spread, grace * 0.6)
      assert.isAbove(pause, 500)
      assert.isAtMost(spread + stay, closed)
    }
    assert.deepInclude(drainPlan(500, 0), { spread: 0, pause: 3_333, closed: 0 })
  })

  it("a few at once, and no pause is longer than 4 s", () => {
    assert.deepInclude(drainPlan(3, GRACE_MS), { spread: 20, pause: 500 })
    for (const [count, grace] of [
      [0, 30],
      [1_000_000, 30],
      [1_000_000, 0],
      [20_000, 3_600]
    ] as const) {
      const { closed, pause, spread, stay } = drainPlan(count, grace * 1_000)
      assert.isAtLeast(pause, 500)
      assert.isAtMost(pause, 4_000)
      assert.isAbove(stay, pause)
      assert.isAtMost(spread, closed)
    }
  })
})
