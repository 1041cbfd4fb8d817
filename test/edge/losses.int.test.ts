import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { dmConversation } from "../../src/domain/ids.ts"
import { decodeCursor } from "../../src/edge/cursor.ts"
import { Edge } from "../../src/edge/Edge.ts"
import type { Transport } from "../../src/edge/Transport.ts"
import { connectRedis, type RedisConnection } from "../../src/platform/RedisConnection.ts"
import { layerRedis } from "../../src/platform/RouterRedis.ts"
import { layer as layerQueries } from "../../src/read-side/QueriesLive.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { layerMemory as layerReadModels, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { layerMemory as layerCommands, makeMemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { runCommitter } from "../../src/write-side/Committer.ts"
import { layerMemory as layerEvents, makeMemoryEventBus } from "../../src/write-side/EventBusMemory.ts"
import { layerMemory as layerLog, makeMemoryLog, type MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { LogHeads } from "../../src/write-side/EventLog.ts"
import { Relay } from "../../src/write-side/Relay.ts"
import { type Proxy, tcpProxy } from "../support/proxy.ts"
import { redisAddress, redisServer, type RedisServer } from "../support/redis-server.ts"
import { trusting } from "../support/trusting.ts"

const PARTITIONS = 4
const USERS = Array.from({ length: 20 }, (_, i) => `user${String(i).padStart(2, "0")}`)
const LIMITS = { perSecond: 1e6, burst: 1e6, inFlight: 1e6, bodyChars: 1000, userConnections: 5 }

/** A connection that is never closed, and what it was given. */
class Client {
  readonly user: string
  /** The last seq, by conversation. */
  readonly given = new Map<string, number>()
  readonly answered = new Set<string>()
  readonly wrong: Array<string> = []
  welcomed = false
  #log: MemoryLog
  #sends = 0
  #receive: ((text: string) => void) | undefined

  constructor(user: string, log: MemoryLog) {
    this.user = user
    this.#log = log
  }

  readonly transport: Transport = {
    write: (frames, done) => {
      for (const { payload } of frames) this.#got(JSON.parse(payload.toString()) as Record<string, unknown>)
      setImmediate(done)
    },
    ping: () => this.#receive?.(`{"t":"ping"}`),
    close: ({ code, reason }) => void this.wrong.push(`closed with ${code} ${reason}`),
    pause: () => {},
    resume: () => {}
  }

  connect(receive: (text: string) => void): void {
    this.#receive = receive
    receive(JSON.stringify({ t: "hello", v: 1, token: this.user, device: this.user }))
  }

  send(to: string): string {
    const cid = `${this.user}-${++this.#sends}`
    this.#receive!(JSON.stringify({ t: "send", cid, to, body: "hello" }))
    return cid
  }

  #got(frame: Record<string, unknown>): void {
    const { conv, seq } = frame as { conv: string; seq: number }
    switch (frame["t"]) {
      case "welcome":
        this.welcomed = true
        return
      case "ack":
        this.answered.add(String(frame["cid"]))
        if (frame["dup"] !== true) this.#next(conv, seq)
        return
      case "event":
        return this.#next(conv, seq)
      case "err":
        if (frame["code"] !== "unavailable") this.wrong.push(JSON.stringify(frame))
        // As a client does: it sends it again.
        else this.#receive!(JSON.stringify({ t: "send", cid: frame["cid"], to: partnerOf(this.user), body: "hello" }))
        return
      case "cursor":
        return this.#covered(String(frame["cursor"]))
      default:
        if (frame["t"] !== "pong") this.wrong.push(JSON.stringify(frame))
    }
  }

  #next(conv: string, seq: number): void {
    const last = this.given.get(conv) ?? 0
    if (seq !== last + 1) this.wrong.push(`${conv}: ${seq} came after ${last}`)
    this.given.set(conv, seq)
  }

  /** What a cursor covers has been given. */
  #covered(cursor: string): void {
    const vector = decodeCursor(this.#log.id, PARTITIONS, cursor)!
    vector.forEach((position, partition) => {
      for (const event of this.#log.read(partition, 0, position)) {
        if (event.conv.includes(this.user) && event.seq > (this.given.get(event.conv) ?? 0))
          this.wrong.push(`a cursor covers ${event.conv} ${event.seq}, and ${this.given.get(event.conv)} was given`)
      }
    })
  }
}

/** Everyone talks to one other. */
const partnerOf = (user: string): string => USERS[USERS.indexOf(user) ^ 1]!

interface Scene {
  readonly server: RedisServer
  readonly proxy: Proxy
  readonly redis: RedisConnection
}

