import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { hash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { createInterface } from "node:readline"
import { dmConversation } from "../../src/domain/ids.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerSqlite } from "../../src/write-side/EventLogSqlite.ts"
import { everything, LogCommitter, onlyTimeline, plain, say } from "../support/log-committer.ts"
import { temporaryFolder } from "../support/log-folder.ts"

const open = (file: string, partitions = 16) =>
  Effect.flatMap(Layer.build(Layer.fresh(layerSqlite({ file, partitions }))), (context) =>
    Effect.provide(EventLog, context)
  )

const dm = dmConversation("ann", "bob")

/** A log with a few events, closed. */
const someLog = Effect.fnUntraced(function* (file: string) {
  yield* Effect.scoped(
    Effect.gen(function* () {
      const committer = yield* LogCommitter.claim(yield* open(file))
      for (let i = 0; i < 50; i++) yield* committer.commit([say(dm, "ann", `c${i}`, "x".repeat(500))])
    })
  )
})

/** Positions and seqs without a hole. */
const checkWhole = (
  events: ReadonlyArray<{
    readonly partition: number
    readonly position: number
    readonly conv: string
    readonly seq: number
  }>,
  heads: ReadonlyArray<number>
) => {
  const positions = new Array<number>(heads.length).fill(0)
  const seqs = new Map<string, number>()
  for (const { conv, partition, position, seq } of events) {
    assert.strictEqual(position, ++positions[partition]!)
    if (seq === 0) continue
    assert.strictEqual(seq, (seqs.get(conv) ?? 0) + 1)
    seqs.set(conv, seq)
  }
  assert.deepStrictEqual(heads, positions)
}

const appendUntilKilled = (file: string, run: string, ms: number): Promise<ReadonlyArray<string>> =>
  new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [path.resolve(import.meta.dirname, "../support/log-appender.ts"), file, run],
      {
        stdio: ["ignore", "pipe", "inherit"]
      }
    )
    const lines: Array<string> = []
    createInterface({ input: child.stdout })
      .on("line", (line) => {
        if (line === "ready") setTimeout(() => child.kill("SIGKILL"), ms)
        // A line that the kill cut short is not an ack.
        else if (/^\S+ \d+ r\d+-\d+-\d+$/.test(line)) lines.push(line)
      })
      .on("close", () => resolve(lines))
    child.on("error", reject)
    child.on("exit", (code, signal) => {
      if (signal !== "SIGKILL") reject(new Error(`the appender ended with ${code}`))
    })
  })

