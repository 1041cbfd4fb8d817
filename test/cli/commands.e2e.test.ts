import { afterEach, assert, describe, it } from "vitest"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { type Darda, darda, lines, said, say, serving, stop, temporaryFolder } from "./darda.ts"

const running = new Set<Darda>()
const started = <D extends Darda>(it: D): D => {
  running.add(it)
  return it
}
afterEach(async () => {
  for (const { child, ended } of running) {
    child.kill("SIGKILL")
    await ended
  }
  running.clear()
})

const UNLIMITED = { LIMIT_PER_SECOND: "100000", LIMIT_BURST: "100000", LIMIT_NEW_DMS_PER_HOUR: "100000" }

describe("replay and verify", () => {
  it("are done by the running server, whose clients notice nothing", async () => {
    const folder = temporaryFolder()
    const server = started(await serving(folder))
    for (const cid of ["one", "two", "three"]) assert.strictEqual((await say(server.url, cid)).status, 201)
    const verified = await darda(["verify"], { DATA_DIR: folder }).ended
    assert.strictEqual(verified.code, 0, verified.stderr)
    assert.match(verified.stdout, /3 events of the log make: \d+ rows, no difference/)
    const replayed = await darda(["replay"], { DATA_DIR: folder }).ended
    assert.strictEqual(replayed.code, 0, replayed.stderr)
    assert.match(replayed.stdout, /Replayed 3 events/)
    assert.deepStrictEqual(await said(server.url), ["one", "two", "three"])
    assert.strictEqual((await say(server.url, "four")).status, 201)
    const outbox = await darda(["outbox", "status"], { DATA_DIR: folder }).ended
    assert.strictEqual(outbox.code, 0, outbox.stderr)
    // Told a moment ago, and let go of within a second: empty, or the one commit of which that is not known yet.
    assert.match(outbox.stdout, /The outbox is empty|^partition +commits +events +oldest\n +\d+ +1 +1 +\d\.\d s$/m)
  })

  it("find what is wrong in the read models, and repair it, with no server there", async () => {
    const folder = temporaryFolder()
    const server = started(await serving(folder))
    for (const cid of ["one", "two"]) await say(server.url, cid)
    await stop(server)
    const file = new DatabaseSync(path.join(folder, "read-models.sqlite"))
    const tables = file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%member%'").all()
    for (const { name } of tables) file.exec(`DELETE FROM ${String(name)}`)
    file.close()
    const found = await darda(["verify"], { DATA_DIR: folder }).ended
    assert.strictEqual(found.code, 1, found.stdout)
    assert.match(found.stdout, /dm:ada:grace member ada: the log makes .*, stored is nothing/)
    assert.strictEqual((await darda(["replay"], { DATA_DIR: folder }).ended).code, 0)
    assert.strictEqual((await darda(["verify"], { DATA_DIR: folder }).ended).code, 0)
  })

  it("have nothing to do where there is no log, and make none", async () => {
    const folder = temporaryFolder()
    for (const command of ["replay", "verify"]) {
      const ended = await darda([command], { DATA_DIR: folder }).ended
      assert.strictEqual(ended.code, 1)
      assert.match(ended.stderr, /^darda: There is no event log in .* yet: nothing to \w+\n$/)
    }
    assert.deepStrictEqual(fs.readdirSync(folder), [])
  })
})

