import { spawnSync } from "node:child_process"
import { defineConfig } from "vitest/config"

const setupFiles = ["test/support/setup.ts"]
/** Where tests use the real engines. */
const globalSetup = ["test/support/engines.setup.ts"]

/** The manifests of k8s/ are rendered by kubectl. Where there is none their tests are left out, which is said. */
const kubectl = spawnSync("kubectl", ["version", "--client"], { stdio: "ignore" }).status === 0
if (!kubectl)
  process.stderr.write(
    "kubectl is not installed: the tests of k8s/ (npm run test:k8s) are left out, and those of a cluster run on engines without passwords\n"
  )
const k8s = { name: "k8s", include: ["test/k8s/**/*.k8s.test.ts"], setupFiles, testTimeout: 120_000 }

/**
 * Real processes and engines that are broken on purpose: the short ones, or with `DARDA_FAULTS=all` (`npm run test:faults`) all of them. They say within how many seconds something is
 * repaired, so each file has the machine for itself, as those of the other projects without parallel files.
 */
const isWhole = process.env["DARDA_FAULTS"] === "all"
const faults = {
  name: "faults",
  include: ["test/faults/*.fault.test.ts", ...(isWhole ? ["test/faults/*.long-fault.test.ts"] : [])],
  setupFiles,
  globalSetup,
  testTimeout: 180_000,
  hookTimeout: 120_000,
  fileParallelism: false
}

export default defineConfig({
  test: {
    projects: [
      ...(kubectl ? [{ test: k8s }] : []),
      { test: { name: "unit", include: ["test/**/*.unit.test.ts"], setupFiles, testTimeout: 10_000 } },
      {
        test: {
          name: "prop",
          include: ["test/**/*.prop.test.ts"],
          setupFiles,
          globalSetup,
          testTimeout: 180_000,
          hookTimeout: 60_000
        }
      },
      {
        test: {
          name: "int",
          include: ["test/**/*.int.test.ts"],
          setupFiles,
          globalSetup,
          testTimeout: 60_000,
          hookTimeout: 60_000
        }
      },
      // Real processes and a browser share the machine's cores with their own servers: one file at a time.
      {
        test: {
          name: "e2e",
          include: ["test/**/*.e2e.test.ts"],
          setupFiles,
          globalSetup,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false
        }
      },
      // The same ends, with an edge, a writer and a reader on the real engines in the place of the one process: as the overlay dev of k8s/ would have them, logins included.
      {
        test: {
          name: "cluster",
          include: ["test/{e2e,edge}/**/*.e2e.test.ts", ...(kubectl ? ["test/k8s/**/*.pods.test.ts"] : [])],
          env: { DARDA_TEST_CLUSTER: "1" },
          setupFiles,
          globalSetup: kubectl ? ["test/support/pods.setup.ts"] : globalSetup,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false
        }
      },
      { test: faults }
    ]
  }
})
