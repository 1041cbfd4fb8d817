import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import { Histogram } from "../../src/main/load/Histogram.ts"
import { conversationsOf, mostConversations } from "../../src/main/load/plan.ts"

describe("what the load generator counts", () => {
  it("gives percentiles right to 2 %, whatever the latencies", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.01, max: 60_000, noNaN: true }), { minLength: 1, maxLength: 300 }),
        fc.constantFrom(0.5, 0.9, 0.99, 1),
        (latencies, q) => {
          const histogram = new Histogram()
          for (const latency of latencies) histogram.record(latency)
          const sorted = latencies.toSorted((a, b) => a - b)
          const exact = sorted[Math.max(1, Math.ceil(sorted.length * q)) - 1]!
          const found = histogram.quantile(q)
          assert.isAtLeast(found, exact * 0.98 - 0.001)
          assert.isAtMost(found, exact * 1.02 + 0.001)
        }
      )
    )
  })

  it("is the longest there was at most", () => {
    const histogram = new Histogram()
    histogram.record(100.1)
    assert.strictEqual(histogram.quantile(0.5), 100.1)
    assert.strictEqual(histogram.max, 100.1)
  })

  it("never pairs two users twice", () => {
    for (const users of [2, 3, 4, 5, 8, 9]) {
      const most = mostConversations(users, 2)
      const pairs = conversationsOf(users, most, 2).map((pair) => pair.toSorted((a, b) => a - b).join())
      assert.strictEqual(new Set(pairs).size, most)
      for (const pair of pairs) assert.strictEqual(new Set(pair.split(",")).size, 2)
    }
  })
})
