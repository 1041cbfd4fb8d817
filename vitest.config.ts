import { defineConfig } from "vitest/config"

const setupFiles = ["test/support/setup.ts"]
/** Where tests use the real engines. */
const globalSetup = ["test/support/engines.setup.ts"]

export default defineConfig({
  test: {
    projects: [
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
      // The same ends, with an edge, a writer and a reader on the real engines in the place of the one process.
      {
        test: {
          name: "cluster",
          include: ["test/{e2e,edge}/**/*.e2e.test.ts"],
          env: { DARDA_TEST_CLUSTER: "1" },
          setupFiles,
          globalSetup,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false
        }
      }
    ]
  }
})