/** People talk while this happens; afterwards all of them have everything within five seconds, on the connections they had. */
const survives = (name: string, fault: (scene: Scene) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () =>
    Effect.gen(function* () {
      const server = yield* redisServer()
      const proxy = yield* tcpProxy(server.port)
      const redis = yield* connectRedis({ address: server.address, name: "test" })
      const log = makeMemoryLog(PARTITIONS)
      const shared = Layer.mergeAll(
        layerLog(log),
        layerEvents(makeMemoryEventBus()),
        layerCommands(makeMemoryBroker(PARTITIONS), "boot"),
        layerReadModels(makeReadModelsEngine(PARTITIONS))
      )
      const router = (node: string, port: number) =>
        layerRedis({ address: redisAddress(`redis://127.0.0.1:${port}`), scope: "losses", node, edge: node === "n1" })
      const edgeLayer = Edge.layer(LIMITS).pipe(
        Layer.provide(Layer.mergeAll(layerQueries, LogHeads.layer, trusting)),
        Layer.provide(router("n1", proxy.port))
      )
      const writeLayer = Layer.mergeAll(Relay.layer, Projector.layer).pipe(Layer.provide(router("w1", server.port)))
      const run = Effect.gen(function* () {
        const edge = yield* Edge
        const relay = yield* Relay
        const projector = yield* Projector
        for (const work of [
          edge.run,
          relay.run,
          projector.run,
          Effect.scoped(runCommitter({ owner: "w1", newDmsPerHour: 1e6 }))
        ])
          yield* Effect.forkScoped(work)

        const clients = USERS.map((user) => new Client(user, log))
        for (const client of clients) {
          const connection = edge.connect(client.transport)
          client.connect((text) => connection.receive(text))
        }
        const sent = new Map(clients.map((client) => [client, [] as Array<string>]))
        const talk = (rounds: number) =>
          Effect.gen(function* () {
            for (let round = 0; round < rounds; round++) {
              for (const client of clients) sent.get(client)!.push(client.send(partnerOf(client.user)))
              yield* Effect.sleep("20 millis")
            }
          })
        /** Whether somebody does not have all of their conversation yet. */
        const behind = (): string | undefined => {
          for (const client of clients) {
            const conv = dmConversation(client.user, partnerOf(client.user))
            const head = log.conversation(conv)?.seq ?? 0
            if (client.given.get(conv) !== head) return `${client.user} has ${client.given.get(conv)} of ${head}`
          }
          return undefined
        }
        /** Whether somebody does not know yet what became of what they sent. */
        const unanswered = (): string | undefined => {
          for (const client of clients) {
            const waits = sent.get(client)!.filter((cid) => !client.answered.has(cid))
            if (waits.length > 0) return `${client.user} has no answer to ${waits.length}`
          }
          return undefined
        }
        const within = (ms: number, reason: () => string | undefined) =>
          Effect.gen(function* () {
            while (reason() !== undefined) yield* Effect.sleep("10 millis")
          }).pipe(
            Effect.timeoutOrElse({
              duration: ms,
              orElse: () => Effect.die(new Error(`${reason()} after ${ms} ms`))
            })
          )

        while (!clients.every((client) => client.welcomed)) yield* Effect.sleep("10 millis")
        yield* talk(10)
        yield* within(10_000, () => unanswered() ?? behind())
        const talking = yield* Effect.forkScoped(talk(100))
        yield* fault({ server, proxy, redis })
        const healed = Date.now()
        while (talking.pollUnsafe() === undefined) yield* Effect.sleep("10 millis")
        yield* within(Math.max(1_000, 5_000 - (Date.now() - healed)), behind)
        yield* within(10_000, () => unanswered() ?? behind())
        for (const client of clients) assert.deepStrictEqual(client.wrong, [], client.user)
      })
      yield* run.pipe(Effect.provide(Layer.merge(edgeLayer, writeLayer).pipe(Layer.provideMerge(shared))))
    })
  )

const command = ({ redis }: Scene, ...[name, ...args]: readonly [string, ...ReadonlyArray<string>]) =>
  Effect.asVoid(redis.run(name, (client) => client.call(name, ...args)))

describe("connections keep everything when Redis does not", () => {
  survives("when it is flushed", (scene) => command(scene, "FLUSHALL"))
  survives("when it is flushed again and again", (scene) =>
    Effect.repeat(command(scene, "FLUSHALL").pipe(Effect.delay("350 millis")), { times: 4 })
  )
  survives("when connections are killed", (scene) =>
    Effect.andThen(
      command(scene, "CLIENT", "KILL", "TYPE", "normal"),
      command(scene, "CLIENT", "KILL", "TYPE", "pubsub")
    )
  )
  survives("when it is killed, and comes back with nothing", ({ server }) => Effect.andThen(server.kill, server.start))
  survives("when it stands still for three seconds", ({ server }) =>
    Effect.sync(server.pause).pipe(
      Effect.andThen(Effect.sleep("3 seconds")),
      Effect.andThen(Effect.sync(server.resume))
    )
  )
  survives("when the edge cannot reach it for three seconds", ({ proxy }) =>
    Effect.sync(proxy.swallow).pipe(Effect.andThen(Effect.sleep("3 seconds")), Effect.andThen(Effect.sync(proxy.heal)))
  )
})
