import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { MongoClient } from "mongodb"
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { groupConversation } from "../../src/domain/groupId.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { keptSecret } from "../../src/write-side/EventLogMongo.ts"
import { freshMongoUrl } from "../support/engines.ts"
import { everything, LogCommitter, mark, plain, say } from "../support/log-committer.ts"
import { addressOf, openMongoLog } from "../support/mongo-log.ts"

const dm = dmConversation("ann", "bob")
const group = groupConversation("ann", "g1")

/** A client of the test's own, for what nobody does through the log. */
const rawDb = (url: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new MongoClient(url)),
      (client) => Effect.promise(() => client.close())
    ),
    (client) => client.db()
  )

const refused = Effect.fnUntraced(function* (url: string, partitions?: number) {
  return yield* Effect.flip(Effect.scoped(openMongoLog(url, partitions)))
})

describe("EventLog in MongoDB: opening", () => {
  it.live("finds everything again, under the same id", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const look = Effect.fnUntraced(function* (log: Effect.Success<ReturnType<typeof openMongoLog>>) {
        return { id: log.id, events: yield* everything(log), state: plain(yield* log.conversation(dm)) }
      })
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const log = yield* openMongoLog(url)
          const committer = yield* LogCommitter.claim(log)
          yield* committer.commit(Array.from({ length: 40 }, (_, i) => say(dm, "ann", `c${i}`, "hi")))
          return yield* look(log)
        })
      )
      const log = yield* openMongoLog(url)
      assert.deepStrictEqual(yield* look(log), first)
      const committer = yield* LogCommitter.claim(log)
      assert.lengthOf(yield* committer.commit([say(dm, "ann", "c7", "hi")]), 0)
    })
  )

  it.live("is made once by processes that start together, and works in each of them", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const script = path.resolve(import.meta.dirname, "../support/mongo-opener.ts")
      const started = yield* Effect.promise(() =>
        Promise.all(
          Array.from({ length: 5 }, (_, i) => promisify(execFile)(process.execPath, [script, url, `user${i}`]))
        )
      )
      const ids = new Set(started.map(({ stdout }) => stdout.trim()))
      assert.strictEqual(ids.size, 1)
      const log = yield* openMongoLog(url)
      assert.isTrue(ids.has(log.id))
      const db = yield* rawDb(url)
      const names = (yield* Effect.promise(() => db.listCollections().toArray())).map(({ name }) => name)
      assert.deepStrictEqual(names.sort(), ["conversations", "events", "heads", "members", "meta"])
      const indexes = yield* Effect.promise(() => db.collection("events").indexes())
      assert.includeMembers(
        indexes.flatMap(({ name, unique }) => (unique === true ? [name] : [])),
        ["conv_seq", "key"]
      )
      assert.strictEqual(yield* Effect.promise(() => db.collection("heads").countDocuments()), 16)
    })
  )

  it.live("waits for a process that is making the log, and goes on for one that died of it", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const meta = (yield* rawDb(url)).collection<{ _id: string }>("meta")
      const lease = new Date(Date.now() + 60_000)
      yield* Effect.promise(() => meta.insertOne({ _id: "migration", owner: "other", until: lease } as { _id: string }))
      const opening = yield* Effect.forkChild(openMongoLog(url), { startImmediately: true })
      // It has looked, and found another one at work.
      const db = yield* rawDb(url)
      yield* Effect.promise(async () => {
        while ((await db.command({ collStats: "meta" }))["ok"] !== 1);
      })
      assert.isUndefined(opening.pollUnsafe())
      yield* Effect.promise(() => meta.updateOne({ _id: "migration" }, { $set: { until: new Date() } }))
      const log = yield* Fiber.join(opening)
      assert.deepStrictEqual(yield* log.heads, new Array(16).fill(0))
    })
  )

  it.live("refuses another number of partitions", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      yield* Effect.scoped(openMongoLog(url))
      const error = yield* refused(url, 8)
      assert.deepInclude(error, { _tag: "LogUnusable", code: "other-partitions" })
      assert.match(error.message, /has 16 partitions, and PARTITIONS is 8.*PARTITIONS=16/)
    })
  )

  it.live("refuses a newer format", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      yield* Effect.scoped(openMongoLog(url))
      const meta = (yield* rawDb(url)).collection<{ _id: string }>("meta")
      yield* Effect.promise(() => meta.updateOne({ _id: "log" }, { $set: { format: 99 } }))
      const error = yield* refused(url)
      assert.deepInclude(error, { _tag: "LogUnusable", code: "newer" })
      assert.match(error.message, /has format 99; this Darda reads format 1/)
    })
  )

  it.live("refuses another program's database, and leaves it alone", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const db = yield* rawDb(url)
      yield* Effect.promise(() => db.collection("events").insertOne({ what: "party" }))
      const error = yield* refused(url)
      assert.deepInclude(error, { _tag: "LogUnusable", code: "foreign" })
      const names = (yield* Effect.promise(() => db.listCollections().toArray())).map(({ name }) => name)
      assert.deepStrictEqual(names, ["events"])
    })
  )

  it.live("says when MongoDB is away, and never the password", () =>
    Effect.gen(function* () {
      const away = yield* refused("mongodb://me:secret@127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=100")
      assert.strictEqual(away._tag, "LogUnavailable")
      assert.match(away.message, /MongoDB at mongodb:\/\/127\.0\.0\.1:1.*no primary was found.*ECONNREFUSED/)
      assert.notInclude(away.message, "secret")
      const bad = yield* refused("mongodb://me:sec/ret@127.0.0.1:27017/")
      assert.strictEqual(bad._tag, "LogUnusable")
      assert.notInclude(bad.message, "sec/ret")
    })
  )

  it.live("keeps one secret, whoever asks first", () =>
    Effect.gen(function* () {
      const address = addressOf(freshMongoUrl())
      const secrets = yield* Effect.all(
        Array.from({ length: 6 }, () => keptSecret(address)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(secrets).size, 1)
      assert.match(secrets[0]!, /^[0-9a-f]{64}$/)
      assert.strictEqual(yield* keptSecret(address), secrets[0])
    })
  )
})

