import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Schedule, type Scope } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Worker } from "node:worker_threads"
import { Projector } from "../../src/read-side/Projector.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerSqlite } from "../../src/read-side/ReadModelsSqlite.ts"
import { replay, type ReplayProgress } from "../../src/read-side/replay.ts"
import { verify } from "../../src/read-side/verify.ts"
import { layerMemory as busMemory, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, makeMemoryLog, type MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { historyOf } from "../support/histories.ts"
import { appender, appendHistory } from "../support/historyLog.ts"

const PARTITIONS = 4

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "darda-read-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true }))
)

interface Opened {
  readonly log: EventLog["Service"]
  readonly readModels: ReadModels["Service"]
  readonly projector: Projector["Service"]
  readonly lines: ReadonlyArray<string>
}

/** A server's read side on a file, for as long as `use` takes. */
const withFile = <A, E>(file: string, log: MemoryLog, use: (opened: Opened) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const ports = Layer.mergeAll(
        logMemory(log),
        busMemory(makeMemoryEventBus()),
        layerSqlite({ file, log: log.id, partitions: PARTITIONS })
      ).pipe(Layer.provideMerge(Logger.layer([logger])))
      const context = yield* Layer.build(Layer.fresh(Projector.layer.pipe(Layer.provideMerge(ports))))
      return yield* use({
        log: Context.get(context, EventLog),
        readModels: Context.get(context, ReadModels),
        projector: Context.get(context, Projector),
        lines
      }).pipe(Effect.provide(Logger.layer([logger])))
    })
  )

const filled = Effect.fnUntraced(function* (seed: number, wishes = 500) {
  const file = path.join(yield* folder, "read-models.sqlite")
  const log = makeMemoryLog(PARTITIONS)
  const history = historyOf(seed, wishes, { partitions: PARTITIONS })
  yield* withFile(file, log, ({ log, projector }) => Effect.andThen(appendHistory(log, history), projector.catchUp))
  return { file, log, history, heads: history.logs.map((log) => log.length) }
})

/** Changes the file as nobody should. */
const tamper = (file: string, sql: string) =>
  Effect.sync(() => {
    const db = new DatabaseSync(file)
    db.exec(sql)
    db.close()
  })

describe("verify", () => {
  it.live("finds nothing wrong with what was projected", () =>
    Effect.gen(function* () {
      const { file, heads, history, log } = yield* filled(31)
      const result = yield* withFile(file, log, verify)
      assert.deepStrictEqual(
        { ...result, rows: 0 },
        {
          checkpoints: heads,
          events: history.events.length,
          rows: 0,
          differing: 0,
          differences: []
        }
      )
      assert.isAbove(result.rows, 50)
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["read-models.sqlite"])
    })
  )

  it.live("names every row that is not what the log says", () =>
    Effect.gen(function* () {
      const { file, log } = yield* filled(32)
      const db = new DatabaseSync(file)
      const [first] = db
        .prepare(
          "SELECT c.conv, c.id, m.seq, m.message FROM messages m JOIN conversations c ON c.id = m.conversation LIMIT 1"
        )
        .all()
      db.close()
      const { conv, id, message, seq } = first as { conv: string; id: number; message: string; seq: number }
      yield* tamper(
        file,
        `UPDATE messages SET message = json_set(message, '$.body', 'forged') WHERE conversation = ${id} AND seq = ${seq};
         INSERT INTO messages VALUES (${id}, 999999, 'eve', 0, '{"by":"eve","at":1,"cid":"x","kind":"text","body":"never said"}');
         DELETE FROM members WHERE conversation = ${id} AND user = (SELECT min(user) FROM members WHERE conversation = ${id});
         UPDATE conversations SET head = head + 1 WHERE id = ${id}`
      )
      const { differences, differing } = yield* withFile(file, log, verify)
      assert.strictEqual(differing, 4)
      assert.deepStrictEqual(
        differences.map(({ conv, row }) => `${conv} ${row.replace(/member .*/, "member")}`),
        [`${conv} conversation`, `${conv} member`, `${conv} message ${seq}`, `${conv} message 999999`]
      )
      const [, missing, forged, extra] = differences
      assert.isUndefined(missing!.found)
      assert.include(forged!.found!, "forged")
      assert.include(forged!.expected!, (JSON.parse(message) as { cid: string }).cid)
      assert.isUndefined(extra!.expected)
      const few = yield* withFile(file, log, (opened) => verify({ ...opened, maxDifferences: 1 }))
      assert.deepStrictEqual([few.differing, few.differences.length], [4, 1])
    })
  )
})

