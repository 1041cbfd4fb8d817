import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { RouterUnavailable } from "../../src/platform/Router.ts"
import { ReadModelsUnavailable } from "../../src/read-side/ReadModels.ts"
import { CommandBusUnavailable } from "../../src/write-side/CommandBus.ts"
import { EventBusUnavailable } from "../../src/write-side/EventBus.ts"
import { LogUnavailable } from "../../src/write-side/EventLog.ts"
import type { Loop, Process } from "./sim-loop.ts"

/**
 * What can happen to one call of an engine: it fails and was not done; it is done and the answer is lost; it is done twice; it is done late; the
 * process dies before it or after it; the process stands still for a while, before or after.
 */
export type FaultKind =
  | "fail"
  | "lose-reply"
  | "repeat"
  | "delay"
  | "crash-before"
  | "crash-after"
  | "freeze-before"
  | "freeze-after"

export interface Fault {
  /** The operation, as in `log.append`. */
  readonly op: string
  /** Which call of it, from 1, counted over all processes. */
  readonly nth: number
  readonly kind: FaultKind
  /** How long a delay or a stand-still takes. */
  readonly ms: number
}

/** Operations and what may happen to them. What waits for something to come can be repeated by nobody but its caller. */
export const FAULTS: Readonly<Record<string, ReadonlyArray<FaultKind>>> = {
  "log.append": ["fail", "lose-reply", "delay", "crash-before", "crash-after", "freeze-before", "freeze-after"],
  "log.claim": ["fail", "lose-reply", "delay", "crash-before", "crash-after", "freeze-after"],
  "log.prepare": ["fail", "delay", "crash-before", "crash-after", "freeze-after"],
  "log.relayed": ["fail", "lose-reply", "repeat", "crash-before", "crash-after"],
  "log.outbox": ["fail", "delay", "crash-after"],
  "log.read": ["fail", "delay"],
  "log.timeline": ["fail", "delay"],
  "log.heads": ["fail", "delay", "crash-after"],
  "log.conversation": ["fail", "delay"],
  "log.memberships": ["fail", "delay"],
  "commands.publish": ["fail", "lose-reply", "repeat", "delay", "crash-before", "crash-after"],
  "commands.take": ["fail", "delay", "crash-before", "crash-after", "freeze-after"],
  "commands.ack": ["fail"],
  "events.publish": ["fail", "lose-reply", "repeat", "delay", "crash-before", "crash-after", "freeze-before"],
  "events.take": ["fail", "delay", "crash-before", "crash-after"],
  "router.register": ["fail", "delay", "crash-after"],
  "router.unregister": ["fail", "delay"],
  "router.routes": ["fail", "delay", "crash-after", "freeze-after"],
  "router.appendAll": ["fail", "lose-reply", "repeat", "delay", "crash-before", "crash-after", "freeze-before"],
  "router.take": ["fail", "delay", "crash-before", "crash-after"],
  "router.nodes": ["fail", "delay"],
  "models.apply": ["fail", "lose-reply", "repeat", "delay", "crash-before", "crash-after"],
  "models.checkpoints": ["fail", "delay"],
  "models.reached": ["fail", "delay"],
  "models.inbox": ["fail", "delay"],
  "models.access": ["fail", "delay"],
  "models.page": ["fail", "delay"],
  "models.conversations": ["fail", "delay"],
  "shadow.apply": ["fail", "lose-reply", "repeat", "delay", "crash-after"],
  "shadow.replaceLive": ["fail", "crash-before", "crash-after"]
}

/** Waiting for what may come: given up when the caller gives up. Everything else is on its way and takes place. */
const WAITS: ReadonlySet<string> = new Set([
  "commands.take",
  "events.take",
  "router.take",
  "router.takeSignals",
  "models.reached",
  "shadow.replaceLive"
])

/** What opens something that its caller closes. */
const OPENS: ReadonlySet<string> = new Set(["commands.consumer", "models.snapshot", "models.shadow"])

const cause = "injected"
const errors: Readonly<Record<string, (operation: string) => unknown>> = {
  log: (operation) => new LogUnavailable({ operation, reason: "injected", cause }),
  commands: (operation) => new CommandBusUnavailable({ operation, cause }),
  events: () => new EventBusUnavailable({ cause }),
  router: (operation) => new RouterUnavailable({ operation, cause }),
  models: (operation) => new ReadModelsUnavailable({ operation, reason: "injected", cause }),
  shadow: (operation) => new ReadModelsUnavailable({ operation, reason: "injected", cause })
}

/** Stands between every process and every engine. */
export class Interference {
  readonly loop: Loop
  /** Runs what the engines do; never dies. */
  readonly engines: Process
  readonly fired: Array<Fault> = []
  /** Called before every call. */
  ambush: ((process: Process, op: string) => void) | undefined
  readonly #faults: ReadonlyArray<Fault>
  readonly #counts = new Map<string, number>()
  /** How long a call takes each way at most, most of the time. */
  readonly #latency: number
  /** Faults that are still at work: what ends each. */
  readonly #lasting = new Set<() => void>()
  #enabled = true

  constructor(loop: Loop, engines: Process, faults: ReadonlyArray<Fault>, latency: number) {
    this.loop = loop
    this.engines = engines
    this.#faults = faults
    this.#latency = latency
  }

