// Runs every check, also after one has failed, and says at the end which did: `npm run check`.
import { spawnSync } from "node:child_process"

const checks = ["format", "lint", "types", "unused"].map((name) => `check:${name}`)
const failed = checks.filter((name) => {
  console.log(`\n— ${name}`)
  return spawnSync("npm", ["run", "--silent", name], { stdio: "inherit" }).status !== 0
})
console.log(
  failed.length === 0 ? "\nall checks passed" : `\nfailed: ${failed.map((name) => `npm run ${name}`).join(", ")}`
)
process.exitCode = failed.length === 0 ? 0 : 1
