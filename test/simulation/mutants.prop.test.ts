import { assert, beforeAll, describe, it } from "vitest"
import { exploreInChild } from "./child.ts"
import type { Report } from "./explore.ts"
import { mutants } from "./mutants.ts"

/** Histories in which a broken build has to show; most show within ten. */
const RUNS = 300
const SEED = 1
const AT_A_TIME = 2

const options = ["--runs", String(RUNS), "--seed", String(SEED), "--tight", "--no-shrink"]

describe("deliberately broken builds", () => {
  const reports = new Map<string, Report>()
  let unbroken: Report | undefined

  beforeAll(async () => {
    const waiting: Array<() => Promise<void>> = [
      async () => void (unbroken = await exploreInChild(options)),
      ...mutants.map(({ invariant, name }) => async () => {
        reports.set(name, await exploreInChild([...options, "--mutant", name, "--only", invariant, "--first"]))
      })
    ]
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next()
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, work))
  }, 170_000)

  it("the unbroken build passes the same histories", () => {
    assert.deepStrictEqual(unbroken?.failures, [])
    assert.strictEqual(unbroken?.runs, RUNS)
  })

  for (const { invariant, name, what } of mutants) {
    it(`${invariant} catches ${name}: ${what}`, () => {
      const report = reports.get(name)
      assert.deepStrictEqual(
        report?.failures.map((failure) => failure.invariant),
        [invariant],
        `not caught in ${report?.runs} histories`
      )
    })
  }

  it("there is one for each invariant that is judged", () => {
    const caught = new Set(mutants.map(({ invariant }) => invariant))
    assert.deepStrictEqual([...caught].sort(), Array.from({ length: 19 }, (_, i) => `I${i + 1}`).sort())
  })
})