describe("EventLog in MongoDB: what is in the database", () => {
  it.live("is refused by the server when it has another form", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      yield* openMongoLog(url)
      const db = yield* rawDb(url)
      const wrong: ReadonlyArray<readonly [string, object]> = [
        ["events", { _id: 1 }],
        ["events", { _id: "1", event: "[]" }],
        ["events", { _id: 1, event: "[]", conv: dm, seq: 0 }],
        ["events", { _id: 1, event: "[]", more: true }],
        ["heads", { _id: 99, position: 0 }],
        ["members", { _id: "x y", conv: "x", user: "y" }],
        ["conversations", { _id: "x", title: 7 }]
      ]
      for (const [collection, document] of wrong) {
        const code = yield* Effect.promise(() =>
          db
            .collection(collection)
            .insertOne(document)
            .then(
              () => 0,
              (cause: { code: number }) => cause.code
            )
        )
        assert.strictEqual(code, 121, JSON.stringify(document))
      }
    })
  )

  it.live("is found without reading what is not asked for", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const log = yield* openMongoLog(url)
      const committer = yield* LogCommitter.claim(log)
      yield* committer.commit([
        { conv: group, by: "ann", cid: "g", intent: { type: "create", members: ["bob", "cid"] } },
        ...Array.from({ length: 30 }, (_, i) => say(dmConversation("ann", `u${i}`), "ann", "c", "x"))
      ])
      for (let n = 0; n < 8; n++) {
        const said = Array.from({ length: 250 }, (_, i) => say(group, "ann", `${n}-${i}`, "x"))
        yield* committer.commit([...said, mark(group, "bob", n + 1)])
      }
      const react = { type: "react", target: 7, emoji: "👍", on: true } as const
      yield* committer.commit([{ conv: group, by: "bob", cid: "r", intent: react }])
      const db = yield* rawDb(url)
      yield* Effect.promise(() => db.setProfilingLevel("all"))
      const relevant = { ns: { $not: /system/ }, op: { $ne: "insert" } }
      const cost = Effect.fnUntraced(function* <E>(question: Effect.Effect<unknown, E>, most: number) {
        yield* Effect.promise(() => db.setProfilingLevel("off"))
        yield* Effect.promise(() => db.collection("system.profile").drop())
        yield* Effect.promise(() => db.setProfilingLevel("all"))
        yield* question
        const asked = yield* Effect.promise(() => db.collection("system.profile").find(relevant).toArray())
        assert.isNotEmpty(asked)
        for (const { command, docsExamined = 0, keysExamined = 0 } of asked) {
          assert.isAtMost(Math.max(docsExamined, keysExamined), most, JSON.stringify(command))
        }
      })
      const nothing = { conversations: [], cids: [], targets: [], openers: [], openedSince: 0 }
      const convs = Array.from({ length: 10 }, (_, i) => dmConversation("ann", `u${i}`))
      const log7 = yield* Effect.map(log.timeline(group, { limit: 1, take: "newest" }), ([event]) => event!.partition)
      yield* cost(log.prepare({ ...nothing, conversations: [group, ...convs] }), 50)
      yield* cost(log.prepare({ ...nothing, cids: convs.map((conv) => ({ conv, by: "ann", cid: "c" })) }), 30)
      yield* cost(log.prepare({ ...nothing, targets: [1, 500, 2_000].map((seq) => ({ conv: group, seq })) }), 12)
      yield* cost(log.prepare({ ...nothing, openers: ["ann", "bob"] }), 40)
      yield* cost(log.conversation(group), 8)
      yield* cost(log.memberships("ann", "", 10), 35)
      yield* cost(log.timeline(group, { before: 1_000, limit: 20, take: "newest" }), 21)
      yield* cost(log.amendments(group, [7, 8]), 6)
      yield* cost(log.read(log7, 1_000, 20), 22)
      yield* cost(log.heads, 17)
      yield* cost(log.outbox({ until: Date.now(), limit: 10 }), 16)
    })
  )
})

