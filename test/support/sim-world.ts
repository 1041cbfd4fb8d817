import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { Edge } from "../../src/edge/Edge.ts"
import { atLeast } from "../../src/domain/partition.ts"
import { makeMemoryRouting, type MemoryRouting } from "../../src/platform/RouterMemory.ts"
import { Router } from "../../src/platform/Router.ts"
import { Projector } from "../../src/read-side/Projector.ts"
import { layer as queriesLayer } from "../../src/read-side/QueriesLive.ts"
import { ReadModels, type ReadModelsUnavailable, type Shadow } from "../../src/read-side/ReadModels.ts"
import {
  layerMemory as readModelsLayer,
  makeReadModelsEngine,
  type ReadModelsEngine
} from "../../src/read-side/ReadModelsMemory.ts"
import { CommandBus, type CommandConsumer, type Delivery } from "../../src/write-side/CommandBus.ts"
import { makeMemoryBroker, type MemoryBroker } from "../../src/write-side/CommandBusMemory.ts"
import { makeCommandPublisher } from "../../src/write-side/CommandPublisher.ts"
import { runCommitter } from "../../src/write-side/Committer.ts"
import { EventBus } from "../../src/write-side/EventBus.ts"
import {
  layerMemory as eventBusLayer,
  makeMemoryEventBus,
  type MemoryEventBus
} from "../../src/write-side/EventBusMemory.ts"
import { EventLog, LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as logLayer, makeMemoryLog, type MemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { Relay } from "../../src/write-side/Relay.ts"
import { replay } from "../../src/read-side/replay.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { Observer } from "./sim-observer.ts"
import { type Fault, Interference } from "./sim-handles.ts"
import { Loop, makeRandom, type Process, type Random } from "./sim-loop.ts"
import type { Server } from "./sim-client.ts"
import { trusting } from "./trusting.ts"

/** What a world consists of. */
export interface WorldOptions {
  readonly seed: number
  readonly partitions: number
  readonly writers: number
  readonly edges: number
  /** All roles and all engines but the log and the read models are in one process, and die with it. */
  readonly embedded: boolean
  /** How long a message is on its way at most, in milliseconds, most of the time. */
  readonly latency: number
  readonly faults: ReadonlyArray<Fault>
}

type Role = "writer" | "edge" | "reader" | "server"

/** A place where a process runs, is started again when it dies, and is never two at once. */
interface Place {
  readonly role: Role
  readonly index: number
  boots: number
  process: Process | undefined
  server: Server | undefined
  /** Rebuilds the read models beside the live ones. */
  rebuild: (() => void) | undefined
  /** Sends its clients away and ends. */
  drain: (() => void) | undefined
}

const service = <I, S>(layer: Layer.Layer<I>, tag: Context.Key<I, S>): S =>
  Effect.runSync(Effect.scoped(Effect.map(Layer.build(layer), (context) => Context.get(context, tag))))

/** Engines that outlive processes, and processes that do not. */
export class World {
  readonly random: Random
  readonly loop: Loop
  readonly engines: Process
  readonly interference: Interference
  readonly log: MemoryLog
  readonly models: ReadModelsEngine
  /** Anything that no process should do: it failed in a way that nobody foresaw. */
  readonly defects: Array<string> = []
  routing: MemoryRouting
  broker: MemoryBroker
  events: MemoryEventBus
  readonly observer: Observer
  /** Frames written to sockets. */
  written = 0
  /** Whether processes that die are started again by themselves. */
  restarting = true
  readonly #options: WorldOptions
  readonly #places: Array<Place> = []
  /** In the order in which the broker knows them. */
  readonly #consumers = new Set<CommandConsumer>()

  constructor(options: WorldOptions) {
    this.#options = options
    this.random = makeRandom(options.seed)
    this.loop = new Loop(this.random)
    this.engines = this.loop.process("engines")
    this.interference = new Interference(this.loop, this.engines, options.faults, options.latency)
    this.log = makeMemoryLog(options.partitions)
    this.models = makeReadModelsEngine(options.partitions)
    this.observer = new Observer(this.log, this.models, () => this.loop.now)
    this.routing = makeMemoryRouting(() => this.loop.now)
    this.broker = makeMemoryBroker(options.partitions)
    this.events = makeMemoryEventBus()
    const roles: ReadonlyArray<readonly [Role, number]> = options.embedded
      ? [["server", 1]]
      : [
          ["writer", options.writers],
          ["reader", 1],
          ["edge", options.edges]
        ]
    for (const [role, count] of roles) {
      for (let index = 0; index < count; index++) {
        const place: Place = {
          role,
          index,
          boots: 0,
          process: undefined,
          server: undefined,
          rebuild: undefined,
          drain: undefined
        }
        this.#places.push(place)
        this.#start(place)
      }
    }
  }

  places(role?: Role): ReadonlyArray<Place> {
    return role === undefined
      ? this.#places
      : this.#places.filter((place) => place.role === role || place.role === "server")
  }

  /** An edge that takes connections now. */
  readonly server = (): Server | undefined => {
    const servers = this.places("edge").flatMap((place) => place.server ?? [])
    return servers.length === 0 ? undefined : this.random.pick(servers)
  }

  /** Takes the commands away from whoever consumes them, as a broker does that lost sight of it; it learns of that later. */
  handOver(): void {
    const active = [...this.#consumers][0]
    this.broker.cancelActive()
    if (active instanceof ConsumerHandle)
      this.loop.after(this.random.below(5000), this.engines, () => active.cancelled())
  }

  /**
   * The next committer that is about to commit stands still for so long, just before its transaction, and loses its commands to another one
   * meanwhile.
   */
  usurp(ms: number): void {
    this.interference.ambush = (process, op) => {
      if (op !== "log.append") return
      this.interference.ambush = undefined
      this.interference.freeze(process, ms)
      this.handOver()
    }
  }

  /** Has an edge send its clients away and end. */
  drain(index: number): void {
    const places = this.places("edge")
    places[index % places.length]!.drain?.()
  }

  /** Forgets an edge's routes and stream, as a flushed Redis does; the edge learns of that some time later. */
  loseStream(index: number): void {
    const places = this.places("edge")
    const name = places[index % places.length]!.process?.name
    if (name === undefined) return
    const { routing } = this
    routing.lose(name)
    this.loop.after(this.random.below(1500), this.engines, () => routing.found(name))
  }

  /** Has a reader rebuild the read models while everything goes on. */
  rebuild(): void {
    this.places("reader")[0]?.rebuild?.()
  }

  /** Empties the read models, as a flushed cache or a deleted file does. Until they are where they were they say that they cannot answer. */
  resetModels(): void {
    const before = this.models.progress.current()
    this.models.store = makeMemoryStore(this.log.partitions)
    this.models.progress.set(this.models.store.checkpoints())
    this.models.intercept = (operation) => {
      const asked = operation !== "apply" && operation !== "checkpoints" && operation !== "reached"
      return asked && !atLeast(this.models.progress.current(), before)
        ? Effect.fail(this.interference.error(`models.${operation}`) as ReadModelsUnavailable)
        : Effect.void
    }
  }

  #start(place: Place): void {
    if (place.role === "server") {
      this.routing = makeMemoryRouting(() => this.loop.now)
      this.broker = makeMemoryBroker(this.#options.partitions)
      this.events = makeMemoryEventBus()
      this.#consumers.clear()
    }
    const process = this.loop.process(`${place.role}-${place.index}.${++place.boots}`, this.random.pick(SKEWS))
    place.process = process
    process.onKill.add(() => this.#died(place, process))
    const fiber = process.run(this.#program(place, process))
    fiber.addObserver((exit) => this.#ended(process, exit))
  }

  #ended(process: Process, exit: Exit.Exit<unknown, unknown>): void {
    if (!process.alive) return
    if (exit._tag === "Failure") this.defects.push(`${process.name}: ${Cause.pretty(exit.cause)}`)
    process.kill()
  }

  #died(place: Place, process: Process): void {
    place.process = undefined
    place.server = undefined
    place.rebuild = undefined
    place.drain = undefined
    // Its lease runs out some time later, and something starts it again.
    this.loop.after(this.random.below(3000), this.engines, () => this.routing.leave(process.name))
    const again = (): void => {
      if (this.restarting) this.#start(place)
      else this.loop.after(1000, this.engines, again)
    }
    this.loop.after(200 + this.random.below(2000), this.engines, again)
  }

  #log(process: Process) {
    return Layer.succeed(
      EventLog,
      this.interference.wrap(process, "log", this.observer.log(service(logLayer(this.log), EventLog)))
    )
  }

  #router(process: Process, keep: boolean) {
    const router = this.observer.router(this.routing.join(process.name))
    // Nobody follows the stream of a process without clients.
    if (!keep) this.routing.leave(process.name)
    return Layer.succeed(Router, this.interference.wrap(process, "router", router))
  }

  #events(process: Process) {
    const events = this.observer.events(service(eventBusLayer(this.events), EventBus))
    return Layer.succeed(EventBus, this.interference.wrap(process, "events", events))
  }

  #models(process: Process) {
    const models = service(readModelsLayer(this.models), ReadModels)
    const handle = this.interference.wrap(process, "models", models, (result) =>
      isShadow(result) ? this.interference.wrap(process, "shadow", result) : result
    )
    return Layer.succeed(ReadModels, handle)
  }

  #commands(process: Process) {
    const { partitions } = this.#options
    const consumers: Set<CommandConsumer> = this.#consumers
    const broker = this.interference.wrap(process, "commands", this.broker, (result) =>
      isConsumer(result) ? this.#consumer(process, result) : result
    )
    return Layer.effect(
      CommandBus,
      Effect.gen(function* () {
        const publisher = yield* makeCommandPublisher({ edge: process.name, partitions, publish: broker.publish })
        const consumer = Effect.tap(broker.consumer, (handle) =>
          Effect.addFinalizer(() => Effect.sync(() => consumers.delete(handle)))
        )
        return CommandBus.of({ ...publisher, consumer })
      })
    )
  }

  #consumer(process: Process, consumer: CommandConsumer): CommandConsumer {
    const handle = new ConsumerHandle(this.interference, process, consumer)
    this.#consumers.add(handle)
    process.onKill.add(() => this.#consumers.delete(handle))
    handle.onCancelled = () => this.#consumers.delete(handle)
    return handle
  }

  #engines(process: Process, hasClients: boolean) {
    return Layer.mergeAll(
      this.#log(process),
      this.#events(process),
      this.#router(process, hasClients),
      this.#commands(process),
      this.#models(process)
    )
  }

  #program(place: Place, process: Process): Effect.Effect<unknown, unknown> {
    const hasClients = place.role === "edge" || place.role === "server"
    const all = this.#engines(process, hasClients)
    switch (place.role) {
      case "writer":
        return write(process).pipe(Effect.provide(Relay.layer.pipe(Layer.provideMerge(all))), Effect.scoped)
      case "reader":
        return read(place, process).pipe(Effect.provide(Projector.layer.pipe(Layer.provideMerge(all))), Effect.scoped)
      case "edge":
        return serve(place, process).pipe(Effect.provide(edgeLayer.pipe(Layer.provideMerge(all))), Effect.scoped)
      case "server":
        return Effect.all([write(process), read(place, process), serve(place, process)], {
          concurrency: "unbounded"
        }).pipe(
          Effect.provide(Layer.mergeAll(Relay.layer, Projector.layer, edgeLayer).pipe(Layer.provideMerge(all))),
          Effect.scoped
        )
    }
  }
}

