import { afterEach, assert, describe, it } from "vitest"
import * as fs from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { settingsRows } from "../../src/platform/Settings.ts"
import {
  type Darda,
  darda,
  type Ended,
  fingerprint,
  lines,
  said,
  say,
  serving,
  stop,
  temporaryFolder,
  tokenFor
} from "./darda.ts"

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

/** A folder with what a short run of a server leaves in it. */
const usedFolder = async (settings: Readonly<Record<string, string>> = {}): Promise<string> => {
  const folder = temporaryFolder()
  const server = started(await serving(folder, settings))
  assert.strictEqual((await say(server.url, "first")).status, 201)
  assert.strictEqual((await stop(server)).code, 0)
  return folder
}

const start = (folder: string, settings: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  started(darda(["serve"], { DATA_DIR: folder, PORT: "0", ...settings })).ended

/** One line that says what is wrong, no trace, the exit code, and nothing on the way that could be taken for a start. */
const refused = (ended: Ended, says: RegExp): void => {
  assert.strictEqual(lines(ended.stderr).length, 1, ended.stderr)
  assert.match(ended.stderr, /^darda: /)
  assert.match(ended.stderr, says)
  assert.notMatch(ended.stderr, /\n\s+at /)
  assert.strictEqual(ended.code, 1)
  assert.notMatch(ended.stdout, /Darda is ready/)
}

describe("a start that cannot be", () => {
  it("names every setting that is wrong and touches nothing", async () => {
    const folder = path.join(temporaryFolder(), "data")
    const ended = await start(folder, { PORT: "eighty", AUTH: "none", LIMIT_BURST: "0" })
    assert.deepStrictEqual(
      lines(ended.stderr).map((line) => /^darda: (\w+) is "\w+"; allowed: \S/.exec(line)?.[1]),
      ["PORT", "AUTH", "LIMIT_BURST"]
    )
    assert.strictEqual(ended.code, 1)
    assert.isFalse(fs.existsSync(folder))
  })

  it("is not let out of loopback with AUTH=dev", async () => {
    refused(await start(temporaryFolder(), { HOST: "0.0.0.0" }), /HOST is "0\.0\.0\.0".*AUTH_DEV_PUBLIC=1/)
  })

  it("finds its port taken", async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const { port } = server.address() as AddressInfo
    const folder = await usedFolder()
    const before = fingerprint(folder)
    refused(await start(folder, { PORT: String(port) }), new RegExp(`Port ${port} on 127\\.0\\.0\\.1 is taken`))
    assert.deepStrictEqual(fingerprint(folder), before)
    server.close()
  })

  it("finds its folder in use, and says by whom", async () => {
    const folder = temporaryFolder()
    const server = started(await serving(folder))
    refused(await start(folder), new RegExp(`in use by process ${server.child.pid} since 20`))
    assert.strictEqual((await say(server.url, "still-here")).status, 201)
  })

  it("finds a file where its folder should be", async () => {
    const file = path.join(temporaryFolder(), "data")
    fs.writeFileSync(file, "mine")
    refused(await start(file), /a file is where a folder should be/)
    assert.strictEqual(fs.readFileSync(file, "utf8"), "mine")
  })

  it("finds that its folder cannot be made", async () => {
    refused(await start("/proc/darda"), /The data folder \/proc\/darda cannot be used/)
  })

  it("finds a log that is no database", async () => {
    const folder = temporaryFolder()
    fs.writeFileSync(path.join(folder, "log.sqlite"), "Dear diary, today I was mistaken for a database.")
    const before = fingerprint(folder)
    refused(await start(folder), /log\.sqlite is not an SQLite database/)
    assert.deepStrictEqual(fingerprint(folder), before)
  })

  it("finds a log that is damaged", async () => {
    const folder = await usedFolder()
    const log = path.join(folder, "log.sqlite")
    const bytes = fs.readFileSync(log)
    bytes.fill(0x55, 4_096, Math.min(bytes.length, 65_536))
    fs.writeFileSync(log, bytes)
    const before = fingerprint(folder)
    refused(await start(folder), /log\.sqlite.*damaged/)
    assert.deepStrictEqual(fingerprint(folder), before)
  })

  it("finds a log of a newer version", async () => {
    const folder = await usedFolder()
    const log = new DatabaseSync(path.join(folder, "log.sqlite"))
    const { user_version: version } = log.prepare("PRAGMA user_version").get() as { readonly user_version: number }
    log.exec(`PRAGMA user_version = ${version + 1}`)
    log.close()
    const before = fingerprint(folder)
    refused(
      await start(folder),
      new RegExp(`log\\.sqlite has format ${version + 1}; this Darda reads format ${version}`)
    )
    assert.deepStrictEqual(fingerprint(folder), before)
  })

  it("finds a log of another number of partitions", async () => {
    const folder = await usedFolder({ PARTITIONS: "4" })
    const before = fingerprint(folder)
    refused(await start(folder, { PARTITIONS: "8" }), /PARTITIONS.*4/)
    assert.deepStrictEqual(fingerprint(folder), before)
  })

  it("finds its disk full", async () => {
    const folder = temporaryFolder()
    const ended = await onDiskOf("8m", folder, `exec "$@"`, { DATA_DIR: folder })
    refused(ended, /its disk has [78]\.\d MiB free and at least 32\.0 MiB are needed/)
  })

  it("is told that a file holds no tokens' key", async () => {
    const key = path.join(temporaryFolder(), "key.pem")
    fs.writeFileSync(key, "not a key")
    const jwt = {
      AUTH: "jwt",
      CLUSTER_SECRET: "c".repeat(32),
      JWT_PUBLIC_KEY_FILE: key,
      JWT_ISSUER: "i",
      JWT_AUDIENCE: "a"
    }
    const folder = temporaryFolder()
    refused(await start(folder, jwt), /JWT_PUBLIC_KEY_FILE/)
    assert.deepStrictEqual(fs.readdirSync(folder), [], "nothing was written")
  })
})

