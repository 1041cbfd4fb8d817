/**
 * What the SQLite event log costs: events a second in full batches, the latency of single appends, reads beside them, and what an fsync
 * of this disk takes. `node bench/sqlite-append.ts [conversations] [seconds]`
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { type Conversation, evolve, initial } from "../src/domain/conversation.ts"
import { EVENT_VERSION, type NewEvent, type StoredEvent } from "../src/domain/events.ts"
import { partitionOf } from "../src/domain/partition.ts"
import { type AppendBatch, EventLog, type PartitionHead, type PrepareRequest } from "../src/write-side/EventLog.ts"
import { layerSqlite } from "../src/write-side/EventLogSqlite.ts"

const PARTITIONS = 16
const conversations = Number(process.argv[2] ?? 1_000)
const seconds = Number(process.argv[3] ?? 5)
const folder = fs.mkdtempSync(path.join(process.env["BENCH_DIR"] ?? os.tmpdir(), "darda-bench-"))

/** A committer without its decisions: messages of random people in random conversations. */
class Writer {
  readonly #heads: Map<number, PartitionHead>
  readonly #states: Array<Conversation>

  constructor(heads: ReadonlyArray<PartitionHead>) {
    this.#heads = new Map(heads.map((head) => [head.partition, head]))
    this.#states = Array.from({ length: conversations }, () => initial(`g:${randomUUID()}`))
  }

  batch(size: number): { readonly append: AppendBatch; readonly request: PrepareRequest } {
    const runs = new Map<number, Array<StoredEvent>>()
    const changed = new Map<number, Conversation>()
    for (let i = 0; i < size; i++) {
      const n = Math.floor(Math.random() * conversations)
      const state = this.#states[n]!
      const partition = partitionOf(state.conv, PARTITIONS)
      const run = runs.get(partition) ?? []
      runs.set(partition, run)
      const by = `user${Math.floor(Math.random() * 20)}`
      const common = {
        conv: state.conv,
        seq: state.seq + 1,
        by,
        at: Date.now(),
        cid: randomUUID(),
        digest: "0123456789abcdef".repeat(2)
      }
      const event: NewEvent =
        state.seq === 0
          ? { ...common, type: "created", data: { kind: "group", members: ["user0", "user1"] } }
          : { ...common, type: "message", data: { kind: "text", body: "How about the usual place at eight?" } }
      const position = this.#heads.get(partition)!.position + run.length + 1
      run.push({
        ...event,
        v: EVENT_VERSION,
        partition,
        position,
        prev: state.position,
        origin: { node: "n1", session: randomUUID() }
      })
      const next = evolve(state, event, position)
      this.#states[n] = next
      changed.set(n, next)
    }
    const now = Date.now()
    const append: AppendBatch = {
      runs: [...runs].map(([partition, events]) => {
        const { epoch, position } = this.#heads.get(partition)!
        this.#heads.set(partition, { partition, epoch, position: position + events.length, counters: {} })
        return { partition, epoch, position, events, counters: { edge: position } }
      }),
      conversations: [...changed.values()],
      members: [...changed.values()].flatMap(({ conv, members, position, seq }) =>
        seq > 1 ? [] : [...HashMap.values(members)].map((member) => ({ ...member, conv, left: 0, position }))
      ),
      relayed: [],
      at: now
    }
    const events = [...runs.values()].flat()
    const cids = events.map(({ by, cid, conv }) => ({ conv, by, cid }))
    return { append, request: { conversations: [], cids, targets: [], openers: [], openedSince: 0 } }
  }
}

const percentiles = (samples: Array<number>): string => {
  samples.sort((a, b) => a - b)
  const at = (p: number): string =>
    (samples[Math.min(samples.length - 1, Math.floor(samples.length * p))] ?? 0).toFixed(2)
  return `p50 ${at(0.5)}  p99 ${at(0.99)}  p99.9 ${at(0.999)}  max ${at(1)} ms`
}

const fsyncs = (): Array<number> => {
  const file = fs.openSync(path.join(folder, "fsync"), "w")
  const page = Buffer.alloc(4096)
  const samples: Array<number> = []
  for (let i = 0; i < 500; i++) {
    fs.writeSync(file, page)
    const start = performance.now()
    fs.fdatasyncSync(file)
    samples.push(performance.now() - start)
  }
  fs.closeSync(file)
  return samples
}

const run = Effect.fnUntraced(function* (name: string, size: number, prepare: boolean) {
  const log = yield* EventLog
  const writer = new Writer(
    yield* log.claim(
      Array.from({ length: PARTITIONS }, (_, p) => p),
      "bench"
    )
  )
  const samples: Array<number> = []
  const prepares: Array<number> = []
  const heads: Array<number> = []
  const reading = yield* Effect.forkChild(
    Effect.gen(function* () {
      while (true) {
        yield* Effect.sleep(5)
        const start = performance.now()
        yield* log.heads
        heads.push(performance.now() - start)
      }
    })
  )
  let events = 0
  let relayed: AppendBatch["relayed"] = []
  const cpu = process.cpuUsage()
  const end = performance.now() + seconds * 1000
  let spent = 0
  while (performance.now() < end) {
    const { append, request } = writer.batch(size)
    const start = performance.now()
    if (prepare) {
      yield* log.prepare(request)
      prepares.push(performance.now() - start)
    }
    const appending = performance.now()
    yield* log.append({ ...append, relayed })
    const now = performance.now()
    samples.push(now - appending)
    spent += now - start
    events += size
    relayed = append.runs.map(({ events, partition, position }) => ({
      partition,
      from: position + 1,
      to: position + events.length,
      at: append.at
    }))
  }
  yield* Fiber.interrupt(reading)
  const { system, user } = process.cpuUsage(cpu)
  console.log(
    `${name}: ${Math.round(events / (spent / 1000)).toLocaleString("en")} events/s, ${((user + system) / events).toFixed(1)} us CPU an event`
  )
  console.log(`  append  ${percentiles(samples)}`)
  if (prepare) console.log(`  prepare ${percentiles(prepares)}`)
  console.log(`  heads   ${percentiles(heads)}`)
})

const program = Effect.gen(function* () {
  console.log(`${conversations} conversations, ${os.loadavg()[0]!.toFixed(1)} load`)
  console.log(`fsync of 4 KiB: ${percentiles(fsyncs())}`)
  yield* run("batches of 500", 500, false)
  yield* run("batches of 500, prepared", 500, true)
  yield* run("batches of 20, prepared", 20, true)
  yield* run("single events", 1, false)
})

try {
  await Effect.runPromise(
    Effect.provide(program, Layer.fresh(layerSqlite({ file: path.join(folder, "log.sqlite"), partitions: PARTITIONS })))
  )
  for (const file of fs.readdirSync(folder))
    console.log(`${file}: ${(fs.statSync(path.join(folder, file)).size / 2 ** 20).toFixed(1)} MiB`)
} finally {
  fs.rmSync(folder, { recursive: true })
}
