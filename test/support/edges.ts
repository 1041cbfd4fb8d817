import { Clock, Effect, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Edge, layerHub } from "../../src/edge/Edge.ts"
import { Hub } from "../../src/edge/Hub.ts"
import type { Node } from "../../src/edge/Node.ts"
import { makeMemoryRouting, type MemoryRouting } from "../../src/platform/RouterMemory.ts"
import { Router } from "../../src/platform/Router.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { Queries } from "../../src/read-side/Queries.ts"
import { layer as layerQueries } from "../../src/read-side/QueriesLive.ts"
import { layerMemory as layerReadModels, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as layerCommands, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { runCommitter } from "../../src/write-side/Committer.ts"
import { layerMemory as layerEvents, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { Relay } from "../../src/write-side/Relay.ts"
import { trusting } from "./trusting.ts"

export type Given = Readonly<Record<string, unknown>>

const PARTITIONS = 4
const LIMITS = { perSecond: 1e6, burst: 1e6, inFlight: 1e6, bodyChars: 1000, userConnections: 20 }

/** One connection, as a client has it: everything that it was given, in order. */
export interface Device {
  readonly user: string
  readonly got: ReadonlyArray<Given>
  /** What it was given of this kind. */
  readonly of: (t: string) => ReadonlyArray<Given>
  readonly say: (frame: Given) => void
  /** Says it, lets time pass, and answers what came back for its `rid` or `cid`. */
  readonly ask: (frame: Given) => Effect.Effect<Given>
  /** Forgets what it was given. */
  readonly clear: () => void
  readonly leave: () => void
  /** The socket takes nothing more, until it is told to again. */
  readonly stall: () => void
  readonly flow: () => void
}

export interface Edges {
  readonly nodes: ReadonlyArray<{ readonly node: Node; readonly hub: Hub["Service"]; readonly name: string }>
  readonly routing: MemoryRouting
  /** A connection at this edge, which was welcomed. */
  readonly connect: (user: string, edge?: number, hello?: Given) => Effect.Effect<Device>
  /** A group of these users, the first of whom makes it. */
  readonly group: (by: Device, members: ReadonlyArray<string>) => Effect.Effect<string>
}

let rids = 0

/** Some edges and one of everything else in this process, on engines in memory, under the test's clock. */
export const edges = Effect.fnUntraced(function* (
  count: number,
  /** What the edges ask, in the place of what would answer them. */
  asked: (queries: Queries["Service"]) => Queries["Service"] = (queries) => queries
): Effect.fn.Return<Edges, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const routing = makeMemoryRouting(() => clock.currentTimeMillisUnsafe())
  const broker = makeMemoryBroker(PARTITIONS)
  const engines = Layer.mergeAll(
    layerLog(makeMemoryLog(PARTITIONS)),
    layerEvents(makeMemoryEventBus()),
    layerReadModels(makeReadModelsEngine(PARTITIONS))
  )
  const shared = yield* Layer.build(engines)
  const writer = yield* Layer.build(
    Layer.mergeAll(Relay.layer, Projector.layer).pipe(
      Layer.provideMerge(Layer.sync(Router, () => routing.join("w1"))),
      Layer.provideMerge(layerCommands(broker, "w1")),
      Layer.provideMerge(Layer.succeedContext(shared))
    )
  )
  routing.leave("w1")
  yield* Effect.gen(function* () {
    yield* Effect.forkScoped((yield* Relay).run)
    yield* Effect.forkScoped((yield* Projector).run)
    yield* Effect.forkScoped(Effect.scoped(runCommitter({ owner: "w1", newDmsPerHour: 1e6 })))
  }).pipe(Effect.provide(writer))

  const queries = Layer.effect(Queries, Effect.map(Queries, asked)).pipe(Layer.provide(layerQueries))
  const nodes: Array<{ readonly edge: Edge["Service"]; readonly hub: Hub["Service"]; readonly name: string }> = []
  for (let i = 0; i < count; i++) {
    const name = `n${i}`
    const context = yield* Layer.build(
      layerHub.pipe(
        Layer.provideMerge(Edge.layer(LIMITS)),
        Layer.provideMerge(Layer.mergeAll(queries, LogHeads.layer, trusting)),
        Layer.provideMerge(Layer.sync(Router, () => routing.join(name))),
        Layer.provideMerge(layerCommands(broker, name)),
        Layer.provideMerge(Layer.succeedContext(shared)),
        Layer.fresh
      )
    )
    const made = yield* Effect.provide(Effect.all({ edge: Edge, hub: Hub }), context)
    yield* Effect.forkScoped(made.edge.run)
    nodes.push({ ...made, name })
  }

  const connect: Edges["connect"] = Effect.fnUntraced(function* (user, edge = 0, hello = {}) {
    const got: Array<Given> = []
    let stalled = false
    let waiting: (() => void) | undefined
    const connection = nodes[edge]!.edge.connect({
      write: (frames, done) => {
        for (const { payload } of frames) got.push(JSON.parse(payload.toString()) as Given)
        if (stalled) waiting = done
        else queueMicrotask(done)
      },
      ping: () => connection.pong(),
      close: ({ code }) => {
        got.push({ t: "closed", code })
        connection.ended()
      },
      pause: () => {},
      resume: () => {}
    })
    const say = (frame: Given): void => connection.receive(JSON.stringify(frame))
    say({ t: "hello", v: 1, token: user, device: user, ...hello })
    while (got.length === 0) yield* TestClock.adjust("10 millis")
    if (got[0]!["t"] !== "welcome") throw new Error(`${user} was not welcomed: ${JSON.stringify(got)}`)
    got.shift()
    return {
      user,
      got,
      of: (t) => got.filter((frame) => frame["t"] === t),
      say,
      ask: Effect.fnUntraced(function* (frame) {
        const name = `${++rids}`
        const from = got.length
        say({ rid: name, ...(frame["t"] === "create" || frame["t"] === "members" ? { cid: name } : {}), ...frame })
        for (;;) {
          const answer = got.slice(from).find(({ rid }) => rid === (frame["rid"] ?? name))
          if (answer !== undefined) return answer
          yield* TestClock.adjust("10 millis")
        }
      }),
      clear: () => void got.splice(0),
      leave: () => connection.ended(),
      stall: () => void (stalled = true),
      flow: () => {
        stalled = false
        waiting?.()
      }
    }
  })
  return {
    nodes: nodes.map(({ edge, hub, name }) => ({ node: edge.node, hub, name })),
    routing,
    connect,
    group: (by, members) =>
      Effect.map(by.ask({ t: "create", members }), (reply) => {
        if (reply["t"] !== "reply") throw new Error(JSON.stringify(reply))
        return reply["conv"] as string
      })
  }
})