/** Starts `darda serve` after a script, in a mount namespace of its own where the folder is a small disk in memory. */
const onDiskOf = (
  size: string,
  folder: string,
  script: string,
  settings: Readonly<Record<string, string>>
): Promise<Ended> => {
  const shell = `mount -t tmpfs -o size=${size} darda ${folder} && ${script}`
  const command = ["unshare", "--map-root-user", "--mount", "sh", "-c", shell, "sh", process.execPath]
  return started(darda(["serve"], { PORT: "0", ...settings }, command)).ended
}

describe("a server", () => {
  it("says when it is ready, warns of AUTH=dev, and ends with 0 on SIGTERM and on SIGINT", async () => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const server = started(await serving(temporaryFolder()))
      assert.strictEqual((await fetch(`${server.url}/readyz`)).status, 200)
      server.child.kill(signal)
      const ended = await server.ended
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(ended.stderr, "")
      assert.match(ended.stdout, /Darda is ready on http:\/\/localhost:\d+ \(data in .*, AUTH=dev\)/)
      assert.match(ended.stdout, /warn .*AUTH=dev/)
    }
  })

  it("keeps what it acknowledged when it is killed, and starts again at once", async () => {
    const folder = temporaryFolder()
    const first = started(await serving(folder))
    for (const cid of ["one", "two", "three"]) assert.strictEqual((await say(first.url, cid)).status, 201)
    first.child.kill("SIGKILL")
    await first.ended
    const second = started(await serving(folder))
    assert.deepStrictEqual(await said(second.url), ["one", "two", "three"])
    assert.strictEqual((await say(second.url, "two")).status, 200)
  })

  it("tokens of AUTH=dev outlive a restart", async () => {
    const folder = temporaryFolder()
    const first = started(await serving(folder))
    const token = await tokenFor(first.url, "ada")
    await stop(first)
    const second = started(await serving(folder))
    const answer = await fetch(`${second.url}/v1/conversations`, { headers: { authorization: `Bearer ${token}` } })
    assert.strictEqual(answer.status, 200)
  })

  it("logs one JSON object a line where nobody looks", async () => {
    const server = started(darda([], { DATA_DIR: temporaryFolder(), PORT: "0" }))
    await server.says(/Darda is ready/)
    const { stdout } = await stop(server)
    for (const line of lines(stdout)) assert.hasAllKeys(pick(JSON.parse(line)), ["time", "level", "message"])
  })
})

