import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { decodeCursor } from "../../src/edge/cursor.ts"
import { Edge } from "../../src/edge/Edge.ts"
import { connectRedis } from "../../src/platform/RedisConnection.ts"
import { layerRedis } from "../../src/platform/RouterRedis.ts"
import { Router } from "../../src/platform/Router.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { layer as layerQueries } from "../../src/read-side/QueriesLive.ts"
import { layerMemory as layerReadModels, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as layerCommands, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { runCommitter } from "../../src/write-side/Committer.ts"
import { layerMemory as layerEvents, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as layerLog, makeMemoryLog, type MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { Relay } from "../../src/write-side/Relay.ts"
import { redisServer } from "../support/redis-server.ts"
import { trusting } from "../support/trusting.ts"

const PARTITIONS = 4
const LIMITS = { perSecond: 1e6, burst: 1e6, inFlight: 1e6, bodyChars: 1000, userConnections: 5 }
/** With ann, bob and cat one more than a group may have that is not big. */
const CROWD = Array.from({ length: 198 }, (_, i) => `user${i}`)

type Given = Readonly<Record<string, unknown>>

/** A connection that is never closed. */
class Device {
  readonly user: string
  readonly wrong: Array<string> = []
  readonly answers = new Map<string, Given>()
  welcomed = false
  gone = false
  /** The last seq of the conversation. */
  last = 0
  readonly #log: MemoryLog
  readonly #receive: (text: string) => void
  #commands = 0

  constructor(edge: Edge["Service"], user: string, log: MemoryLog) {
    this.user = user
    this.#log = log
    const connection = edge.connect({
      write: (frames, done) => {
        for (const { payload } of frames) this.#got(JSON.parse(payload.toString()) as Given)
        setImmediate(done)
      },
      ping: () => connection.pong(),
      close: ({ code, reason }) => void this.wrong.push(`closed with ${code} ${reason}`),
      pause: () => {},
      resume: () => {}
    })
    this.#receive = (text) => connection.receive(text)
    this.#receive(JSON.stringify({ t: "hello", v: 1, token: user, device: user }))
  }

  say(frame: Given): string {
    const cid = `${this.user}-${++this.#commands}`
    this.#receive(JSON.stringify({ cid, ...(frame["t"] === "send" ? {} : { rid: cid }), ...frame }))
    return cid
  }

  #got(frame: Given): void {
    if (frame["t"] === "welcome") this.welcomed = true
    if (frame["t"] === "gone") this.gone = true
    if (typeof frame["rid"] === "string") this.answers.set(frame["rid"], frame)
    if (frame["t"] === "cursor") this.#covered(String(frame["cursor"]))
    if (typeof frame["seq"] !== "number" || frame["t"] === "receipt") return
    if (this.last !== 0 && frame["seq"] !== this.last + 1) this.wrong.push(`${frame["seq"]} came after ${this.last}`)
    this.last = frame["seq"]
  }

  /** What a cursor covers of what came after the first that was given has been given, as long as it is theirs. */
  #covered(cursor: string): void {
    if (this.gone) return
    decodeCursor(this.#log.id, PARTITIONS, cursor)!.forEach((position, partition) => {
      for (const { seq } of this.#log.read(partition, 0, position))
        if (this.last > 0 && seq > this.last) this.wrong.push(`a cursor covers ${seq}, and ${this.last} was given`)
    })
  }
}

const within = (ms: number, what: string, is: () => boolean) =>
  Effect.gen(function* () {
    while (!is()) yield* Effect.sleep("10 millis")
  }).pipe(Effect.timeoutOrElse({ duration: ms, orElse: () => Effect.die(new Error(`${what}: not within ${ms} ms`)) }))

