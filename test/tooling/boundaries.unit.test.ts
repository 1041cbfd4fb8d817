import { execFile } from "node:child_process"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"

/** Each line of code, the file it would stand in, and what is said of it; nothing is said of those that may stand. */
const cases: ReadonlyArray<readonly [file: string, line: string, refused?: string]> = [
  ["src/domain/a.ts", `import "../platform/Settings.ts"`, "domain may not import platform"],
  ["src/domain/b.ts", `import type { A } from "../write-side/EventLog.ts"`, "domain may not import write-side"],
  ["src/domain/protocol/c.ts", `export * from "../../edge/Edge.ts"`, "domain may not import edge"],
  ["src/domain/d.ts", `import "mongodb"`, "domain may not know the engine mongodb"],
  ["src/domain/e.ts", `import "./ids.ts"`],
  ["src/domain/ids.ts", `import "./decide.ts"`, "browsers load src/domain/ids.ts"],
  ["src/domain/protocol/limits.ts", `import "effect/Schema"`, "may depend on no package"],
  ["src/platform/a.ts", `import "../domain/ids.ts"`],
  ["src/platform/b.ts", `import "../edge/Edge.ts"`, "platform may not import edge"],
  ["src/write-side/a.ts", `import "../read-side/Queries.ts"`, "write-side may not import read-side"],
  ["src/write-side/b.ts", `import("../read-side/Queries.ts")`, "write-side may not import read-side"],
  ["src/write-side/c.ts", `import "../platform/Router.ts"`],
  ["src/write-side/d.ts", `import "./EventLogSqlite.ts"`, "adapters are chosen in src/main"],
  ["src/write-side/EventLogSqlite.ts", `import "./RowsSqlite.ts"`],
  ["src/write-side/log.worker.ts", `import "./RowsSqlite.ts"`],
  ["src/write-side/f.ts", `import { Effect } from "effect"`, "the barrel costs start-up time"],
  ["src/read-side/a.ts", `import "../write-side/EventLog.ts"`],
  ["src/read-side/aa.ts", `import "../write-side/EventBus.ts"`],
  ["src/read-side/b.ts", `import "../write-side/Relay.ts"`, "read-side may not import write-side"],
  ["src/read-side/c.ts", `import "./sub/../../write-side/Relay.ts"`, "read-side may not import write-side"],
  ["src/edge/a.ts", `import "../write-side/CommandBus.ts"`],
  ...["Sqlite", "Mongo", "Rabbit", "Redis", "InProcess"].map(
    (kind) =>
      [
        `src/edge/of-${kind.toLowerCase()}.ts`,
        `import "../read-side/Thing${kind}.ts"`,
        "adapters are chosen in src/main"
      ] as const
  ),
  ["src/edge/b.ts", `import("../read-side/ReadModelsSqlite.ts")`, "adapters are chosen in src/main"],
  ["src/edge/auth/c.ts", `import "ioredis"`, "edge may not know the engine ioredis"],
  ["src/edge/d.ts", `import "../client/index.ts"`, "edge may not import client"],
  ["src/edge/e.ts", `import "../main/serve.ts"`, "edge may not import main"],
  ["src/edge/f.ts", `import "../main.ts"`, "edge may not import main"],
  ["src/edge/g.ts", `import "../../test/support/x.ts"`, "it is no part of what runs"],
  ["src/client/a.ts", `import type { A } from "../domain/protocol/server-frames.ts"`],
  ["src/client/b.ts", `import { A } from "../domain/protocol/server-frames.ts"`, "it may import types only"],
  ["src/client/c.ts", `import "../domain/ids.ts"`],
  ["src/client/d.ts", `import type { A } from "../edge/Edge.ts"`, "client may not import edge"],
  ["src/client/e.ts", `import "node:crypto"`, "may depend on no package"],
  ["web/src/a.ts", `import "../../src/client/index.ts"`],
  ["web/src/b.ts", `import { A } from "../../src/domain/protocol/server-frames.ts"`, "it may import types only"],
  ["web/src/c.ts", `import type { A } from "../../src/edge/Edge.ts"`, "web may not import edge"],
  ["web/src/d.ts", `import "preact"`],
  ["src/main/a.ts", `import "../write-side/EventLogSqlite.ts"`],
  ["src/main.ts", `import "./read-side/ReadModelsSqlite.ts"`],
  ["src/main/b.ts", `import "../../web/src/main.tsx"`, "main may not import web"],
  ["test/edge/a.ts", `import "../../src/read-side/ReadModelsSqlite.ts"`]
]

const root = resolve(import.meta.dirname, "../..")
let folder: string
const said = new Map<string, string>()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "darda-boundaries-"))
  for (const [file, line] of cases) {
    await mkdir(dirname(join(folder, file)), { recursive: true })
    await writeFile(join(folder, file), `${line}\n`)
  }
  const config = { jsPlugins: [join(root, "scripts/boundaries.ts")], rules: { "darda/boundaries": "error" } }
  await writeFile(join(folder, "lint.json"), JSON.stringify({ categories: { correctness: "off" }, ...config }))
  const bin = join(root, "node_modules/oxlint/bin/oxlint")
  const output = await new Promise<string>((done) =>
    execFile(process.execPath, [bin, "-c", "lint.json", "-f", "unix"], { cwd: folder }, (_, stdout, stderr) =>
      done(stdout + stderr)
    )
  )
  for (const line of output.split("\n")) {
    const found = /^(.+?\.ts):\d+:\d+: (.*)$/.exec(line)
    if (found !== null) said.set(found[1] ?? "", found[2] ?? "")
  }
}, 60_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

describe("who may import whom", () => {
  for (const [file, line, refused] of cases) {
    test(`${file}: ${line}`, () => {
      if (refused === undefined) expect(said.get(file)).toBeUndefined()
      else expect(said.get(file)).toContain(refused)
    })
  }

  test("the rule is on for the whole project", async () => {
    const { default: config } = await import("../../oxlint.config.ts")
    expect(config.rules).toMatchObject({ "darda/boundaries": "error" })
    expect(JSON.stringify(config.overrides)).not.toContain("darda/boundaries")
  })
})
