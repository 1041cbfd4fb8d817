import { assert, describe, it } from "@effect/vitest"
import { Allowance, bytesAnObject } from "../../src/edge/Allowance.ts"

const LIMITS = { perSecond: 50, burst: 200, bodyChars: 16_000 }
const COMMAND = true
const OTHER = false

/** How many of so many objects are taken at this time. */
const taken = (allowance: Allowance, now: number, count: number, kind: boolean): number => {
  let allowed = 0
  for (let i = 0; i < count; i++) if (allowance.take(now, kind) === 0) allowed++
  return allowed
}

describe("what a connection may send", () => {
  it("is a burst of 200 objects and 50 a second after it, of whatever kind", () => {
    for (const kind of [COMMAND, OTHER]) {
      const allowance = new Allowance(LIMITS, 0)
      assert.strictEqual(taken(allowance, 0, 300, kind), 200)
      for (let second = 1; second <= 20; second++) assert.strictEqual(taken(allowance, second * 1_000, 80, kind), 50)
    }
    const mixed = new Allowance(LIMITS, 0)
    for (let i = 0; i < 200; i++) assert.strictEqual(mixed.take(0, i % 3 === 0), 0)
    for (let i = 0; i < 500; i++) assert.strictEqual(mixed.take((i + 1) * 20, i % 3 === 0), 0, String(i))
  })

  it("nothing else takes from what is said, and what is said counts towards all", () => {
    const allowance = new Allowance(LIMITS, 0)
    assert.strictEqual(taken(allowance, 0, 1_000, OTHER), 200)
    assert.strictEqual(taken(allowance, 0, 300, COMMAND), 200)
    // 400 at once are what 4 s more would have given.
    assert.strictEqual(taken(allowance, 4_000, 1, OTHER), 0)
    assert.strictEqual(taken(allowance, 4_020, 2, OTHER), 1)
    // Whoever says 50 a second has nothing left for anything else.
    const busy = new Allowance(LIMITS, 0)
    taken(busy, 0, 200, COMMAND)
    for (let second = 1; second <= 10; second++) {
      assert.strictEqual(taken(busy, second * 1_000, 60, COMMAND), 50)
      assert.strictEqual(taken(busy, second * 1_000, 10, OTHER), 0)
    }
  })

  it("and the time to wait is enough, and no longer than needed", () => {
    for (const perSecond of [1, 3, 50, 999]) {
      for (const kind of [COMMAND, OTHER]) {
        const allowance = new Allowance({ ...LIMITS, perSecond, burst: 5 }, 0)
        taken(allowance, 0, 5, kind)
        for (let now = 0, i = 0; i < 100; i++) {
          const wait = allowance.take(now, kind)
          assert.isAbove(wait, 0)
          if (wait > 1) assert.isAbove(allowance.take(now + wait - 1, kind), 0)
          now += wait
          assert.isAtLeast(taken(allowance, now, 20, kind), 1)
        }
      }
    }
  })

  it("a message of the longest body costs one object, frames of 64 KiB cost more", () => {
    const bytes = bytesAnObject(LIMITS.bodyChars)
    const usual = new Allowance(LIMITS, 0)
    const large = new Allowance(LIMITS, 0)
    let usualTaken = 0
    let largeTaken = 0
    for (let i = 0; i < 200; i++) {
      usual.frame(0, bytes)
      usualTaken += taken(usual, 0, 1, COMMAND)
      large.frame(0, 65_536)
      largeTaken += taken(large, 0, 1, COMMAND)
    }
    assert.strictEqual(usualTaken, 200)
    assert.strictEqual(largeTaken, Math.ceil((200 * bytes) / 65_536))
    large.frame(1, 100)
    const wait = large.take(1, COMMAND)
    assert.isAbove(wait, 0)
    large.frame(1 + wait, 100)
    assert.strictEqual(large.take(1 + wait, COMMAND), 0)
  })

  it("whoever keeps on for 10 s is closed, and not whoever is refused now and then", () => {
    const keeps = new Allowance(LIMITS, 0)
    const seldom = new Allowance({ ...LIMITS, perSecond: 1, burst: 1 }, 0)
    let closedAt = 0
    for (let now = 0; closedAt === 0 && now < 60_000; now += 100) {
      taken(keeps, now, 10, now % 200 === 0)
      if (keeps.exhausted(now)) closedAt = now
    }
    assert.isAtLeast(closedAt, 10_000)
    assert.isAtMost(closedAt, 20_000)
    for (let now = 0; now < 60_000; now += 1_500) {
      taken(seldom, now, 5, OTHER)
      assert.isFalse(seldom.exhausted(now))
    }
  })

  it("what came is of no consequence when a new one would say the same, and not before", () => {
    for (const kind of [COMMAND, OTHER]) {
      const allowance = new Allowance(LIMITS, 0)
      assert.isTrue(allowance.isUnused(0))
      taken(allowance, 0, 50, kind)
      assert.isFalse(allowance.isUnused(980))
      assert.isTrue(allowance.isUnused(1_000))
    }
    const large = new Allowance(LIMITS, 0)
    large.frame(0, 65_536)
    assert.isFalse(large.isUnused(0))
    assert.isTrue(large.isUnused(100))
    // Whoever was refused a moment ago goes on with that.
    const refused = new Allowance({ ...LIMITS, perSecond: 1_000, burst: 10 }, 5_000)
    assert.strictEqual(taken(refused, 5_000, 20, OTHER), 10)
    assert.isFalse(refused.isUnused(5_500))
    assert.isTrue(refused.isUnused(6_001))
  })
})
