// Prints "N passed, N failed, N skipped" from vitest's JSON report. Exits with 1 when a test failed or none passed.
import { existsSync, readFileSync } from "node:fs"

type Report = {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numTotalTests: number
  readonly testResults: ReadonlyArray<{
    readonly status: string
    readonly assertionResults: ReadonlyArray<{ status: string }>
  }>
}

const file = process.argv[2]
if (file === undefined || !existsSync(file)) {
  console.error(`there is no report ${file ?? ""}: the tests ended before they could write one`)
  console.log("0 passed, 1 failed")
  process.exit(1)
}
const report = JSON.parse(readFileSync(file, "utf8")) as Report
// A file that could not be loaded, or whose set-up failed, counts as one.
const files = report.testResults.filter(
  ({ status, assertionResults }) => status === "failed" && !assertionResults.some((test) => test.status === "failed")
)
const failed = report.numFailedTests + files.length
const skipped = report.numTotalTests - report.numPassedTests - report.numFailedTests
console.log(`${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`)
if (failed > 0 || report.numPassedTests === 0) process.exit(1)