describe("load", () => {
  it("measures a server: all that was sent is persisted and delivered", async () => {
    const server = started(await serving(temporaryFolder(), UNLIMITED))
    const flags = ["--url", server.url, "--users", "6", "--seconds", "2", "--json"]
    for (const more of [
      ["--rate", "200", "--conversations", "5"],
      ["--max", "--group-size", "3", "--conversations", "4"]
    ]) {
      const ended = await darda(["load", ...flags, ...more], {}).ended
      assert.strictEqual(ended.code, 0, ended.stderr)
      const result = JSON.parse(ended.stdout)
      assert.isAbove(result.sent, 100)
      assert.strictEqual(result.persisted, result.sent)
      assert.strictEqual(result.delivered, result.sent * (result.groupSize - 1))
      assert.deepStrictEqual([result.errors, result.unanswered, result.lostConnections], [{}, 0, 0])
      assert.isAbove(result.sendToPersistedMs.p50, 0)
      assert.isAtLeast(result.sendToPersistedMs.max, result.sendToPersistedMs.p99)
    }
  })

  it("says how far it is each second, and in the end what came of it", async () => {
    const server = started(await serving(temporaryFolder(), UNLIMITED))
    const ended = await darda(
      ["load", "--url", server.url, "--users", "2", "--conversations", "1", "--rate", "50", "--seconds", "3"],
      {}
    ).ended
    assert.match(ended.stdout, /^ +1 s {2}sent \d+\/s, persisted \d+\/s, delivered \d+\/s, errors 0$/m)
    assert.match(ended.stdout, /^send to persisted( +\d+\.\d\d ms){4}$/m)
  })

  it("says in one line what is in its way", async () => {
    const cases: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
      [["--url", "http://127.0.0.1:1"], /No server answers at http:\/\/127\.0\.0\.1:1/],
      [["--users", "3", "--conversations", "9"], /at most 3 direct conversations/],
      [["--group-size", "30", "--users", "3"], /--group-size must be from 2/],
      [["--rate", "5", "--max"], /exclude each other/],
      [["--token-file", "/nowhere"], /token file \/nowhere cannot be read/]
    ]
    for (const [flags, says] of cases) {
      const ended = await darda(["load", ...flags], {}).ended
      assert.strictEqual(ended.code, 1)
      assert.strictEqual(lines(ended.stderr).length, 1, ended.stderr)
      assert.match(ended.stderr, says)
    }
  })
})

describe("a stop", () => {
  const slow = fileURLToPath(new URL("../support/slow-stop.ts", import.meta.url))

  const running = async (...args: ReadonlyArray<string>) => {
    const child = spawn(process.execPath, [slow, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    const said = { output: "" }
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (said.output += text))
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
    await until(async () => said.output.includes("running"))
    return { child, ended, said }
  }

  it("is not cut short by the same signal coming twice, and ends at once by a second one", async () => {
    const { child, ended, said } = await running()
    // What a terminal sends to npm and to this, and npm sends on.
    child.kill("SIGINT")
    child.kill("SIGINT")
    await until(async () => said.output.includes("stopping"))
    assert.isNull(child.exitCode)
    await until(async () => {
      child.kill("SIGINT")
      return child.exitCode !== null
    })
    assert.strictEqual(await ended, 1)
    assert.match(said.output, /darda: stopped at once by a second signal/)
  })

  it("takes no longer than it is allowed to, whatever does not close", async () => {
    const { child, ended, said } = await running("1")
    child.kill("SIGTERM")
    assert.strictEqual(await ended, 0)
    assert.match(said.output, /stopping\n.*not all was closed within 5 seconds/)
  })
})

describe("a disk that fills up under a running server", () => {
  it("stops acknowledgements and loses none, and goes on when there is room again", async () => {
    const folder = temporaryFolder()
    const script = `mount -t tmpfs -o size=48m darda ${folder} && exec "$@"`
    const command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", process.execPath]
    const server = started(
      darda(["serve"], { DATA_DIR: folder, PORT: "0", LOG_FORMAT: "pretty", ...UNLIMITED }, command)
    )
    const url = (await server.says(/Darda is ready on (http:\/\/\S+)/))[1]!
    // The folder as the server's own mount namespace sees it.
    const ballast = path.join(`/proc/${server.child.pid}/root`, folder, "ballast")
    assert.strictEqual((await say(url, "before")).status, 201)
    const acknowledged = ["before"]
    fill(ballast)
    // What is in the files already may still have room for a few.
    let refused: Response | undefined
    for (let i = 0; i < 2_000 && refused === undefined; i++) {
      const answer = await say(url, `full-${i}`, "x".repeat(8_000))
      if (answer.status === 201) acknowledged.push(`full-${i}`)
      else refused = answer
    }
    assert.strictEqual(refused?.status, 503)
    assert.strictEqual(((await refused!.json()) as { readonly code: string }).code, "unavailable")
    fs.rmSync(ballast)
    await until(async () => (await say(url, "after")).ok)
    const there = await said(url, 200)
    for (const cid of [...acknowledged.slice(-50), "after"]) assert.include(there, cid)
  })
})

/** Writes until nothing more fits. */
const fill = (file: string): void => {
  const handle = fs.openSync(file, "w")
  try {
    for (const size of [1024 * 1024, 4_096]) {
      const block = Buffer.alloc(size)
      try {
        for (;;) fs.writeSync(handle, block)
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "ENOSPC") throw cause
      }
    }
  } finally {
    fs.closeSync(handle)
  }
}

/** Tries until it is so, for at most a minute. */
const until = async (isSo: () => Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 60_000
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error("It did not come to be within a minute")
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