describe("EventLog in SQLite: opening", () => {
  it.live("finds everything again, under the same id", () =>
    Effect.gen(function* () {
      const file = path.join(yield* temporaryFolder, "log.sqlite")
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const log = yield* open(file)
          const committer = yield* LogCommitter.claim(log)
          yield* committer.commit(Array.from({ length: 40 }, (_, i) => say(dm, "ann", `c${i}`, "hi")))
          return { id: log.id, events: yield* everything(log), state: plain(yield* log.conversation(dm)) }
        })
      )
      const log = yield* open(file)
      assert.deepStrictEqual(
        { id: log.id, events: yield* everything(log), state: plain(yield* log.conversation(dm)) },
        first
      )
      const committer = yield* LogCommitter.claim(log)
      assert.lengthOf(yield* committer.commit([say(dm, "ann", "c7", "hi")]), 0)
    })
  )

  it.live("leaves nothing but the file when it is closed", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* someLog(path.join(folder, "log.sqlite"))
      assert.deepStrictEqual(fs.readdirSync(folder), ["log.sqlite"])
    })
  )

  const refused = (
    title: string,
    code: string,
    says: RegExp,
    damage: (file: string) => void,
    partitions?: number
  ): void => {
    it.live(title, () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const file = path.join(folder, "log.sqlite")
        yield* someLog(file)
        damage(file)
        const look = () =>
          fs.readdirSync(folder).map((name) => [name, hash("sha256", fs.readFileSync(path.join(folder, name)))])
        const before = look()
        const error = yield* Effect.flip(Effect.scoped(open(file, partitions)))
        assert.deepInclude(error, { _tag: "LogUnusable", where: file, code })
        assert.match(error.message, says)
        assert.include(error.message, file)
        assert.deepStrictEqual(look(), before, "the file is as it was")
      })
    )
  }

  refused(
    "refuses another number of partitions",
    "other-partitions",
    /has 16 partitions, and PARTITIONS is 8.*PARTITIONS=16/,
    () => {},
    8
  )
  refused("refuses a newer format", "newer", /has format 99; this Darda reads format 1/, (file) => {
    const db = new DatabaseSync(file)
    db.exec("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
  })
  refused("refuses another program's database", "foreign", /not one of this kind/, (file) => {
    fs.rmSync(file)
    const db = new DatabaseSync(file)
    db.exec("CREATE TABLE notes (text)")
    db.close()
  })
  refused("refuses a file that is no database", "not-sqlite", /is not an SQLite database/, (file) =>
    fs.writeFileSync(file, "Dear diary, today I was written over a log. ".repeat(100))
  )
  refused("refuses a file with a damaged page", "corrupt", /is damaged .*restore a backup/, (file) => {
    const handle = fs.openSync(file, "r+")
    fs.writeSync(handle, Buffer.alloc(3 * 4096, 0x5a), 0, 3 * 4096, 4 * 4096)
    fs.closeSync(handle)
  })
  refused("refuses a file that was cut off", "corrupt", /is damaged/, (file) => fs.truncateSync(file, 4096 * 5))

  it.live("leaves alone what a killed process left, when it refuses the file", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = path.join(folder, "log.sqlite")
      yield* Effect.promise(() => appendUntilKilled(file, "r0", 200))
      const look = () =>
        ["log.sqlite", "log.sqlite-wal"].map((name) => hash("sha256", fs.readFileSync(path.join(folder, name))))
      const before = look()
      const error = yield* Effect.flip(Effect.scoped(open(file, 8)))
      assert.strictEqual(error.code, "other-partitions")
      assert.deepStrictEqual(look(), before)
      yield* open(file)
    })
  )

  it.live("names a folder that is missing, or that is a file", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const missing = yield* Effect.flip(Effect.scoped(open(path.join(folder, "none", "log.sqlite"))))
      assert.deepInclude(missing, { _tag: "LogUnusable", code: "cannot-open" })
      fs.writeFileSync(path.join(folder, "file"), "")
      const file = yield* Effect.flip(Effect.scoped(open(path.join(folder, "file", "log.sqlite"))))
      assert.deepInclude(file, { _tag: "LogUnusable", code: "cannot-open" })
      assert.deepStrictEqual(fs.readdirSync(folder), ["file"])
    })
  )

  it.live("says so when an event is of a version that it does not know", () =>
    Effect.gen(function* () {
      const file = path.join(yield* temporaryFolder, "log.sqlite")
      yield* someLog(file)
      const db = new DatabaseSync(file)
      db.exec("UPDATE events SET record = json_set(record, '$[0]', 2) WHERE record ->> 3 = 50")
      db.close()
      const log = yield* open(file)
      const error = yield* Effect.flip(log.timeline(dm, { limit: 1, take: "newest" }))
      assert.match(error.message, /event of version 2; this Darda reads versions 1 to 1/)
      assert.lengthOf(yield* log.timeline(dm, { before: 50, limit: 100, take: "oldest" }), 49)
    })
  )

  it.live("shows people who look into the file what was said", () =>
    Effect.gen(function* () {
      const file = path.join(yield* temporaryFolder, "log.sqlite")
      yield* someLog(file)
      const db = new DatabaseSync(file, { readOnly: true })
      const row = db
        .prepare("SELECT position, conv, seq, type, sender, cid, data ->> 'kind' AS kind FROM log WHERE seq = 3")
        .get()
      assert.deepStrictEqual(
        { ...row },
        { position: 3, conv: dm, seq: 3, type: "message", sender: "ann", cid: "c2", kind: "text" }
      )
      db.close()
    })
  )
})