describe("EventLog in MongoDB: a batch", () => {
  it.live("may be larger than one command of MongoDB", () =>
    Effect.gen(function* () {
      const log = yield* openMongoLog(freshMongoUrl())
      const committer = yield* LogCommitter.claim(log)
      const body = "x".repeat(65_000)
      const events = yield* committer.commit(Array.from({ length: 400 }, (_, i) => say(dm, "ann", `c${i}`, body)))
      assert.lengthOf(events, 400)
      assert.strictEqual((yield* log.conversation(dm))?.seq, 400)
    })
  )

  it.live("is refused whole for one event, and everything else of it goes in without that", () =>
    Effect.gen(function* () {
      const log = yield* openMongoLog(freshMongoUrl())
      const committer = yield* LogCommitter.claim(log)
      yield* committer.commit([say(dm, "ann", "used", "x")])
      const wishes = Array.from({ length: 100 }, (_, i) => say(dm, "ann", i === 42 ? "used" : `c${i}`, `${i}`))
      const bad = yield* committer.decide(wishes.map((wish) => (wish.cid === "used" ? { ...wish, cid: "new" } : wish)))
      const runs = bad.append.runs.map((run) => ({
        ...run,
        events: run.events.map((event) => (event.cid === "new" ? { ...event, cid: "used" } : event))
      }))
      const error = yield* Effect.flip(log.append({ ...bad.append, runs, relayed: [], at: 1 }))
      assert.strictEqual(error._tag, "AlreadyInLog")
      assert.match(error._tag === "AlreadyInLog" ? error.detail : "", /cid of dm:ann:bob\/44 has been used/)
      assert.lengthOf(yield* everything(log), 1)
      // Decided on what the log holds, the one is a conflict, and the others are taken.
      const events = yield* committer.commit(wishes)
      assert.lengthOf(events, 99)
      assert.isFalse(events.some(({ cid }) => cid === "used"))
    })
  )

  it.live("of a committer that another process knows nothing of is taken by its epoch", () =>
    Effect.gen(function* () {
      const url = freshMongoUrl()
      const claimer = yield* openMongoLog(url)
      const [head] = yield* claimer.claim([3], "x")
      const move = (log: typeof claimer, edge: string) =>
        log.append({
          runs: [{ partition: 3, epoch: head!.epoch, position: 0, events: [], counters: { [edge]: 1 } }],
          conversations: [],
          members: [],
          relayed: [],
          at: 1
        })
      const other = yield* openMongoLog(url)
      yield* move(other, "a.b$c")
      yield* move(claimer, "%")
      const [again] = yield* claimer.claim([3], "x")
      assert.deepStrictEqual(again!.counters, { "a.b$c": 1, "%": 1 })
      assert.strictEqual((yield* Effect.flip(move(other, "d")))._tag, "Fenced")
    })
  )
})
