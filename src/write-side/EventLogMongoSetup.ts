/** Opens the log in MongoDB: checks the server, makes what is missing once, however many processes start together, and says what does not fit. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Db } from "mongodb"
import { randomBytes, randomUUID } from "node:crypto"
import {
  type MongoConnection,
  mongoCode,
  mongoReason,
  mongoReasonAtFirst,
  mongoTlsTrouble
} from "../platform/MongoConnection.ts"
import { LogUnavailable, LogUnusable } from "./EventLog.ts"
import {
  COLLECTIONS,
  collections,
  collectionsOf,
  FORMAT,
  headId,
  indexes,
  type LogDoc,
  touchBarrier
} from "./EventLogMongoFormat.ts"

/** Of MongoDB 8.0, the first that writes to several collections with one command. */
const WIRE_VERSION = 25
/** A process that changes the format and is not heard of for so long is given up; its steps may be done again. */
const LEASE_MS = 30_000
const RENEW_MS = 10_000
const LOOK_AGAIN = "100 millis"
/** How long a start waits for another process that changes the format. */
const WAIT_MS = 120_000

const noEntry = ["not-authenticated", "Check the user and password in MONGO_URL, and its authSource."] as const
/** Codes of the server's refusals that trying again does not change: what they are called in {@link LogUnusable}, and what to do. */
const refusals: Readonly<Record<number, readonly [code: string, advice: string]>> = {
  13: ["no-rights", "The user in MONGO_URL needs the role readWrite on the database."],
  18: noEntry,
  8000: noEntry
}

/** Steps from one format to the next: `steps[n]` makes format n + 1 of n. Each may be cut short and done again, also by two processes at once. */
const steps: ReadonlyArray<(db: Db, partitions: number) => Promise<void>> = [
  async (db, partitions) => {
    for (const [name, options] of collections) {
      await db.command({ create: name, ...options }).catch(unless(48))
    }
    for (const [name, index] of indexes) await db.command({ createIndexes: name, indexes: [index] })
    await collectionsOf(db)
      .heads.bulkWrite(
        Array.from({ length: partitions }, (_, partition) => ({
          updateOne: {
            filter: { partition },
            update: { $setOnInsert: { _id: headId(partition, 0), ...emptyHead } },
            upsert: true
          }
        })),
        { ordered: false }
      )
      .catch(unless(11000))
  }
]

const emptyHead = { epoch: 0, position: 0, owner: "", session: null, counters: {}, outbox: {} }

/** Swallows one error of the server: what is to be made is there. */
const unless =
  (code: number) =>
  (cause: unknown): void => {
    if (mongoCode(cause) !== code) throw cause
  }

/**
 * What the log says of itself, when it fits. Makes the log in a database that has none, unless it must exist. Fails with {@link LogUnavailable} when MongoDB does not answer
 * within some seconds: trying again may help then.
 */
export const openLog = Effect.fn("EventLogMongo.open")(function* (
  mongo: MongoConnection,
  partitions: number,
  mustExist = false
) {
  const unusable = (code: string, reason: string) => new LogUnusable({ where: mongo.where, code, reason })
  const ask = <A>(work: () => Promise<A>) => asking(mongo, "open", work)
  const { meta } = collectionsOf(mongo.db)
  const look = ask(() => meta.findOne({ _id: "log" }) as Promise<LogDoc | null>)

  const hello = yield* ask(() => mongo.client.db("admin").command({ hello: 1 }))
  if (typeof hello["setName"] !== "string") {
    return yield* unusable(
      "no-replica-set",
      `MongoDB at ${mongo.where} is no member of a replica set, and transactions need one: start mongod with --replSet, and initiate the set.`
    )
  }
  if ((hello["maxWireVersion"] as number) < WIRE_VERSION) {
    return yield* unusable("old-server", `MongoDB at ${mongo.where} is older than 8.0: upgrade it.`)
  }
  let found = yield* look
  if (found === null || found.format < FORMAT) {
    // Looked again: another process may have made the log meanwhile, and written to it.
    if (found === null && (yield* ask(() => isForeign(mongo.db))) && (yield* look) === null) {
      return yield* unusable(
        "foreign",
        `the database ${mongo.db.databaseName} at ${mongo.where} holds collections of another program: name another one in MONGO_URL (mongodb://…/darda).`
      )
    }
    if (found === null && mustExist) {
      return yield* unusable(
        "missing",
        `there is none in the database ${mongo.db.databaseName} at ${mongo.where} yet: look at the path of MONGO_URL. The first start of a writer or reader makes one.`
      )
    }
    found = yield* migrate(mongo, partitions, look)
  }
  if (found.format > FORMAT) {
    return yield* unusable(
      "newer",
      `the log at ${mongo.where} has format ${found.format}; this Darda reads format ${FORMAT}. Run the version that wrote it, or a newer one.`
    )
  }
  if (found.partitions !== partitions) {
    return yield* unusable(
      "other-partitions",
      `the log at ${mongo.where} has ${found.partitions} partitions, and PARTITIONS is ${partitions}. The number is fixed when a log is made: start with PARTITIONS=${found.partitions}.`
    )
  }
  // Every role reads the heads behind a write, so who may only read is found out here.
  yield* ask(() => touchBarrier(meta))
  return found
})