  fault(op: string): Fault | undefined {
    const nth = (this.#counts.get(op) ?? 0) + 1
    this.#counts.set(op, nth)
    if (!this.#enabled) return undefined
    const fault = this.#faults.find((one) => one.op === op && one.nth === nth)
    if (fault !== undefined) this.fired.push(fault)
    return fault
  }

  /** How long this call is on its way, in milliseconds. */
  #travel(): number {
    const { random } = this.loop
    if (this.#latency === 0 || random.chance(0.5)) return 0
    return random.chance(0.02) ? random.below(this.#latency * 20) : random.below(this.#latency + 1)
  }

  /** A process's handle on an engine: the same object, whose every operation passes through here. */
  wrap<S extends object>(
    process: Process,
    engine: string,
    service: S,
    inner: (result: unknown) => unknown = (a) => a
  ): S {
    return new Proxy(service, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key)
        const op = `${engine}.${String(key)}`
        if (Effect.isEffect(value)) return this.#guarded(process, op, value as Effect.Effect<unknown, unknown>, inner)
        if (typeof value !== "function") return value
        return (...args: ReadonlyArray<unknown>) => {
          const result: unknown = Reflect.apply(value, target, args)
          return Effect.isEffect(result)
            ? this.#guarded(process, op, result as Effect.Effect<unknown, unknown>, inner)
            : result
        }
      }
    })
  }

  #guarded(
    process: Process,
    op: string,
    effect: Effect.Effect<unknown, unknown>,
    inner: (result: unknown) => unknown
  ): Effect.Effect<unknown, unknown> {
    return Effect.contextWith((context: Context.Context<never>) => {
      const opened = OPENS.has(op) ? this.#opening(process, context) : undefined
      return Effect.callback<unknown, unknown>((resume) => {
        if (!process.alive) return
        const fault = this.fault(op)
        this.ambush?.(process, op)
        const kind = fault?.kind
        const wait = WAITS.has(op)
        if (kind === "crash-before") return process.kill()
        if (kind === "freeze-before") this.freeze(process, fault!.ms)

        let given = false
        let running: Fiber.Fiber<unknown, unknown> | undefined
        const answer = (exit: Exit.Exit<unknown, unknown>): void => {
          if (kind === "crash-after") return process.kill()
          if (kind === "freeze-after") this.freeze(process, fault!.ms)
          const result = kind === "lose-reply" || kind === "fail" ? Exit.fail(this.error(op)) : Exit.map(exit, inner)
          const late = kind === "delay" && wait ? fault!.ms : 0
          const travel = this.#travel()
          const arrive = (): void => {
            process.onKill.delete(giveUp)
            if (!given) resume(result)
          }
          if (late > 0) this.#lasts(travel + late, process, arrive)
          else if (travel === 0) process.post(arrive)
          else this.loop.after(travel, process, arrive)
        }
        const start = (): void => {
          if (given && wait) return
          if (kind === "fail") return answer(Exit.void)
          const asked = opened === undefined ? effect : Effect.provideService(effect, Scope.Scope, opened)
          running = this.engines.run(kind === "repeat" ? Effect.andThen(asked, asked) : asked)
          running.addObserver((exit) => {
            running = undefined
            if (!given) answer(exit)
          })
        }
        // A process that dies has no say in what is already on its way, only in what it waits for.
        const giveUp = (): void => {
          given = true
          if (wait) running?.interruptUnsafe()
        }
        process.onKill.add(giveUp)
        const travel = this.#travel()
        if (kind === "delay" && !wait) this.#lasts(travel + fault!.ms, this.engines, start)
        else if (travel === 0) start()
        else this.loop.after(travel, this.engines, start)
        return Effect.sync(giveUp)
      })
    })
  }

  /** What a call opens (a consumer, a snapshot) lasts until its caller closes it or dies. */
  #opening(process: Process, context: Context.Context<never>): Scope.Scope {
    const scope = Scope.makeUnsafe()
    const close = (): void => {
      process.onKill.delete(close)
      this.engines.run(Scope.close(scope, Exit.void))
    }
    process.onKill.add(close)
    const caller = Context.getOption(context, Scope.Scope)
    if (Option.isSome(caller)) this.engines.run(Scope.addFinalizer(caller.value, Effect.sync(close)))
    return scope
  }

  /** The error with which an engine says that it did not answer. */
  error(op: string): unknown {
    const [engine, operation] = op.split(".")
    return errors[engine!]!(operation!)
  }

  /** Stops a process for a while, as SIGSTOP and SIGCONT do. */
  freeze(process: Process, ms: number): void {
    process.freeze()
    this.#lasts(ms, this.engines, () => process.thaw())
  }

  /** Runs something when a fault is over, by itself or because all are. */
  #lasts(ms: number, process: Process, run: () => void): void {
    const end = (): void => {
      if (!this.#lasting.delete(end)) return
      cancel()
      // As a task of its own: who ends it may be in the middle of another process's.
      process.post(run)
    }
    this.#lasting.add(end)
    const cancel = this.loop.after(ms, process, end)
  }

  /** From now on nothing goes wrong, and what lasts ends. */
  calm(): void {
    this.#enabled = false
    this.ambush = undefined
    for (const end of [...this.#lasting]) end()
  }
}
