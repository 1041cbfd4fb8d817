// Prints "N passed, N failed, N skipped", the sum over vitest's JSON reports. Exits with 1 when a test failed, none passed, or a report is missing.
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

let passed = 0
let failed = 0
let skipped = 0
for (const file of process.argv.slice(2)) {
  if (!existsSync(file)) {
    console.error(`there is no report ${file}: the tests ended before they could write one`)
    failed++
    continue
  }
  const report = JSON.parse(readFileSync(file, "utf8")) as Report
  // A file that could not be loaded, or whose set-up failed, counts as one.
  const files = report.testResults.filter(
    ({ status, assertionResults }) => status === "failed" && !assertionResults.some((test) => test.status === "failed")
  )
  passed += report.numPassedTests
  failed += report.numFailedTests + files.length
  skipped += report.numTotalTests - report.numPassedTests - report.numFailedTests
}
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`)
if (failed > 0 || passed === 0) process.exit(1)
