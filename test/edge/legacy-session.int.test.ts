import { assert, it } from "@effect/vitest"
import { Deferred, Effect, FiberSet } from "effect"
import type { Hub, Persisted } from "../../src/edge/Hub.ts"
import { legacySession } from "../../src/edge/legacy/Session.ts"

/** A session on a hub whose log answers when the test lets it. */
const open = Effect.fnUntraced(function* (limits: {
  readonly perSecond: number
  readonly burst: number
  readonly inFlight: number
}) {
  const log: Array<string> = []
  const answers: Array<Deferred.Deferred<Persisted>> = []
  let now = 0
  const hub: Pick<Hub["Service"], "listen" | "request"> = {
    listen: () => Effect.succeed(Effect.sync(() => log.push("unlistened"))),
    request: ({ cid }) =>
      Effect.suspend(() => {
        log.push(cid)
        const answer = Deferred.makeUnsafe<Persisted>()
        answers.push(answer)
        return Deferred.await(answer)
      })
  }
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const session = yield* legacySession({
    user: "ann",
    hub,
    limits: { ...limits, bodyChars: 100 },
    now: () => now,
    fork: (effect) => void fork(effect),
    socket: {
      send: () => {},
      close: (code) => log.push(`close ${code}`),
      pause: () => log.push("pause"),
      resume: () => log.push("resume")
    }
  })
  const say = (id: string) =>
    session.receive(
      JSON.stringify({ type: "Message", content: { sender: "ann", destination: "bob", content: "hi", id } })
    )
  return { log, answers, session, say, pass: (millis: number) => (now += millis) }
})

it.effect("a legacy session stops reading while the log is behind, and goes on when it answers", () =>
  Effect.gen(function* () {
    const { answers, log, say, session } = yield* open({ perSecond: 100, burst: 100, inFlight: 2 })
    say("a")
    say("b")
    // What was read from the socket before it stopped still comes.
    say("c")
    assert.deepStrictEqual(log, ["a", "pause", "b", "c"])
    for (const answer of answers)
      Deferred.doneUnsafe(answer, Effect.succeed({ conv: "dm:ann:bob", seq: 1, at: 1, dup: false }))
    while (!log.includes("resume")) yield* Effect.yieldNow
    yield* session.end
    assert.deepStrictEqual(log.slice(4), ["resume", "unlistened"])
  }).pipe(Effect.scoped)
)

it.effect("a legacy session that is too fast loses what is over its rate, and is closed when it keeps on", () =>
  Effect.gen(function* () {
    const { log, pass, say } = yield* open({ perSecond: 1, burst: 2, inFlight: 100 })
    for (const id of ["a", "b", "c"]) say(id)
    assert.deepStrictEqual(log, ["a", "b"])
    for (let i = 0; i < 110; i++) {
      pass(100)
      say(`x${i}`)
    }
    assert.include(log, "close 4029")
  }).pipe(Effect.scoped)
)
