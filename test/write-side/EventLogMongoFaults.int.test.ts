import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { MongoClient } from "mongodb"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { afterAll, beforeAll } from "vitest"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { EventLog } from "../../src/write-side/EventLog.ts"
import { commitAll, everything, LogCommitter, mark, onlyTimeline, say } from "../support/log-committer.ts"
import { openMongoLog } from "../support/mongo-log.ts"
import { mongoProxy } from "../support/mongo-proxy.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"

type Log = EventLog["Service"]

const dm = dmConversation("ann", "bob")
const partition = partitionOf(dm, 16)
const PARTITIONS = Array.from({ length: 16 }, (_, p) => p)

let mongo: PrivateMongo
let admin: MongoClient
beforeAll(async () => {
  mongo = await privateMongo()
  admin = new MongoClient(mongo.url)
})
afterAll(async () => {
  await admin.close()
  await mongo.dispose()
})

const fresh = (): string => {
  const url = new URL(mongo.url)
  url.pathname = `/t${randomBytes(6).toString("hex")}`
  return url.toString()
}
const dbOf = (url: string) => admin.db(new URL(url).pathname.slice(1))

/** The server fails so many of the next calls, until the scope ends. Answers how many it has failed in its life. */
const failing = (times: number, data: object) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      admin
        .db("admin")
        .command({ configureFailPoint: "failCommand", mode: { times }, data })
        .then((answer) => answer["count"] as number)
    ),
    () => Effect.promise(() => admin.db("admin").command({ configureFailPoint: "failCommand", mode: "off" }))
  )

/** What was committed is there once, in order, and the heads say so. */
const checkWhole = Effect.fnUntraced(function* (log: Log, cids: ReadonlyArray<string>) {
  const events = onlyTimeline(yield* everything(log))
  assert.deepStrictEqual(
    events.map(({ cid, position, seq }) => [cid, position, seq]),
    cids.map((cid, i) => [cid, i + 1, i + 1])
  )
  assert.strictEqual((yield* log.heads)[partition], cids.length)
  assert.strictEqual((yield* log.conversation(dm))?.seq ?? 0, cids.length)
})

/** A session has written in a transaction, and the server is doing nothing for it. */
const untilTransactionWaits = Effect.promise(async () => {
  const waiting = { type: "idleSession", "transaction.parameters.autocommit": false }
  const sessions = [{ $currentOp: { allUsers: true, idleSessions: true } }, { $match: waiting }]
  while ((await admin.db("admin").aggregate(sessions).toArray()).length === 0);
})

/** A log by a way that can be broken, and its address without that. */
const proxied = Effect.gen(function* () {
  const proxy = yield* mongoProxy(mongo.port)
  const url = fresh()
  const through = new URL(url)
  through.port = String(proxy.port)
  through.search = "directConnection=true"
  return { proxy, url, log: yield* openMongoLog(through.toString()) }
})

describe("EventLog in MongoDB: what the server refuses for now (F8)", () => {
  for (const [code, command] of [
    [112, "bulkWrite"],
    [251, "bulkWrite"],
    [91, "bulkWrite"],
    [11601, "bulkWrite"],
    [112, "commitTransaction"],
    [251, "commitTransaction"],
    [91, "commitTransaction"]
  ] as const) {
    it.live(`tries the whole transaction again after error ${code} of ${command}`, () =>
      Effect.gen(function* () {
        const log = yield* openMongoLog(fresh())
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([say(dm, "ann", "c1", "x")])
        yield* failing(3, { failCommands: [command], errorCode: code })
        yield* committer.commit([say(dm, "ann", "c2", "x")])
        yield* checkWhole(log, ["c1", "c2"])
      }).pipe(Effect.scoped)
    )
  }

  for (const command of ["bulkWrite", "commitTransaction"]) {
    it.live(`goes on when the connection is closed instead of an answer to ${command}`, () =>
      Effect.gen(function* () {
        const log = yield* openMongoLog(fresh())
        const committer = yield* LogCommitter.claim(log)
        yield* failing(2, { failCommands: [command], closeConnection: true })
        yield* committer.commit([say(dm, "ann", "c1", "x")])
        yield* checkWhole(log, ["c1"])
      }).pipe(Effect.scoped)
    )
  }

  it.live("finds what it committed when the server does not say that a majority has it", () =>
    Effect.gen(function* () {
      const log = yield* openMongoLog(fresh())
      const committer = yield* LogCommitter.claim(log)
      const wtimeout = { code: 64, codeName: "WriteConcernTimeout", errmsg: "waiting for replication timed out" }
      yield* failing(100, { failCommands: ["commitTransaction"], writeConcernError: wtimeout })
      yield* committer.commit([say(dm, "ann", "c1", "x")])
      yield* checkWhole(log, ["c1"])
    }).pipe(Effect.scoped)
  )

  it.live("says at the start which right is missing", () =>
    Effect.gen(function* () {
      yield* failing(1, { failCommands: ["update"], errorCode: 13 })
      const error = yield* Effect.flip(openMongoLog(fresh()))
      assert.deepInclude(error, { _tag: "LogUnusable", code: "no-rights" })
      assert.match(error.message, /needs the role readWrite/)
    }).pipe(Effect.scoped)
  )

  it.live("fails at once with what trying again does not help against, and holds nothing", () =>
    Effect.gen(function* () {
      const log = yield* openMongoLog(fresh())
      const committer = yield* LogCommitter.claim(log)
      const decided = yield* committer.decide([say(dm, "ann", "c1", "x")])
      yield* failing(1, { failCommands: ["bulkWrite"], errorCode: 13 })
      const error = yield* Effect.flip(committer.append(decided))
      assert.strictEqual(error._tag, "LogUnavailable")
      yield* committer.append(decided)
      yield* checkWhole(log, ["c1"])
    }).pipe(Effect.scoped)
  )
})

