import { assert, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { dmConversation } from "../../src/domain/ids.ts"
import { makeCommandPublisher } from "../../src/write-side/CommandPublisher.ts"

const command = (cid: string) => ({
  conv: dmConversation("ann", "bob"),
  by: "ann",
  cid,
  intent: { type: "send", kind: "text", body: "hello" } as const,
  origin: { node: "n", session: "s" }
})

it.live("a bug with one batch is logged, and does not end the publishing of its partition", () =>
  Effect.gen(function* () {
    const lines: Array<unknown> = []
    const logger = Logger.make(({ message }) => void lines.push(...(message as ReadonlyArray<unknown>)))
    yield* Effect.gen(function* () {
      const published: Array<string> = []
      const publisher = yield* makeCommandPublisher({
        edge: "e",
        partitions: 1,
        publish: ({ commands }) => Effect.sync(() => void published.push(...commands.map(({ cid }) => cid)))
      })
      yield* publisher.onSent(({ commands }) => {
        if (commands[0]!.cid === "c1") throw new Error("a bug")
      })
      for (const cid of ["c1", "c2", "c3"]) {
        assert.isTrue(publisher.offer(command(cid)))
        while (!published.includes(cid)) yield* Effect.yieldNow
      }
      assert.deepStrictEqual(published, ["c1", "c2", "c3"])
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
    assert.match(lines.join("\n"), /publishing commands of partition 0 failed by a bug/)
  })
)

it.live("what comes within a turn of the event loop is one batch", () =>
  Effect.gen(function* () {
    const batches: Array<ReadonlyArray<string>> = []
    const publisher = yield* makeCommandPublisher({
      edge: "e",
      partitions: 1,
      publish: ({ commands }) => Effect.sync(() => void batches.push(commands.map(({ cid }) => cid)))
    })
    // The publisher waits by now.
    yield* Effect.yieldNow
    for (const cid of ["c1", "c2", "c3"]) assert.isTrue(publisher.offer(command(cid)))
    while (batches.flat().length < 3) yield* Effect.yieldNow
    assert.deepStrictEqual(batches, [["c1", "c2", "c3"]])
  }).pipe(Effect.scoped)
)