describe("replay", () => {
  it.live("rebuilds what was wrong, live, with its progress told", () =>
    Effect.gen(function* () {
      const { file, heads, history, log } = yield* filled(33, 6_000)
      yield* tamper(file, `DELETE FROM messages; UPDATE members SET seen = 0, read = 7`)
      yield* withFile(file, log, (opened) =>
        Effect.gen(function* () {
          assert.isAbove((yield* verify(opened)).differing, 0)
          const told: Array<ReplayProgress> = []
          const result = yield* replay({
            ...opened,
            onProgress: (progress) => Effect.sync(() => void told.push(progress))
          })
          assert.strictEqual(result.events, history.events.length)
          assert.deepStrictEqual(result.checkpoints, heads)
          assert.isTrue(result.comparable)
          assert.strictEqual(result.before.messages, 0)
          assert.isAbove(result.after.messages, 0)
          assert.strictEqual(result.before.conversations, result.after.conversations)
          assert.strictEqual(told.at(-1)!.done, history.events.length)
          assert.strictEqual(told.at(-1)!.total, history.events.length)
          assert.isAbove(told.length, 1)
          assert.strictEqual((yield* verify(opened)).differing, 0)
        })
      )
      assert.strictEqual((yield* withFile(file, log, verify)).differing, 0)
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["read-models.sqlite"])
    })
  )

  it.live(
    "goes on while events come in",
    () =>
      Effect.gen(function* () {
        const history = historyOf(34, 6_000, { partitions: PARTITIONS })
        const file = path.join(yield* folder, "read-models.sqlite")
        yield* withFile(file, makeMemoryLog(PARTITIONS), (opened) =>
          Effect.gen(function* () {
            const { log, projector } = opened
            const append = yield* appender(log)
            const half = history.events.length >> 1
            yield* append(history.events.slice(0, half))
            yield* projector.catchUp
            let at = half
            const more = Effect.suspend(() => append(history.events.slice(at, (at += 20)))).pipe(
              Effect.andThen(projector.catchUp),
              Effect.repeat({ until: () => at >= history.events.length })
            )
            const [result] = yield* Effect.all([replay(opened), more], { concurrency: 2 })
            assert.isTrue(result.comparable)
            yield* projector.catchUp
            const { checkpoints, differing } = yield* verify(opened)
            assert.deepStrictEqual(
              checkpoints,
              history.logs.map((log) => log.length)
            )
            assert.strictEqual(differing, 0)
          })
        )
      }),
    60_000
  )

  it.live("F21: one that is cut off leaves the old read models, and the next start removes what it left", () =>
    Effect.gen(function* () {
      const { file, heads, log } = yield* filled(35, 3_000)
      yield* withFile(file, log, (opened) =>
        Effect.gen(function* () {
          const interrupted = yield* Effect.exit(replay({ ...opened, onProgress: () => Effect.interrupt }))
          assert.isTrue(Exit.isFailure(interrupted))
          assert.deepStrictEqual(yield* opened.readModels.checkpoints, heads)
        })
      )
      fs.writeFileSync(`${file}.rebuild`, "half a file")
      fs.writeFileSync(`${file}.rebuild-wal`, "half a file")
      const { differing } = yield* withFile(file, log, verify)
      assert.strictEqual(differing, 0)
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["read-models.sqlite"])
    })
  )
})