describe("EventLog in MongoDB: answers that do not come (F7)", () => {
  for (const times of [1, 2, 6, 7]) {
    it.live(`commits once when ${times} answers to the commit are lost`, () =>
      Effect.gen(function* () {
        const { log, proxy } = yield* proxied
        const committer = yield* LogCommitter.claim(log)
        proxy.lose("commitTransaction", times)
        yield* committer.commit([say(dm, "ann", "c1", "x"), say(dm, "bob", "c2", "y")])
        yield* committer.commit([say(dm, "ann", "c3", "x")])
        yield* checkWhole(log, ["c1", "c2", "c3"])
      }).pipe(Effect.scoped)
    )
  }

  it.live("appends once when the answers to the writes are lost", () =>
    Effect.gen(function* () {
      const { log, proxy } = yield* proxied
      const committer = yield* LogCommitter.claim(log)
      proxy.lose("bulkWrite", 3)
      yield* committer.commit([say(dm, "ann", "c1", "x")])
      yield* checkWhole(log, ["c1"])
    }).pipe(Effect.scoped)
  )

  it.live("finds its own commit also when another process has taken over since", () =>
    Effect.gen(function* () {
      const { log, proxy, url } = yield* proxied
      const committer = yield* LogCommitter.claim(log)
      const other = yield* openMongoLog(url)
      proxy.lose("commitTransaction", 6)
      const appending = yield* Effect.forkChild(committer.commit([say(dm, "ann", "c1", "x")]), {
        startImmediately: true
      })
      while ((yield* other.heads)[partition] === 0);
      yield* other.claim(PARTITIONS, "other")
      yield* Fiber.join(appending)
      yield* checkWhole(other, ["c1"])
    }).pipe(Effect.scoped)
  )
})