const write = (process: Process) =>
  Effect.gen(function* () {
    const relay = yield* Relay
    const committer = Effect.scoped(runCommitter({ owner: process.name, newDmsPerHour: 60 })).pipe(
      Effect.retry(Schedule.spaced("200 millis"))
    )
    return yield* Effect.all([relay.run, committer], { concurrency: "unbounded" })
  })

const read = (place: Place, process: Process) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const readModels = yield* ReadModels
    place.rebuild = () => void process.run(Effect.scoped(Effect.exit(replay({ log, readModels }))))
    return yield* (yield* Projector).run
  })

const serve = (place: Place, process: Process) =>
  Effect.gen(function* () {
    const edge = yield* Edge
    place.server = {
      process,
      accept: (socket) =>
        process.post(() => {
          const connection = edge.connect(socket.transport)
          socket.attach(connection)
        })
    }
    place.drain = () => {
      place.server = undefined
      place.drain = undefined
      process.run(
        Effect.andThen(
          edge.drain(DRAIN_SECONDS),
          Effect.sync(() => process.kill())
        )
      )
    }
    return yield* edge.run
  })

/** How long an edge that is drained may take. */
const DRAIN_SECONDS = 4
/** What clocks are off by. */
const SKEWS = [0, 0, 0, 800, -800]

