import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, onTestFinished, test } from "vitest"

const script = join(import.meta.dirname, "../../scripts/count-tests.ts")

type Outcome = "passed" | "failed" | "pending"

/** A report of files of tests that ended as given; a file without tests could not be loaded. */
const report = (...files: ReadonlyArray<ReadonlyArray<Outcome>>): string => {
  const folder = mkdtempSync(join(tmpdir(), "darda-count-"))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const all = files.flat()
  const number = (outcome: Outcome) => all.filter((other) => other === outcome).length
  const file = join(folder, "tests.json")
  writeFileSync(
    file,
    JSON.stringify({
      numPassedTests: number("passed"),
      numFailedTests: number("failed"),
      numTotalTests: all.length,
      testResults: files.map((outcomes) => ({
        status: outcomes.length === 0 || outcomes.includes("failed") ? "failed" : "passed",
        assertionResults: outcomes.map((status) => ({ status }))
      }))
    })
  )
  return file
}

/** What is printed for reports. */
const sum = (...reports: ReadonlyArray<string>) => {
  const { stdout, status } = spawnSync(process.execPath, [script, ...reports], { encoding: "utf8" })
  return { said: stdout.trim(), status }
}

const count = (...files: ReadonlyArray<ReadonlyArray<Outcome>>) => sum(report(...files))

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
  expect(sum("/nowhere/tests.json")).toEqual({ said: "0 passed, 1 failed", status: 1 })
})

test("several reports are summed", () => {
  expect(sum(report(["passed", "pending"]), report(["passed"], ["passed"]))).toEqual({
    said: "3 passed, 0 failed, 1 skipped",
    status: 0
  })
  expect(sum(report(["passed"]), report(["failed"]))).toEqual({ said: "1 passed, 1 failed", status: 1 })
  expect(sum(report(["passed"]), "/nowhere/tests.json")).toEqual({ said: "1 passed, 1 failed", status: 1 })
})