describe("EventLog in MongoDB: a committer that is stopped (F3)", () => {
  it.live("is taken over from at once, though it is within its transaction, and finds that out", () =>
    Effect.gen(function* () {
      const url = fresh()
      const log = yield* openMongoLog(url)
      const script = path.resolve(import.meta.dirname, "../support/mongo-appender.ts")
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, [script, url], { stdio: ["ignore", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const said: Array<string> = []
      const lines = createInterface({ input: child.stdout }).on("line", (line) => said.push(line))
      while ((yield* log.heads)[partition]! < 3);
      // Its commits arrive and wait: for longer than this test takes, if nobody ends them.
      yield* failing(100, { failCommands: ["commitTransaction"], blockConnection: true, blockTimeMS: 30_000 })
      yield* untilTransactionWaits
      child.kill("SIGSTOP")
      yield* Effect.promise(() => admin.db("admin").command({ configureFailPoint: "failCommand", mode: "off" }))
      const began = performance.now()
      const next = yield* LogCommitter.claim(log)
      assert.isBelow(performance.now() - began, 5_000)
      const position = next.heads.get(partition)!.position
      yield* next.commit([say(dm, "bob", "next", "x")])
      child.kill("SIGCONT")
      yield* Effect.promise(() => once(lines, "close"))
      const acked = said.slice(0, -1)
      assert.strictEqual(said.at(-1), "Fenced")
      assert.lengthOf(acked, position)
      yield* checkWhole(log, [...acked, "next"])
    }).pipe(Effect.scoped)
  )

  it.live("is taken over from at once, though it is within the transaction in which it claims", () =>
    Effect.gen(function* () {
      const { log: stopped, proxy, url } = yield* proxied
      // The heads do not name it before this arrives.
      proxy.hold("commitTransaction")
      const claiming = yield* Effect.forkChild(Effect.result(stopped.claim(PARTITIONS, "stopped")), {
        startImmediately: true
      })
      yield* untilTransactionWaits
      const log = yield* openMongoLog(url)
      const began = performance.now()
      const [head] = yield* log.claim([partition], "next")
      assert.isBelow(performance.now() - began, 5_000)
      assert.deepInclude(head, { position: 0, epoch: 1 })
      yield* Fiber.interrupt(claiming)
    }).pipe(Effect.scoped)
  )

  it.live("is taken over from while it is well and goes on writing", () =>
    Effect.gen(function* () {
      const url = fresh()
      const busy = yield* openMongoLog(url)
      const acked: Array<string> = []
      const hammering = yield* LogCommitter.claim(busy).pipe(
        Effect.flatMap((committer) =>
          Effect.forever(
            Effect.suspend(() => {
              const cid = `c${acked.length + 1}`
              return Effect.map(committer.commit([say(dm, "ann", cid, "x")]), () => void acked.push(cid))
            })
          )
        ),
        Effect.flip,
        Effect.forkChild({ startImmediately: true })
      )
      while (acked.length < 5) yield* Effect.yieldNow
      const log = yield* openMongoLog(url)
      const began = performance.now()
      yield* log.claim(PARTITIONS, "next")
      assert.isBelow(performance.now() - began, 5_000)
      assert.strictEqual((yield* Fiber.join(hammering))._tag, "Fenced")
      yield* checkWhole(log, acked)
      // It goes on with what it is given anew.
      const again = yield* LogCommitter.claim(busy)
      yield* again.commit([say(dm, "ann", "again", "x")])
      yield* checkWhole(log, [...acked, "again"])
    }).pipe(Effect.scoped)
  )

  it.live("is taken over from while a client holds its head and never comes back", () =>
    Effect.gen(function* () {
      const url = fresh()
      const log = yield* openMongoLog(url)
      yield* log.claim(PARTITIONS, "gone")
      const heads = dbOf(url).collection<{ _id: number; session: unknown }>("heads")
      const session = admin.startSession()
      yield* Effect.promise(() => heads.updateMany({}, { $set: { session: session.id!.id } }))
      session.startTransaction()
      yield* Effect.promise(() => heads.updateOne({ _id: partition }, { $set: { position: 77 } }, { session }))
      const [head] = yield* log.claim([partition], "next")
      assert.deepInclude(head, { position: 0, epoch: 2 })
      const exit = yield* Effect.promise(() =>
        session.commitTransaction().then(
          () => "committed",
          () => "ended"
        )
      )
      assert.strictEqual(exit, "ended")
      yield* Effect.promise(() => session.endSession())
    }).pipe(Effect.scoped)
  )
})

describe("EventLog in MongoDB: an append that nobody waits for any more", () => {
  it.live("is over when the next claim has answered, one way or the other", () =>
    Effect.gen(function* () {
      const log = yield* openMongoLog(fresh())
      const committer = yield* LogCommitter.claim(log)
      yield* committer.commit([say(dm, "ann", "c1", "x")])
      for (const command of ["bulkWrite", "commitTransaction"]) {
        const entered = yield* failing(1, { failCommands: [command], blockConnection: true, blockTimeMS: 400 })
        const decided = yield* committer.decide([say(dm, "ann", `${command}`, "x")])
        const appending = yield* Effect.forkChild(committer.append(decided), { startImmediately: true })
        yield* Effect.promise(() =>
          admin.db("admin").command({ waitForFailPoint: "failCommand", timesEntered: entered + 1, maxTimeMS: 10_000 })
        )
        yield* Fiber.interrupt(appending)
        const [head] = yield* log.claim([partition], "test")
        committer.heads.set(partition, head!)
        const before = yield* log.timeline(dm, { limit: 10, take: "oldest" })
        assert.strictEqual(before.length, head!.position)
        yield* committer.commit([say(dm, "ann", `after-${command}`, "x")])
        const after = yield* log.timeline(dm, { limit: 10, take: "oldest" })
        assert.deepStrictEqual(after.slice(0, -1), before)
      }
    }).pipe(Effect.scoped)
  )
})

describe("EventLog in MongoDB: the primary (F5)", () => {
  for (const [title, harm] of [
    [
      "steps down and comes back",
      (): Promise<unknown> => admin.db("admin").command({ replSetStepDown: 1, force: true })
    ],
    ["is killed and starts again", () => mongo.restart()]
  ] as const) {
    it.live(`${title} under load: nothing is lost, nothing twice`, () =>
      Effect.gen(function* () {
        const log = yield* openMongoLog(fresh())
        const cids = Array.from({ length: 120 }, (_, i) => `c${i}`)
        const acked: Array<string> = []
        const working = yield* Effect.forkChild(
          commitAll(
            log,
            cids.map((cid) => say(dm, "ann", cid, "x")),
            ({ cid }) => void acked.push(cid)
          ),
          { startImmediately: true }
        )
        while (acked.length < 20) yield* Effect.yieldNow
        yield* Effect.promise(harm)
        yield* Fiber.join(working)
        yield* checkWhole(log, cids)
      }).pipe(Effect.scoped)
    )
  }
})

describe("EventLog in MongoDB: everything at once", () => {
  it.live(
    "keeps what was acked, once and in order, while committers take partitions from one another and calls fail",
    () =>
      Effect.gen(function* () {
        const url = fresh()
        const calm = yield* openMongoLog(url)
        const convs = Array.from({ length: 40 }, (_, i) => dmConversation("ann", `u${i}`))
        const acked: Array<string> = []
        const data = (errorCode: number) => ({ failCommands: ["bulkWrite", "commitTransaction"], errorCode })
        const harm = Effect.gen(function* () {
          while (true) {
            for (const how of [data(112), data(251), data(91), { ...data(0), closeConnection: true }]) {
              yield* failing(2, how).pipe(Effect.scoped)
              yield* calm.claim([Math.floor(Math.random() * 16)], "passer-by").pipe(Effect.ignore)
            }
          }
        })
        const committer = Effect.fnUntraced(function* (name: string) {
          const proxy = yield* mongoProxy(mongo.port)
          const through = new URL(url)
          through.port = String(proxy.port)
          through.search = "directConnection=true"
          const log = yield* openMongoLog(through.toString())
          const claim = LogCommitter.claim(log, { owner: name }).pipe(Effect.retry({ times: 20 }))
          let current = yield* claim
          for (let n = 0; n < 5; n++) {
            if (n % 5 === 0) proxy.lose(n % 2 === 0 ? "commitTransaction" : "bulkWrite", 1 + (n % 8))
            const wishes = convs.map((conv) => say(conv, "ann", `${name}-${n}`, "x"))
            while (true) {
              const result = yield* Effect.result(current.commit([...wishes, mark(convs[n % 40]!, "ann", 1)]))
              if (result._tag === "Success") break
              current = yield* claim
            }
            acked.push(`${name}-${n}`)
          }
        }, Effect.scoped)
        yield* Effect.all([committer("a"), committer("b")], { concurrency: 2 }).pipe(Effect.raceFirst(harm))

        assert.lengthOf(acked, 10)
        const events = yield* everything(calm)
        const heads = yield* calm.heads
        const positions = new Array<number>(16).fill(0)
        for (const event of events) assert.strictEqual(event.position, ++positions[event.partition]!)
        assert.deepStrictEqual(heads, positions)
        for (const conv of convs) {
          const own = onlyTimeline(events.filter((event) => event.conv === conv))
          assert.deepStrictEqual(
            own.map(({ seq }) => seq),
            own.map((_, i) => i + 1)
          )
          const cids = own.map(({ cid }) => cid)
          assert.strictEqual(new Set(cids).size, cids.length)
          assert.includeMembers(cids, acked)
        }
        const entries = yield* calm.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 10_000 })
        assert.strictEqual(
          entries.reduce((sum, { from, to }) => sum + to - from + 1, 0),
          events.length
        )
      }).pipe(Effect.scoped)
  )
})