describe("EventLog in SQLite: the disk", () => {
  const small = Effect.acquireRelease(
    Effect.map(temporaryFolder, (folder) => {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", folder], { stdio: "ignore" })
      return folder
    }),
    (folder) => Effect.sync(() => execFileSync("umount", ["-l", folder], { stdio: "ignore" }))
  )
  const mayMount = process.getuid?.() === 0

  it.live.skipIf(!mayMount)(
    "refuses to append when the disk is full, loses nothing, and goes on when there is space",
    () =>
      Effect.gen(function* () {
        const folder = yield* small
        const file = path.join(folder, "log.sqlite")
        const ballast = path.join(folder, "ballast")
        const log = yield* open(file)
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([say(dm, "ann", "c0", "first")])
        fs.writeFileSync(ballast, Buffer.alloc(350_000))
        let acked = 1
        let failure: { readonly _tag: string; readonly message: string } | undefined
        while (failure === undefined) {
          const result = yield* Effect.result(committer.commit([say(dm, "ann", `c${acked}`, "x".repeat(20_000))]))
          if (result._tag === "Success") acked++
          else failure = result.failure
          assert.isBelow(acked, 100)
        }
        assert.strictEqual(failure._tag, "LogUnavailable")
        assert.include(failure.message, "the disk is full")
        assert.lengthOf(yield* everything(log), acked)
        assert.strictEqual(
          (yield* Effect.flip(committer.commit([say(dm, "ann", "big", "x".repeat(60_000))])))._tag,
          "LogUnavailable"
        )
        fs.rmSync(ballast)
        yield* committer.commit([say(dm, "ann", "after", "there is space again")])
        const events = onlyTimeline(yield* everything(log))
        assert.deepStrictEqual(
          events.map(({ cid }) => cid),
          [...Array.from({ length: acked }, (_, i) => `c${i}`), "after"]
        )
      })
  )

  it.live(
    "keeps the write-ahead log short under a load that never pauses",
    () =>
      Effect.gen(function* () {
        const file = path.join(yield* temporaryFolder, "log.sqlite")
        const log = yield* open(file)
        const committer = yield* LogCommitter.claim(log)
        const body = "x".repeat(4_000)
        const convs = Array.from({ length: 200 }, (_, i) => dmConversation("ann", `u${i}`))
        for (let n = 0; n < 120; n++) {
          yield* committer.commit(
            convs.flatMap((conv) => [say(conv, "ann", `a${n}`, body), say(conv, "ann", `b${n}`, body)])
          )
        }
        const written = fs.statSync(file).size
        assert.isAbove(written, 100 * 2 ** 20)
        assert.isBelow(fs.statSync(`${file}-wal`).size, 80 * 2 ** 20)
      }),
    60_000
  )
})

describe("EventLog in SQLite: kill -9", () => {
  it.live(
    "keeps everything that was acked, in order, however often it is killed",
    () =>
      Effect.gen(function* () {
        const file = path.join(yield* temporaryFolder, "log.sqlite")
        const acked: Array<string> = []
        for (let run = 0; run < 6; run++) {
          const lines = yield* Effect.promise(() =>
            appendUntilKilled(file, `r${run}`, 30 + Math.floor(Math.random() * 300))
          )
          assert.isAbove(lines.length, 0)
          acked.push(...lines)
        }
        const scope = yield* Scope.make()
        const log = yield* Scope.provide(open(file), scope)
        const events = yield* everything(log)
        const found = new Set(onlyTimeline(events).map(({ cid, conv, seq }) => `${conv} ${seq} ${cid}`))
        assert.deepStrictEqual(
          acked.filter((line) => !found.has(line)),
          [],
          "acked and lost"
        )
        checkWhole(events, yield* log.heads)
        for (const conv of new Set(events.map((event) => event.conv))) {
          const own = onlyTimeline(events.filter((event) => event.conv === conv))
          assert.deepStrictEqual(yield* log.timeline(conv, { limit: 10_000, take: "oldest" }), own)
          const state = yield* log.conversation(conv)
          assert.deepStrictEqual([state?.seq, state?.position], [own.length, own[own.length - 1]?.position])
          const { priors } = yield* log.prepare({
            conversations: [],
            cids: own.map(({ by, cid }) => ({ conv, by, cid })),
            targets: [],
            openers: [],
            openedSince: 0
          })
          assert.deepStrictEqual(
            priors.map((prior) => prior?.seq),
            own.map(({ seq }) => seq)
          )
        }
        yield* Scope.close(scope, Exit.void)
      }),
    60_000
  )
})