describe("a big conversation on two edges over Redis", () => {
  it.live("is whole for everybody while people come and go, and when Redis forgets everything", () =>
    Effect.gen(function* () {
      const { address } = yield* redisServer()
      const redis = yield* connectRedis({ address, name: "test" })
      const log = makeMemoryLog(PARTITIONS)
      const broker = makeMemoryBroker(PARTITIONS)
      const shared = yield* Layer.build(
        Layer.mergeAll(
          layerLog(log),
          layerEvents(makeMemoryEventBus()),
          layerReadModels(makeReadModelsEngine(PARTITIONS))
        )
      )
      const engines = (node: string, edge: boolean) =>
        Layer.mergeAll(layerRedis({ address, scope: "big", node, edge }), layerCommands(broker, node)).pipe(
          Layer.provideMerge(Layer.succeedContext(shared))
        )
      const writer = yield* Layer.build(
        Layer.mergeAll(Relay.layer, Projector.layer).pipe(Layer.provideMerge(engines("w1", false)))
      )
      const router = yield* Effect.gen(function* () {
        yield* Effect.forkScoped((yield* Relay).run)
        yield* Effect.forkScoped((yield* Projector).run)
        yield* Effect.forkScoped(Effect.scoped(runCommitter({ owner: "w1", newDmsPerHour: 1e6 })))
        return yield* Router
      }).pipe(Effect.provide(writer))
      const [n1, n2] = yield* Effect.forEach(["n1", "n2"], (node) =>
        Effect.gen(function* () {
          const { edge } = yield* Effect.provide(
            Effect.all({ edge: Edge }),
            yield* Layer.build(
              Edge.layer(LIMITS).pipe(
                Layer.provide(Layer.mergeAll(layerQueries, LogHeads.layer, trusting)),
                Layer.provide(engines(node, true)),
                Layer.fresh
              )
            )
          )
          yield* Effect.forkScoped(edge.run)
          return edge
        })
      )

      const ann = new Device(n1!, "ann", log)
      const bob = new Device(n2!, "bob", log)
      const cat = new Device(n2!, "cat", log)
      const devices = [ann, bob, cat]
      yield* within(5_000, "welcome", () => devices.every(({ welcomed }) => welcomed))
      const created = ann.say({ t: "create", members: [...CROWD, "bob"] })
      yield* within(5_000, "the group", () => ann.answers.has(created))
      const conv = String(ann.answers.get(created)!["conv"])
      const head = (): number => log.conversation(conv)?.seq ?? 0
      const talk = (bodies: number): void => {
        for (let i = 0; i < bodies; i++) ann.say({ t: "send", conv, body: "hello" })
      }
      const all = (...who: ReadonlyArray<Device>) =>
        within(6_000, "everything", () => who.every(({ last }) => last === head()) && head() > 1)

      // It becomes big, with somebody new, and goes on in the same moment.
      talk(3)
      ann.say({ t: "members", conv, add: ["cat"] })
      talk(3)
      yield* within(5_000, "persisted", () => head() === 8)
      yield* all(ann, bob, cat)
      const interested = Effect.map(router.routes([conv]), (routes) => [...routes.keys()].sort())
      assert.deepStrictEqual(yield* interested, ["n1", "n2"])

      // Everything is lost while they talk.
      yield* redis.run("flush", (client) => client.flushall())
      for (let round = 0; round < 40; round++) {
        talk(2)
        yield* Effect.sleep("25 millis")
      }
      yield* within(5_000, "persisted", () => head() === 88)
      yield* all(ann, bob, cat)

      assert.deepStrictEqual(yield* interested, ["n1", "n2"])

      // Cat is removed, by which it is not big any more; what follows is for the others.
      ann.say({ t: "members", conv, remove: ["cat"] })
      talk(3)
      yield* within(5_000, "persisted", () => head() === 92)
      yield* all(ann, bob)
      assert.strictEqual(cat.last, 89)
      yield* Effect.gen(function* () {
        while ((yield* interested).length > 0) yield* Effect.sleep("10 millis")
      }).pipe(Effect.timeout("5 seconds"))
      for (const device of devices) assert.deepStrictEqual(device.wrong, [], device.user)
    })
  )
})
