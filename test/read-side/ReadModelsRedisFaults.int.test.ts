import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Schedule } from "effect"
import type { ConversationId } from "../../src/domain/ids.ts"
import type { StoredEvent } from "../../src/domain/events.ts"
import { zeroVector } from "../../src/domain/partition.ts"
import { replay } from "../../src/read-side/replay.ts"
import { verify } from "../../src/read-side/verify.ts"
import { makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { dump, dumpOf } from "../contract/ReadModels.properties.ts"
import { type History, historyOf } from "../support/histories.ts"
import { appender } from "../support/historyLog.ts"
import { openReadSide, type ReadSide } from "../support/redis-read-side.ts"
import { keptOf } from "../support/redis-read-models.ts"
import { redisServer } from "../support/redis-server.ts"
import { referenceMessages } from "../support/readReference.ts"

const PARTITIONS = 4
const quiet = Effect.provide(Logger.layer([]))

const eventually = <A, E>(effect: Effect.Effect<A, E>, seconds = 20) =>
  Effect.retry(effect, Schedule.spaced("10 millis").pipe(Schedule.upTo({ duration: `${seconds} seconds` })))

const heads = (history: History) => history.logs.map((log) => log.length)

/** Waits until everything is there, by whoever applies it. */
const caughtUp = ({ projector, readModels }: ReadSide, history: History) =>
  eventually(
    Effect.andThen(
      projector.catchUp,
      Effect.filterOrFail(
        readModels.checkpoints,
        (found) => found.every((position, partition) => position === history.logs[partition]!.length),
        () => "behind"
      )
    )
  )

/** Appends a history bit by bit, and gives each bit to the buses of these processes. */
const feed = Effect.fnUntraced(function* (history: History, sides: ReadonlyArray<ReadSide>) {
  const append = yield* appender(sides[0]!.log)
  let at = 0
  const seqs = new Map<ConversationId, number>()
  const vector = [...zeroVector(PARTITIONS)]
  return {
    /** What was committed last of every conversation, and the positions. */
    seqs,
    vector: () => [...vector],
    more: Effect.fnUntraced(function* (count: number) {
      const events: ReadonlyArray<StoredEvent> = history.events.slice(at, (at += count))
      if (events.length === 0) return false
      yield* append(events)
      for (const event of events) {
        vector[event.partition] = event.position
        if (event.type !== "marked") seqs.set(event.conv, event.seq)
        for (const { bus } of sides) bus.publish({ partition: event.partition, events: [event] })
      }
      return true
    })
  }
})

/** I14: asks for every conversation, including all that was committed, and judges each answer. */
const askAll = Effect.fnUntraced(function* (
  { queries }: ReadSide,
  {
    seqs,
    vector
  }: { readonly seqs: ReadonlyMap<ConversationId, number>; readonly vector: () => ReadonlyArray<number> },
  history: History
) {
  const user = (conv: ConversationId) => history.users.find((user) => conv.includes(user))!
  for (const [conv, seq] of [...seqs]) {
    if (!conv.startsWith("dm:")) continue
    const atLeast = vector()
    const page = yield* queries.history(user(conv), { conv, limit: 200 }, atLeast)
    assert.isAtLeast(page.head, seq)
    const told = page.messages.map((message) => message.seq)
    const all = referenceMessages(history, conv).map((message) => message.seq)
    const upTo = all.filter((one) => one <= page.head)
    assert.deepStrictEqual(told, upTo.slice(-told.length))
    assert.isTrue(told.length === 200 || told.length === upTo.length)
  }
  for (const name of history.users) {
    const missed = yield* queries.missed({ user: name, since: undefined, seqs: {}, barrier: vector() })
    const mine = [...seqs.keys()].filter((conv) => conv.startsWith("dm:") && conv.split(":").includes(name))
    for (const conv of mine)
      assert.isTrue(
        missed.some((entry) => entry.conv === conv),
        `${name} ${conv}`
      )
  }
})

describe("F15: read models in a Redis that fails", () => {
  it.live(
    "FLUSHALL at any moment: nobody is answered less than was acked, and all is rebuilt",
    () =>
      Effect.gen(function* () {
        const server = yield* redisServer()
        const history = historyOf(71, 4_000, { partitions: PARTITIONS, users: 3 })
        const log = makeMemoryLog(PARTITIONS)
        const side = yield* openReadSide({ address: server.address, log })
        const killer = yield* openReadSide({ address: server.address, log, scope: "killer" })
        const fed = yield* feed(history, [side])
        yield* Effect.forkScoped(side.projector.run)
        const flushing = yield* killer.redis
          .run("flush", (client) => client.flushall())
          .pipe(Effect.ignore, Effect.delay("70 millis"), Effect.forever, Effect.forkChild)
        let n = 0
        while (yield* fed.more(60)) if (n++ % 10 === 0) yield* askAll(side, fed, history)
        for (let i = 0; i < 3; i++) yield* askAll(side, fed, history)
        yield* Fiber.interrupt(flushing)
        yield* caughtUp(side, history)
        assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history))
      }).pipe(quiet),
    120_000
  )

  it.live(
    "kill -9 and a new one that is empty: the log answers meanwhile, and all is rebuilt",
    () =>
      Effect.gen(function* () {
        const server = yield* redisServer()
        const history = historyOf(72, 2_000, { partitions: PARTITIONS, users: 3 })
        const side = yield* openReadSide({ address: server.address, log: makeMemoryLog(PARTITIONS) })
        const fed = yield* feed(history, [side])
        yield* Effect.forkScoped(side.projector.run)
        for (let round = 0; round < 3; round++) {
          yield* fed.more(300)
          yield* askAll(side, fed, history)
          yield* server.kill
          yield* fed.more(100)
          yield* askAll(side, fed, history)
          yield* server.start
          yield* askAll(side, fed, history)
        }
        while (yield* fed.more(200)) yield* askAll(side, fed, history)
        yield* caughtUp(side, history)
        assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history))
      }).pipe(quiet),
    120_000
  )

  it.live(
    "SIGSTOP: the log answers within the time-outs, and it goes on afterwards",
    () =>
      Effect.gen(function* () {
        const server = yield* redisServer()
        const history = historyOf(73, 1_000, { partitions: PARTITIONS, users: 3 })
        const side = yield* openReadSide({ address: server.address, log: makeMemoryLog(PARTITIONS) })
        const fed = yield* feed(history, [side])
        yield* Effect.forkScoped(side.projector.run)
        yield* fed.more(300)
        yield* askAll(side, fed, history)
        server.pause()
        yield* fed.more(100)
        const conv = [...fed.seqs.keys()].find((conv) => conv.startsWith("dm:"))!
        const started = performance.now()
        const user = history.users.find((user) => conv.includes(user))!
        const page = yield* side.queries.history(user, { conv, limit: 5 }, fed.vector())
        assert.strictEqual(page.head, fed.seqs.get(conv))
        assert.isBelow(performance.now() - started, 3_000)
        while (side.redis.isReady()) yield* Effect.sleep("10 millis")
        const later = performance.now()
        yield* side.queries.history(user, { conv, limit: 5 }, fed.vector())
        assert.isBelow(performance.now() - later, 500)
        server.resume()
        while (yield* fed.more(200)) yield* askAll(side, fed, history)
        yield* caughtUp(side, history)
        assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history))
      }).pipe(quiet),
    120_000
  )

  it.live(
    "a full Redis refuses whole scripts: the log answers, and when there is room everything is right",
    () =>
      Effect.gen(function* () {
        const server = yield* redisServer("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
        const history = historyOf(74, 6_000, { partitions: PARTITIONS, users: 3 })
        const side = yield* openReadSide({ address: server.address, log: makeMemoryLog(PARTITIONS) })
        const fed = yield* feed(history, [side])
        const projecting = yield* Effect.forkScoped(side.projector.run)
        let n = 0
        while (yield* fed.more(100)) if (n++ % 10 === 0) yield* askAll(side, fed, history)
        yield* askAll(side, fed, history)
        yield* Fiber.interrupt(projecting)
        const error = yield* Effect.flip(side.projector.catchUp)
        assert.include(error.message, "OOM")
        const checkpoints = yield* side.readModels.checkpoints
        assert.notDeepEqual(checkpoints, heads(history))
        yield* side.redis.run("config", (client) => client.config("SET", "maxmemory", "0"))
        assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history, checkpoints))
        assert.deepStrictEqual(yield* side.projector.catchUp, heads(history))
        assert.deepStrictEqual(yield* dump(side.readModels), keptOf(history))
      }).pipe(quiet),
    120_000
  )

  it.live(
    "two projectors that are both given everything, rebuilds and FLUSHALL at once corrupt nothing",
    () =>
      Effect.gen(function* () {
        const server = yield* redisServer()
        const history = historyOf(75, 5_000, { partitions: PARTITIONS, users: 3 })
        const log = makeMemoryLog(PARTITIONS)
        const open = openReadSide({ address: server.address, log })
        const [one, two, builder] = [yield* open, yield* open, yield* open] as const
        const fed = yield* feed(history, [one, two])
        yield* Effect.forkScoped(one.projector.run)
        yield* Effect.forkScoped(two.projector.run)
        let rebuilt = 0
        const building = yield* replay(builder).pipe(
          Effect.tap(() => Effect.sync(() => void rebuilt++)),
          Effect.exit,
          Effect.forever,
          Effect.forkChild
        )
        const flushing = yield* builder.redis
          .run("flush", (client) => client.flushall())
          .pipe(Effect.ignore, Effect.delay("400 millis"), Effect.forever, Effect.forkChild)
        let n = 0
        while (yield* fed.more(25)) {
          // What it holds is right at any moment, however far it is.
          if (n++ % 20 === 0) {
            const { rows, vector } = yield* Effect.scoped(
              Effect.gen(function* () {
                const snapshot = yield* two.readModels.snapshot
                return { vector: snapshot.checkpoints, rows: yield* dumpOf(snapshot, 500) }
              })
            ).pipe(Effect.orElseSucceed(() => ({ vector: undefined, rows: [] })))
            if (vector !== undefined) assert.deepStrictEqual(rows, keptOf(history, vector))
          }
        }
        yield* Fiber.interrupt(flushing)
        while (rebuilt === 0) yield* Effect.sleep("10 millis")
        yield* Fiber.interrupt(building)
        yield* caughtUp(one, history)
        assert.deepStrictEqual(yield* dump(two.readModels), keptOf(history))
        assert.strictEqual((yield* verify(one)).differing, 0)
      }).pipe(quiet),
    120_000
  )
})
