import { assert, it } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import fc from "fast-check"
import * as path from "node:path"
import type { Intent } from "../../src/domain/commands.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { layerMongo } from "../../src/write-side/EventLogMongo.ts"
import { layerSqlite } from "../../src/write-side/EventLogSqlite.ts"
import { freshMongoUrl } from "../support/engines.ts"
import { everything, LogCommitter, plain, type Wish } from "../support/log-committer.ts"
import { temporaryFolder } from "../support/log-folder.ts"
import { addressOf } from "../support/mongo-log.ts"

const PARTITIONS = 3
const users = ["ann", "bob", "cid"]
const convs = [
  dmConversation("ann", "bob"),
  dmConversation("ann", "ann"),
  "g:00000000-0000-8000-8000-000000000001",
  "g:00000000-0000-8000-8000-000000000002"
]

const someUsers = fc.subarray(users)
const target = fc.integer({ min: 1, max: 70 })
const message: fc.Arbitrary<Intent> = fc.record({
  type: fc.constant("send"),
  kind: fc.constant("text"),
  body: fc.string()
})
const intent: fc.Arbitrary<Intent> = fc.oneof(
  { weight: 6, arbitrary: message },
  fc.record({ type: fc.constant("create"), members: someUsers }),
  fc.record({ type: fc.constant("edit"), target, body: fc.string() }),
  fc.record({ type: fc.constant("delete"), target }),
  fc.record({ type: fc.constant("react"), target, emoji: fc.constant("👍"), on: fc.boolean() }),
  someUsers.chain((add) => fc.record({ type: fc.constant("members"), add: fc.constant(add), remove: fc.constant([]) })),
  fc.record({ type: fc.constant("leave") }),
  fc.record({ type: fc.constant("title"), title: fc.string({ minLength: 1 }) }),
  fc.record({ type: fc.constant("mark"), seen: target })
)
const command: fc.Arbitrary<Wish> = fc
  .record({
    conv: fc.constantFrom(...convs),
    by: fc.constantFrom(...users),
    cid: fc.integer({ min: 0, max: 400 }),
    intent
  })
  .map((wish) => ({ ...wish, cid: wish.intent.type === "mark" ? "" : `c${wish.cid}` }))
const commits = fc.array(fc.array(command, { minLength: 1, maxLength: 60 }), { minLength: 1, maxLength: 12 })

/** All that can be asked of a log. */
const answers = Effect.fnUntraced(function* (log: EventLog["Service"]) {
  const prepared = yield* log.prepare({
    conversations: convs,
    cids: convs.flatMap((conv) =>
      users.flatMap((by) => Array.from({ length: 401 }, (_, i) => ({ conv, by, cid: `c${i}` })))
    ),
    targets: convs.flatMap((conv) => Array.from({ length: 80 }, (_, seq) => ({ conv, seq }))),
    openers: users,
    openedSince: 3
  })
  return {
    heads: yield* log.heads,
    events: yield* everything(log),
    outbox: yield* log.outbox({ until: 1_000, limit: 1_000 }),
    prepared: { ...prepared, conversations: prepared.conversations.map(plain) },
    timelines: yield* Effect.forEach(convs, (conv) =>
      log.timeline(conv, { after: 20, before: 90, limit: 50, take: "newest" })
    ),
    amendments: yield* Effect.forEach(convs, (conv) => log.amendments(conv, [1, 2, 3, 40, 60])),
    memberships: yield* Effect.forEach(users, (user) => log.memberships(user, "", 100)),
    claimed: yield* log.claim([0, 1, 2], "next")
  }
})

/** What this log answers after these commits. */
const answersOf = (log: Layer.Layer<EventLog, unknown>, batches: ReadonlyArray<ReadonlyArray<Wish>>) =>
  Effect.flatMap(Layer.build(log), (context) =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const committer = yield* LogCommitter.claim(log, { edge: "edge" })
      let at = 0
      for (const wishes of batches) yield* committer.commit(wishes, { at: ++at })
      return yield* answers(log)
    }).pipe(Effect.provide(context))
  )

const sameAsMemory = (
  name: string,
  numRuns: number,
  fresh: Effect.Effect<Layer.Layer<EventLog, unknown>, never, Scope.Scope>
): void => {
  it.live(`memory and ${name} answer the same after any history`, () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(commits, (batches) =>
          Effect.runPromise(
            Effect.scoped(
              Effect.gen(function* () {
                const memory = yield* answersOf(layerMemory(makeMemoryLog(PARTITIONS)), batches)
                assert.deepStrictEqual(yield* answersOf(yield* fresh, batches), memory)
              })
            )
          )
        ),
        { numRuns }
      )
    )
  )
}

sameAsMemory(
  "SQLite",
  25,
  Effect.map(temporaryFolder, (folder) =>
    Layer.fresh(layerSqlite({ file: path.join(folder, "log.sqlite"), partitions: PARTITIONS }))
  )
)
sameAsMemory(
  "MongoDB",
  10,
  Effect.sync(() => Layer.fresh(layerMongo({ address: addressOf(freshMongoUrl()), partitions: PARTITIONS })))
)
