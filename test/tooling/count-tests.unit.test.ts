import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, onTestFinished, test } from "vitest"

const script = join(import.meta.dirname, "../../scripts/count-tests.ts")

type Outcome = "passed" | "failed" | "pending"

/** What is printed for files of tests that ended as given; a file without tests could not be loaded. */
const count = (...files: ReadonlyArray<ReadonlyArray<Outcome>>) => {
  const folder = mkdtempSync(join(tmpdir(), "darda-count-"))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const all = files.flat()
  const number = (outcome: Outcome) => all.filter((other) => other === outcome).length
  const report = {
    numPassedTests: number("passed"),
    numFailedTests: number("failed"),
    numTotalTests: all.length,
    testResults: files.map((outcomes) => ({
      status: outcomes.length === 0 || outcomes.includes("failed") ? "failed" : "passed",
      assertionResults: outcomes.map((status) => ({ status }))
    }))
  }
  const file = join(folder, "tests.json")
  writeFileSync(file, JSON.stringify(report))
  const { stdout, status } = spawnSync(process.execPath, [script, file], { encoding: "utf8" })
  return { said: stdout.trim(), status }
}

test("tests that pass", () => {
  expect(count(["passed", "passed"], ["passed"])).toEqual({ said: "3 passed, 0 failed", status: 0 })
})

test("one that fails, and one that is skipped", () => {
  expect(count(["passed", "failed"], ["pending"])).toEqual({ said: "1 passed, 1 failed, 1 skipped", status: 1 })
})

test("a file that could not be loaded counts as a failure", () => {
  expect(count(["passed"], [])).toEqual({ said: "1 passed, 1 failed", status: 1 })
})

test("no test at all is a failure", () => {
  expect(count()).toMatchObject({ status: 1 })
})

test("so is a report that is not there", () => {
  const { stdout, status } = spawnSync(process.execPath, [script, "/nowhere/tests.json"], { encoding: "utf8" })
  expect({ said: stdout.trim(), status }).toEqual({ said: "0 passed, 1 failed", status: 1 })
})
