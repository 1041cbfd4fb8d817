import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import type { EngineAddress } from "../platform/EngineAddress.ts"
import { metricsWriter } from "../platform/Metrics.ts"
import { connectMongo, type MongoConnection, mongoReason } from "../platform/MongoConnection.ts"
import { AlreadyInLog, EventLog, Fenced, LogUnavailable, LogUnusable } from "./EventLog.ts"
import { Reader } from "./EventLogMongoReader.ts"
import { openLog, secretOf } from "./EventLogMongoSetup.ts"
import { HeadsMoved, NotNew, Writer } from "./EventLogMongoWriter.ts"
import { MalformedBatch } from "./EventLogRecords.ts"

export interface MongoLogOptions {
  /** A replica set, 8.0 or newer. The database is the one that the URL names, `darda` unless it names one; made when it is empty. */
  readonly address: EngineAddress
  /** Must be what the log was made with. */
  readonly partitions: number
  /** Opens no log but one that is there: for those who would do nothing with a new one. */
  readonly mustExist?: boolean
}

const connect = (address: EngineAddress) =>
  connectMongo(address).pipe(
    Effect.mapError(
      ({ reason }) => new LogUnusable({ where: "MONGO_URL", code: "bad-address", reason: `MONGO_URL: ${reason}` })
    )
  )

/**
 * The event log in MongoDB, for any number of processes. Fails with `LogUnavailable` when MongoDB cannot be reached within some seconds at
 * the start; whether that is worth another try is the caller's to decide.
 */
export const layerMongo = (options: MongoLogOptions): Layer.Layer<EventLog, LogUnusable | LogUnavailable> =>
  Layer.effect(
    EventLog,
    Effect.gen(function* () {
      const mongo = yield* connect(options.address)
      const { id } = yield* openLog(mongo, options.partitions, options.mustExist)
      return yield* make(mongo, id, options.partitions)
    })
  )

/** The secret that is kept with the log, made by whoever asks first: 64 hex digits. */
export const keptSecret = (address: EngineAddress): Effect.Effect<string, LogUnusable | LogUnavailable> =>
  Effect.scoped(Effect.flatMap(connect(address), secretOf))

const make = Effect.fnUntraced(function* (mongo: MongoConnection, id: string, partitions: number) {
  const metrics = yield* metricsWriter
  const reader = new Reader(mongo, partitions)
  const writer = yield* Effect.acquireRelease(
    Effect.sync(() => new Writer(mongo, partitions, () => metrics.update("logRetries", 1))),
    (writer) => Effect.ignore(Effect.tryPromise(() => writer.close()))
  )
  const turn = yield* Semaphore.make(1)
  let last: Promise<unknown> = Promise.resolve()

  /** One write after another. An interrupted one begins nothing new, and the next waits until what it had begun is over. */
  const write = <A>(operation: string, work: (signal: AbortSignal) => Promise<A>) =>
    Semaphore.withPermit(
      turn,
      Effect.tryPromise({
        try: async (signal) => {
          await last
          signal.throwIfAborted()
          const answer = work(signal)
          last = answer.catch(() => {})
          return answer
        },
        catch: refusal(operation)
      })
    ).pipe(Effect.catch((error) => (error instanceof MalformedBatch ? Effect.die(error) : Effect.fail(error))))

  return EventLog.of({
    id,
    partitions,
    heads: ask("heads", () => reader.heads()),
    read: (partition, after, limit) => ask("read", () => reader.read(partition, after, limit)),
    timeline: (conv, slice) => ask("timeline", () => reader.timeline(conv, slice)),
    amendments: (conv, targets) => ask("amendments", () => reader.amendments(conv, targets)),
    conversation: (conv) => ask("conversation", () => reader.conversation(conv)),
    memberships: (user, after, limit) => ask("memberships", () => reader.memberships(user, after, limit)),
    prepare: (request) =>
      ask("prepare", () => reader.prepare(request, (conv, seq, position) => writer.remember(conv, seq, position))),
    outbox: (options) => ask("outbox", () => reader.outbox(options)),
    claim: (claimed, owner) =>
      Effect.catchTags(
        write("claim", (signal) => writer.claim(claimed, owner, signal)),
        neverRefused
      ),
    append: (batch) => write("append", (signal) => writer.append(batch, signal)),
    relayed: (entries) =>
      entries.length === 0
        ? Effect.void
        : Effect.catchTags(
            write("relayed", () => writer.relayed(entries)),
            neverRefused
          )
  })
})

/** Only a batch is refused. */
const neverRefused = { Fenced: Effect.die, AlreadyInLog: Effect.die }

const ask = <A>(operation: string, work: () => Promise<A>): Effect.Effect<A, LogUnavailable> =>
  Effect.tryPromise({
    try: work,
    catch: (cause) => new LogUnavailable({ operation, reason: mongoReason(cause), cause })
  })

/** What a failed write means to who asked for it. */
const refusal =
  (operation: string) =>
  (cause: unknown): LogUnavailable | Fenced | AlreadyInLog | MalformedBatch => {
    if (cause instanceof HeadsMoved) return new Fenced({ partitions: cause.partitions })
    if (cause instanceof NotNew) return new AlreadyInLog({ detail: cause.message })
    if (cause instanceof MalformedBatch) return cause
    return new LogUnavailable({ operation, reason: mongoReason(cause), cause })
  }