describe("a file of read models that cannot be used", () => {
  const rebuilt = (name: string, spoil: (file: string) => Effect.Effect<void>, why: string) =>
    it.live(`is made anew from the log, with one line: ${name}`, () =>
      Effect.gen(function* () {
        const { file, heads, log } = yield* filled(36)
        yield* spoil(file)
        yield* withFile(file, log, (opened) =>
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* opened.projector.catchUp, heads)
            assert.strictEqual((yield* verify(opened)).differing, 0)
            assert.strictEqual(opened.lines.length, why === "" ? 0 : 1)
            if (why !== "") assert.include(opened.lines[0]!, why)
          })
        )
      })
    )

  const write = (bytes: Buffer, at: number) => (file: string) =>
    Effect.sync(() => {
      const descriptor = fs.openSync(file, "r+")
      fs.writeSync(descriptor, bytes, 0, bytes.length, at)
      fs.closeSync(descriptor)
    })

  rebuilt("missing", (file) => Effect.sync(() => fs.rmSync(file)), "")
  rebuilt("empty", (file) => Effect.sync(() => fs.truncateSync(file)), "")
  rebuilt("not a database", (file) => Effect.sync(() => fs.writeFileSync(file, "x".repeat(5_000))), "damaged")
  rebuilt("overwritten pages", write(Buffer.alloc(20_000, 0xaa), 4_096), "damaged")
  rebuilt("cut off", (file) => Effect.sync(() => fs.truncateSync(file, 3 * 4_096)), "damaged")
  rebuilt("of another version", (file) => tamper(file, "PRAGMA user_version = 999"), "newer")
  rebuilt("of another log", (file) => tamper(file, "UPDATE meta SET value = 'other' WHERE key = 'log'"), "another log")
  rebuilt(
    "of another number of partitions",
    (file) => tamper(file, "UPDATE meta SET value = '9' WHERE key = 'partitions'"),
    "another log"
  )

  it.live("is made anew when its damage shows later, while it is in use", () =>
    Effect.gen(function* () {
      const { file, heads, log } = yield* filled(39, 3_000)
      yield* withFile(file, log, (opened) =>
        Effect.gen(function* () {
          const { lines, projector, readModels } = opened
          yield* write(Buffer.alloc(fs.statSync(file).size - 4_096, 0xaa), 4_096)(file)
          assert.strictEqual((yield* Effect.flip(readModels.counts))._tag, "ReadModelsUnavailable")
          assert.strictEqual(lines.length, 1)
          assert.include(lines[0]!, "damaged")
          assert.deepStrictEqual(yield* readModels.checkpoints, [0, 0, 0, 0])
          assert.deepStrictEqual(yield* projector.catchUp, heads)
          assert.strictEqual((yield* verify(opened)).differing, 0)
        })
      )
    })
  )

  it.live("a thread that dies is started again, and queries find the read models as they were", () =>
    Effect.gen(function* () {
      const { file, heads, log } = yield* filled(38)
      const threads = new Set<Worker>()
      // eslint-disable-next-line typescript/unbound-method -- put back, and called with its own thread
      const { postMessage } = Worker.prototype
      Worker.prototype.postMessage = function (this: Worker, ...args: Parameters<typeof postMessage>) {
        threads.add(this)
        return postMessage.apply(this, args)
      }
      yield* withFile(file, log, ({ lines, readModels }) =>
        Effect.gen(function* () {
          yield* Effect.promise(() => Promise.all([...threads].map((thread) => thread.terminate())))
          assert.strictEqual((yield* Effect.flip(readModels.counts))._tag, "ReadModelsUnavailable")
          const checkpoints = yield* readModels.checkpoints.pipe(
            Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))
          )
          assert.deepStrictEqual(checkpoints, heads)
          assert.include(lines.join("\n"), "started again")
        })
      ).pipe(Effect.ensuring(Effect.sync(() => void (Worker.prototype.postMessage = postMessage))))
    })
  )

  it.live("is left alone when it is another program's", () =>
    Effect.gen(function* () {
      const { file, log } = yield* filled(37)
      yield* tamper(file, "PRAGMA application_id = 77")
      const before = fs.readFileSync(file)
      const error = yield* Effect.flip(withFile(file, log, () => Effect.void))
      assert.include(String(error), "not one of this kind")
      assert.deepStrictEqual(fs.readFileSync(file), before)
    })
  )
})