const pick = ({ level, message, time }: Record<string, unknown>) => ({ time, level, message })

describe("the command", () => {
  it("lists its commands, and every setting with serve --help", async () => {
    const help = await darda(["--help"], {}).ended
    for (const name of ["serve", "replay", "verify", "outbox", "dead-letters", "doctor", "load"])
      assert.include(help.stdout, name)
    const serveHelp = await darda(["serve", "--help"], {}).ended
    for (const { allowed, doc, name } of settingsRows()) {
      for (const text of [name, allowed, doc]) assert.include(serveHelp.stdout, text)
    }
    assert.deepStrictEqual([help.code, serveHelp.code], [0, 0])
  })

  it("refuses roles that it does not know or cannot have on files, and half a set of engines", async () => {
    const engine = { REDIS_URL: "redis://127.0.0.1:1" }
    const all = { ...engine, MONGO_URL: "mongodb://127.0.0.1:1", AMQP_URL: "amqp://127.0.0.1:1" }
    for (const [args, settings, said] of [
      [["--roles", "edge,writer"], {}, /^darda: --roles is "edge,writer"; allowed: one or more of edge, write, read/],
      [["--roles", "edge"], {}, /^darda: --roles edge needs engines that processes share: set MONGO_URL, AMQP_URL and/],
      [[], engine, /^darda: MONGO_URL is not set; allowed: the URL of that engine, because REDIS_URL is set/],
      [["--roles", "edge"], all, /^darda: READ_URL is not set: an edge without the role read/],
      [
        [],
        { MONGO_URL: "http://127.0.0.1" },
        /^darda: MONGO_URL is hidden, 16 characters; allowed: a URL that begins with/
      ]
    ] as const) {
      const ended = await darda(["serve", ...args], { DATA_DIR: temporaryFolder(), ...settings }).ended
      assert.strictEqual(ended.code, 1)
      assert.match(ended.stderr, said)
      assert.strictEqual(ended.stdout, "")
    }
  })

  it("refuses what it does not know in one line", async () => {
    for (const args of [["swerve"], ["serve", "--port", "80"], ["load", "--users", "many"]]) {
      const ended = await darda(args, {}).ended
      assert.strictEqual(lines(ended.stderr).length, 1, ended.stderr)
      assert.strictEqual(ended.code, 1)
    }
  })

  it("doctor finds what a start would trip over, and is content with a good folder", async () => {
    const folder = await usedFolder()
    fs.chmodSync(folder, 0o700)
    const well = await darda(["doctor"], { DATA_DIR: folder, PORT: "0" }).ended
    assert.strictEqual(well.code, 0, well.stdout)
    assert.match(well.stdout, /✓ event log: whole/)
    const other = await darda(["doctor"], { DATA_DIR: folder, PORT: "0", PARTITIONS: "3" }).ended
    assert.strictEqual(other.code, 1)
    assert.match(other.stdout, /✗ event log: has 16 partitions, PARTITIONS is 3: set PARTITIONS=16/)
    fs.writeFileSync(path.join(folder, "log.sqlite"), "x".repeat(5_000))
    const before = fingerprint(folder)
    const ill = await darda(["doctor"], { DATA_DIR: folder, PORT: "0" }).ended
    assert.strictEqual(ill.code, 1)
    assert.match(ill.stdout, /✗ event log .*log\.sqlite/)
    assert.deepStrictEqual(fingerprint(folder), before)
  })
})
