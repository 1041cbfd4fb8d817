import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Edge, layerHub } from "../../src/edge/Edge.ts"
import { Hub } from "../../src/edge/Hub.ts"
import { Router } from "../../src/platform/Router.ts"
import { makeMemoryRouting } from "../../src/platform/RouterMemory.ts"
import { layer as layerQueries } from "../../src/read-side/QueriesLive.ts"
import { layerMemory as layerReadModels, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as layerCommands, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { trusting } from "../support/trusting.ts"

const LIMITS = { perSecond: 100, burst: 100, inFlight: 100, bodyChars: 1000, userConnections: 5 }

type Frame = Record<string, unknown>

/** An edge whose commands nobody decides, and which may lose its stream. */
const scene = Effect.gen(function* () {
  const routing = makeMemoryRouting(() => 0)
  const log = makeMemoryLog(1)
  const shared = Layer.mergeAll(
    layerLog(log),
    layerCommands(makeMemoryBroker(1), "boot"),
    layerReadModels(makeReadModelsEngine(1)),
    Layer.sync(Router, () => routing.join("n1"))
  )
  const context = yield* Layer.build(
    layerHub.pipe(
      Layer.provideMerge(Edge.layer(LIMITS)),
      Layer.provideMerge(Layer.mergeAll(layerQueries, LogHeads.layer, trusting)),
      Layer.provideMerge(shared)
    )
  )
  const { edge, hub } = yield* Effect.provide(Effect.all({ edge: Edge, hub: Hub }), context)
  yield* Effect.forkScoped(edge.run)
  const connect = Effect.fnUntraced(function* (user: string) {
    const got: Array<Frame> = []
    const connection = edge.connect({
      write: (frames, done) => {
        for (const { payload } of frames) got.push(JSON.parse(payload.toString()) as Frame)
        done()
      },
      ping: () => connection.pong(),
      close: ({ code }) => void got.push({ t: "closed", code }),
      pause: () => {},
      resume: () => {}
    })
    const say = (frame: Frame): void => connection.receive(JSON.stringify(frame))
    say({ t: "hello", v: 1, token: user, device: user })
    yield* TestClock.adjust("1 second")
    assert.strictEqual(got.shift()?.["t"], "welcome")
    return { got, say }
  })
  const lose = Effect.sync(() => {
    routing.lose("n1")
    routing.found("n1")
  })
  return { connect, hub, lose }
})

describe("after a loss of the node's stream", () => {
  it.effect("a command whose answer may be lost is answered soon, and not before that", () =>
    Effect.gen(function* () {
      const { connect, lose } = yield* scene
      const ann = yield* connect("ann")
      ann.say({ t: "send", cid: "c1", to: "bob", body: "hello" })
      yield* lose
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ann.got, [])
      ann.say({ t: "send", cid: "c2", to: "bob", body: "hello again" })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(
        ann.got.map(({ cid, code, t }) => ({ cid, code, t })),
        [{ cid: "c1", code: "unavailable", t: "err" }]
      )
    })
  )

  it.effect("so is a request over HTTP", () =>
    Effect.gen(function* () {
      const { hub, lose } = yield* scene
      const refused = yield* Effect.forkChild(
        Effect.flip(
          hub.request({
            conv: "dm:ann:bob",
            by: "ann",
            cid: "c1",
            intent: { type: "send", kind: "text", body: "hello" }
          })
        ),
        { startImmediately: true }
      )
      yield* lose
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(refused.pollUnsafe())
      yield* TestClock.adjust("3 seconds")
      const exit = refused.pollUnsafe()
      assert.strictEqual(exit?._tag === "Success" ? exit.value.code : undefined, "unavailable")
    })
  )

  it.effect("those who follow a user's events without a place to go on from are told", () =>
    Effect.gen(function* () {
      const { hub, lose } = yield* scene
      let told = 0
      const stop = yield* hub.listen(
        "ann",
        () => {},
        () => void told++
      )
      yield* lose
      yield* TestClock.adjust("1 second")
      yield* stop
      yield* lose
      yield* TestClock.adjust("1 second")
      assert.strictEqual(told, 1)
    })
  )
})
