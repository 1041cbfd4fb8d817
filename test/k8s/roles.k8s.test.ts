/**
 * The three roles with exactly the environment that the rendered ConfigMaps and Secrets of the overlay dev hold, on engines with its files and passwords:
 * the ends' own tests, as for one process. It is a run of its own, so that its engines are no other test's.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, onTestFinished, test } from "vitest"
import { isCluster } from "../support/server.ts"
import { startPods } from "./pods.ts"
import { installed } from "./render.ts"

const project = fileURLToPath(new URL("../../", import.meta.url))
const vitest = join(project, "node_modules/vitest/vitest.mjs")
const files = [
  "test/e2e/protocol.e2e.test.ts",
  "test/e2e/protocol-resume.e2e.test.ts",
  "test/e2e/protocol-limits.e2e.test.ts"
]

test("the ends are as they should be on what an overlay installs", async () => {
  expect(isCluster).toBe(false)
  const folder = mkdtempSync(join(tmpdir(), "darda-pods-"))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const pods = await startPods(installed("dev"), folder)
  onTestFinished(() => pods.dispose())
  const run = spawn(process.execPath, [vitest, "run", "--project", "cluster", ...files], {
    cwd: project,
    env: { ...process.env, NO_COLOR: "1", DARDA_TEST_PODS: JSON.stringify(pods.environments) },
    stdio: ["ignore", "pipe", "pipe"]
  })
  onTestFinished(() => void run.kill("SIGKILL"))
  let output = ""
  for (const stream of [run.stdout, run.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text))
  const code = await new Promise<number | null>((resolve) => run.once("close", resolve))
  if (code !== 0) throw new Error(`The run of its own ended with ${code}:\n${output.slice(-10_000)}`)
  expect(output).toMatch(/Test Files +3 passed/)
}, 600_000)
