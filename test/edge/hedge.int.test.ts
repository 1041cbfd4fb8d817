import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Edge } from "../../src/edge/Edge.ts"
import { layerMemory as layerRouter } from "../../src/platform/RouterMemory.ts"
import { layer as layerQueries } from "../../src/read-side/QueriesLive.ts"
import { layerMemory as layerReadModels, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as layerCommands, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { trusting } from "../support/trusting.ts"

const PARTITIONS = 4
const LIMITS = { perSecond: 1e6, burst: 1e6, inFlight: 1e6, bodyChars: 1000, userConnections: 5 }

const edge = Edge.layer(LIMITS, 250).pipe(
  Layer.provide(Layer.mergeAll(layerQueries, LogHeads.layer, trusting)),
  Layer.provide(
    Layer.mergeAll(
      layerLog(makeMemoryLog(PARTITIONS)),
      layerCommands(makeMemoryBroker(PARTITIONS), "boot"),
      layerReadModels(makeReadModelsEngine(PARTITIONS)),
      layerRouter("n1")
    )
  )
)

it.effect("where nobody commits, a send is sent and a request is unavailable, both in time", () =>
  Effect.gen(function* () {
    const { connect, run } = yield* Edge
    yield* Effect.forkScoped(run)
    const given: Array<Record<string, unknown>> = []
    const connection = connect({
      write: (frames, done) => {
        given.push(...frames.map(({ payload }) => JSON.parse(payload.toString()) as Record<string, unknown>))
        done()
      },
      ping: () => connection.receive(`{"t":"ping"}`),
      close: () => {},
      pause: () => {},
      resume: () => {}
    })
    connection.receive(`{"t":"hello","v":1,"token":"ann","device":"phone"}`)
    yield* TestClock.adjust("1 second")
    connection.receive(`{"t":"send","cid":"c1","to":"bob","body":"hello"}`)
    connection.receive(`{"t":"create","cid":"c2","rid":"r2","members":["bob"]}`)
    const answers = (): ReadonlyArray<unknown> =>
      given
        .filter(({ t }) => t === "ack" || t === "err" || t === "reply")
        .map(({ cid, code, state }) => [cid, state ?? code])
    yield* TestClock.adjust("20 seconds")
    assert.deepStrictEqual(answers(), [["c1", "sent"]])
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(answers(), [
      ["c1", "sent"],
      ["c2", "unavailable"]
    ])
  }).pipe(Effect.provide(edge), Effect.scoped)
)
