import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as EffectRandom from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"

/** When every simulation begins, in milliseconds since 1970 UTC. */
export const EPOCH = 1_700_000_000_000
/** Tasks after which a simulation is taken for one that never comes to rest. */
const MAX_TASKS = 2_000_000

/** Numbers from a seed, the same ones for the same seed. */
export interface Random {
  /** An integer from 0 to `bound - 1`. */
  readonly below: (bound: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(items: ReadonlyArray<A>) => A
}

export const makeRandom = (seed: number): Random => {
  let state = seed | 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (bound: number): number => Math.floor(next() * bound)
  return { below, chance: (probability) => next() < probability, pick: (items) => items[below(items.length)]! }
}

interface Timer {
  readonly at: number
  readonly order: number
  readonly process: Process
  readonly run: () => void
  cancelled: boolean
}

/**
 * The one thread on which everything runs: tasks of all processes, and their timers. Which process goes on next is drawn from the seed; within a process tasks
 * keep their order. Time moves only when nothing is left to do, so that a wait of an hour costs nothing.
 */
export class Loop {
  readonly random: Random
  now = EPOCH
  tasks = 0
  /** Whose instructions are being executed. */
  current: Process | undefined
  /** Called after every task. */
  afterTask: (() => void) | undefined
  readonly #processes: Array<Process> = []
  #ready: Array<Process> = []
  readonly #timers: Array<Timer> = []
  #order = 0

  constructor(random: Random) {
    this.random = random
  }

  /** A process whose clock is off by so much. */
  process(name: string, skew = 0): Process {
    const process = new Process(this, name, skew)
    this.#processes.push(process)
    return process
  }

  wake(process: Process): void {
    if (!this.#ready.includes(process)) this.#ready.push(process)
  }

  /** Runs something on behalf of a process after some time. Answers how to take that back. */
  after(ms: number, process: Process, run: () => void): () => void {
    const timer: Timer = { at: this.now + Math.max(0, ms), order: this.#order++, process, run, cancelled: false }
    push(this.#timers, timer)
    return () => void (timer.cancelled = true)
  }

  /** Runs until nobody has anything to do at this moment. */
  settle(): void {
    while (this.#ready.length > 0) {
      const index = this.#ready.length === 1 ? 0 : this.random.below(this.#ready.length)
      const process = this.#ready[index]!
      const task = process.next()
      if (task === undefined) {
        this.#ready[index] = this.#ready[this.#ready.length - 1]!
        this.#ready.pop()
        continue
      }
      if (++this.tasks > MAX_TASKS)
        throw new Error(`This simulation does not come to rest: ${process.name} has more to do.`)
      this.current = process
      task()
      this.afterTask?.()
    }
  }

  /** Lets time pass, and everything happen that is due meanwhile. */
  advance(ms: number): void {
    const until = this.now + ms
    this.settle()
    while (this.#timers.length > 0 && this.#timers[0]!.at <= until) {
      const timer = pop(this.#timers)
      if (timer.cancelled || !timer.process.alive) continue
      if (timer.process.frozen) {
        timer.process.post(timer.run)
        continue
      }
      this.now = Math.max(this.now, timer.at)
      this.current = timer.process
      timer.run()
      this.afterTask?.()
      this.settle()
    }
    this.now = until
  }
}

/** Runs something with the microtasks of the code under test in the hands of the loop, so that they take part in its order and die with their process. */
export const withMicrotasks = <A>(loop: Loop, run: () => A): A => {
  const original = globalThis.queueMicrotask
  globalThis.queueMicrotask = (task) => loop.current?.post(task)
  try {
    return run()
  } finally {
    globalThis.queueMicrotask = original
  }
}

/** Earliest first; among equals in the order in which they were set. */
const before = (a: Timer, b: Timer): boolean => (a.at !== b.at ? a.at < b.at : a.order < b.order)

const push = (heap: Array<Timer>, timer: Timer): void => {
  let index = heap.length
  heap.push(timer)
  while (index > 0) {
    const parent = (index - 1) >> 1
    if (!before(timer, heap[parent]!)) break
    heap[index] = heap[parent]!
    index = parent
  }
  heap[index] = timer
}

const pop = (heap: Array<Timer>): Timer => {
  const first = heap[0]!
  const last = heap.pop()!
  if (heap.length === 0) return first
  let index = 0
  while (true) {
    let child = index * 2 + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
    if (!before(heap[child]!, last)) break
    heap[index] = heap[child]!
    index = child
  }
  heap[index] = last
  return first
}

/**
 * Something that runs and can die. Everything in it is scheduled here, so that `kill` is what `kill -9` is: from then on not one
 * instruction of it is executed, no finalizer included.
 */
export class Process implements Scheduler.Scheduler {
  readonly executionMode = "async"
  readonly name: string
  readonly loop: Loop
  /** Effects of this process run with this: its scheduler and its clock. */
  readonly context: Context.Context<never>
  alive = true
  /** Stopped as by SIGSTOP: what it has to do waits. */
  frozen = false
  /** By how much its clock is ahead, in milliseconds. */
  readonly skew: number
  /** Run when it dies. */
  readonly onKill = new Set<() => void>()
  #queue: Array<() => void> = []
  #from = 0

  constructor(loop: Loop, name: string, skew: number) {
    this.loop = loop
    this.skew = skew
    this.name = name
    this.context = Context.empty().pipe(
      Context.add(Scheduler.Scheduler, this),
      Context.add(Clock.Clock, makeClock(this)),
      Context.add(EffectRandom.Random, {
        nextDoubleUnsafe: () => loop.random.below(2 ** 32) / 2 ** 32,
        nextIntUnsafe: () => loop.random.below(2 ** 32) - 2 ** 31
      }),
      Context.add(References.MinimumLogLevel, "None")
    )
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return fiber.currentOpCount >= 2048
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return { scheduleTask: (task) => this.post(task), flush: () => {} }
  }

  post(task: () => void): void {
    if (!this.alive) return
    this.#queue.push(task)
    if (!this.frozen) this.loop.wake(this)
  }

  next(): (() => void) | undefined {
    if (!this.alive || this.frozen) return undefined
    if (this.#from === this.#queue.length) {
      this.#queue = []
      this.#from = 0
      return undefined
    }
    return this.#queue[this.#from++]
  }

  run<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  kill(): void {
    if (!this.alive) return
    this.alive = false
    this.#queue = []
    for (const what of [...this.onKill]) what()
    this.onKill.clear()
  }

  freeze(): void {
    this.frozen = true
  }

  thaw(): void {
    if (!this.frozen) return
    this.frozen = false
    if (this.#from < this.#queue.length) this.loop.wake(this)
  }
}

const makeClock = (process: Process): Clock.Clock => {
  const { loop } = process
  const now = (): number => loop.now + process.skew
  const nanos = (): bigint => BigInt(now()) * 1_000_000n
  return {
    currentTimeMillisUnsafe: now,
    currentTimeMillis: Effect.sync(now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) => {
      const ms = Math.ceil(Duration.toMillis(duration))
      if (ms <= 0) return Effect.yieldNow
      if (!Number.isFinite(ms)) return Effect.never
      return Effect.callback<void>((resume) => {
        const cancel = loop.after(ms, process, () => resume(Effect.void))
        return Effect.sync(cancel)
      })
    }
  }
}
