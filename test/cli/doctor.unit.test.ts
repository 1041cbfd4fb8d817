import { assert, describe, it } from "@effect/vitest"
import { ofClock } from "../../src/main/doctor/shared.ts"

describe("the doctor on clocks", () => {
  const asked = Date.UTC(2026, 0, 1)
  const answered = asked + 400

  it("says nothing of clocks that are together, however long the answer took", () => {
    for (const theirs of [asked, asked + 200, answered, asked - 5_000, answered + 5_000])
      assert.deepStrictEqual(ofClock("Redis", theirs, asked, answered), [])
    assert.deepStrictEqual(ofClock("Redis", asked + 60_000, asked, asked + 60_000), [])
  })

  it("says by how much one is ahead or behind", () => {
    assert.deepStrictEqual(ofClock("Redis", answered + 3_600_000, asked, answered), [
      { mark: "!", text: "Redis: its clock is 3600 s ahead of the one here: set both by the same source" }
    ])
    assert.deepStrictEqual(ofClock("MongoDB", asked - 7_000, asked, answered), [
      { mark: "!", text: "MongoDB: its clock is 7 s behind the one here: set both by the same source" }
    ])
  })
})
