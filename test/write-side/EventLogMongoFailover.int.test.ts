import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { randomBytes } from "node:crypto"
import { afterAll, beforeAll } from "vitest"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import { commitAll, everything, LogCommitter, onlyTimeline, say } from "../support/log-committer.ts"
import { openMongoLog } from "../support/mongo-log.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"

const dm = dmConversation("ann", "bob")
const partition = partitionOf(dm, 16)

let mongo: PrivateMongo
beforeAll(async () => {
  mongo = await privateMongo({ members: 3 })
})
afterAll(() => mongo.dispose())

/** Not taken apart as a URL, which may have one host only. */
const fresh = (): string => mongo.url.replace("/darda?", `/t${randomBytes(6).toString("hex")}?`)

describe("EventLog in MongoDB: a replica set of three", () => {
  for (const [title, harm] of [
    ["is killed", "kill9"],
    ["is stopped", "stop"]
  ] as const) {
    it.live(
      `goes on when its primary ${title}: nothing is lost, nothing twice`,
      () =>
        Effect.gen(function* () {
          const log = yield* openMongoLog(fresh())
          const cids = Array.from({ length: 25 }, (_, i) => `c${i}`)
          const acked: Array<string> = []
          const working = yield* Effect.forkChild(
            commitAll(
              log,
              cids.map((cid) => say(dm, "ann", cid, "x")),
              (wish) => void acked.push(wish.cid)
            ),
            { startImmediately: true }
          )
          while (acked.length < 15) yield* Effect.yieldNow
          const primary = yield* Effect.promise(() => mongo.primary())
          yield* Effect.promise(async () => primary[harm]())
          yield* Fiber.join(working)
          yield* Effect.promise(async () => (harm === "stop" ? primary.cont() : primary.restart()))
          const events = onlyTimeline(yield* everything(log))
          assert.deepStrictEqual(
            events.map(({ cid, position, seq }) => [cid, position, seq]),
            cids.map((cid, i) => [cid, i + 1, i + 1])
          )
        }).pipe(Effect.scoped),
      120_000
    )
  }

  it.live(
    "is not answered for by a primary that was replaced and does not know it",
    () =>
      Effect.gen(function* () {
        const url = fresh()
        const log = yield* openMongoLog(url)
        yield* (yield* LogCommitter.claim(log)).commit([say(dm, "ann", "c1", "x")])
        const old = yield* Effect.promise(() => mongo.primary())
        // The way to it alone, as of a process that is cut off from the others.
        const database = /[^/]*(?=\?)/.exec(url)![0]
        const cutOff = yield* openMongoLog(`mongodb://127.0.0.1:${old.port}/${database}?directConnection=true`)
        assert.strictEqual((yield* cutOff.heads)[partition], 1)
        old.stop()
        yield* commitAll(log, [say(dm, "ann", "c2", "x")], () => {})
        const asking = yield* Effect.forkChild(Effect.result(cutOff.heads), { startImmediately: true })
        old.cont()
        const heads = yield* Fiber.join(asking)
        if (heads._tag === "Success") assert.strictEqual(heads.success[partition], 2)
        else assert.strictEqual(heads.failure._tag, "LogUnavailable")
      }).pipe(Effect.scoped),
    120_000
  )
})