/** Small enough to be reached, large enough not to be in the way. */
const LIMITS = { perSecond: 20, burst: 100, inFlight: 40, bodyChars: 1000, userConnections: 5 }

const edgeLayer = Edge.layer(LIMITS).pipe(
  Layer.provide(queriesLayer),
  Layer.provide(LogHeads.layer),
  Layer.provide(trusting)
)

const isConsumer = (result: unknown): result is CommandConsumer =>
  typeof result === "object" && result !== null && "restart" in result

const isShadow = (result: unknown): result is Shadow =>
  typeof result === "object" && result !== null && "replaceLive" in result

/** A process's end of its consumer: what the broker cancels fails here, and the acks of a dead process reach nobody. */
class ConsumerHandle implements CommandConsumer {
  readonly take: CommandConsumer["take"]
  readonly restart: CommandConsumer["restart"]
  onCancelled: (() => void) | undefined
  readonly #waiting = new Set<() => void>()
  #cancelled = false

  constructor(interference: Interference, process: Process, consumer: CommandConsumer) {
    const inner = interference.wrap(process, "commands", consumer)
    const lost = () => interference.error("commands.take") as never
    this.restart = inner.restart
    this.take = (max) =>
      Effect.raceFirst(
        Effect.map(inner.take(max), (deliveries) =>
          deliveries.map((delivery) => acked(interference, process, delivery))
        ),
        Effect.callback<never, never>((resume) => {
          if (this.#cancelled) return resume(Effect.fail(lost()))
          const fail = (): void => process.post(() => resume(Effect.fail(lost())))
          this.#waiting.add(fail)
          return Effect.sync(() => void this.#waiting.delete(fail))
        })
      )
  }

  cancelled(): void {
    this.#cancelled = true
    this.onCancelled?.()
    for (const fail of [...this.#waiting]) fail()
  }
}

const acked = (interference: Interference, process: Process, delivery: Delivery): Delivery => ({
  batch: delivery.batch,
  ack: () => {
    if (process.alive && interference.fault("commands.ack") === undefined) delivery.ack()
  }
})