/** Whether our names are taken by what is not ours. Collections without anything in them may be left of a start that was cut short. */
const isForeign = async (db: Db): Promise<boolean> => {
  for (const name of [COLLECTIONS.events, COLLECTIONS.conversations, COLLECTIONS.members]) {
    if ((await db.collection(name).findOne({}, { projection: { _id: 1 } })) !== null) return true
  }
  return false
}

/** Lets one process after another try until the format is ours; the others wait and look. */
const migrate = Effect.fnUntraced(function* (
  mongo: MongoConnection,
  partitions: number,
  look: Effect.Effect<LogDoc | null, LogUnusable | LogUnavailable>
) {
  const me = randomUUID()
  const ask = <A>(work: () => Promise<A>) => asking(mongo, "set up", work)
  const attempt = Effect.gen(function* () {
    if (!(yield* ask(() => takeLock(mongo.db, me)))) return yield* look
    const found = yield* look
    const from = found?.format ?? 0
    if (from < FORMAT) {
      yield* Effect.logInfo(`The log at ${mongo.where} is brought from format ${from} to ${FORMAT}.`)
      const work = Effect.gen(function* () {
        for (let format = from; format < FORMAT; format++) {
          yield* ask(() => steps[format]!(mongo.db, found?.partitions ?? partitions))
          yield* ask(() => setFormat(mongo.db, format, partitions))
        }
      })
      const renew = Effect.forever(
        Effect.delay(
          ask(() => takeLock(mongo.db, me)),
          RENEW_MS
        )
      )
      yield* Effect.raceFirst(work, renew)
    }
    yield* ask(() => dropLock(mongo.db, me))
    return yield* look
  })
  return yield* attempt.pipe(
    Effect.flatMap((found) =>
      found !== null && found.format >= FORMAT
        ? Effect.succeed(found)
        : Effect.fail(
            new LogUnavailable({
              operation: "set up",
              reason: "another process is making or upgrading the log",
              cause: undefined
            })
          )
    ),
    Effect.retry({
      schedule: Schedule.spaced(LOOK_AGAIN).pipe(Schedule.jittered, Schedule.upTo({ duration: WAIT_MS })),
      while: (error) => error._tag === "LogUnavailable" && error.cause === undefined
    })
  )
})

/** By the server's clock: those of the processes may differ. */
const takeLock = async (db: Db, me: string): Promise<boolean> => {
  const free = { $or: [{ $lte: [{ $ifNull: ["$until", new Date(0)] }, "$$NOW"] }, { $eq: ["$owner", me] }] }
  const lock = await collectionsOf(db)
    .meta.findOneAndUpdate(
      { _id: "migration" },
      [
        {
          $set: {
            owner: { $cond: [free, me, "$owner"] },
            until: { $cond: [free, { $add: ["$$NOW", LEASE_MS] }, "$until"] }
          }
        }
      ],
      { upsert: true, returnDocument: "after" }
    )
    .catch((cause: unknown) => {
      // Two made the document at once: the other one has it.
      if (mongoCode(cause) === 11000) return null
      throw cause
    })
  return (lock as { readonly owner?: string } | null)?.owner === me
}

const dropLock = (db: Db, me: string): Promise<unknown> =>
  collectionsOf(db).meta.updateOne(
    { _id: "migration", owner: me },
    {
      $set: { until: new Date(0) }
    }
  )

/** A step is done. The log's id is made with it, and stays. */
const setFormat = (db: Db, from: number, partitions: number): Promise<unknown> =>
  from === 0
    ? collectionsOf(db).meta.updateOne(
        { _id: "log" },
        { $setOnInsert: { id: randomUUID(), format: 1, partitions, created: new Date().toISOString() } },
        { upsert: true }
      )
    : collectionsOf(db).meta.updateOne(
        { _id: "log", format: from },
        {
          $set: { format: from + 1 }
        }
      )

/**
 * The secret that is kept with the log, made by whoever asks first: for AUTH=dev without a CLUSTER_SECRET. 64 hex digits.
 */
export const secretOf = (mongo: MongoConnection): Effect.Effect<string, LogUnusable | LogUnavailable> =>
  asking(mongo, "secret", async () => {
    const { meta } = collectionsOf(mongo.db)
    const find = () =>
      meta.findOneAndUpdate(
        { _id: "secret" },
        { $setOnInsert: { value: randomBytes(32).toString("hex") } },
        { upsert: true, returnDocument: "after" }
      )
    const kept = await find().catch((cause: unknown) => {
      unless(11000)(cause)
      return find()
    })
    return (kept as unknown as { readonly value: string }).value
  })

const asking = <A>(
  { address, where }: MongoConnection,
  operation: string,
  work: () => Promise<A>
): Effect.Effect<A, LogUnusable | LogUnavailable> =>
  Effect.tryPromise({
    try: work,
    catch: (cause) => {
      const refusal = refusals[mongoCode(cause) ?? 0]
      if (refusal !== undefined) {
        const [code, advice] = refusal
        return new LogUnusable({ where, code, reason: `MongoDB at ${where}: ${mongoReason(cause)}. ${advice}` })
      }
      const tls = mongoTlsTrouble(cause)
      if (tls !== undefined) return new LogUnusable({ where, code: "tls", reason: `MongoDB at ${where}: ${tls}.` })
      return new LogUnavailable({
        operation,
        reason: `MongoDB at ${where}: ${mongoReasonAtFirst(address, cause)}`,
        cause
      })
    }
  })
