/** How far ours' read models are, from the outside. */
import type { Redis } from "ioredis"
import type { MongoClient } from "mongodb"
import { scopeOf } from "../../src/main/cluster.ts"
import { partitionPrefix, type Pointer, pointerOf } from "../../src/read-side/ReadModelsRedisRows.ts"
import { collectionsOf } from "../../src/write-side/EventLogMongoFormat.ts"

const CAUGHT_UP_MS = 120_000

/** The name that the log has in Redis, and the last position of each partition. */
export const logOf = async (mongo: MongoClient) => {
  const { heads, meta } = collectionsOf(mongo.db())
  const log = (await meta.findOne({ _id: "log" })) as { readonly id: string } | null
  const positions = (await heads.find().sort({ partition: 1 }).toArray()).map(({ position }) => position)
  return { scope: scopeOf(log!.id), positions }
}

/** Which set is live in each partition, and how far it is. */
export const pointersOf = async (
  redis: Redis,
  { positions, scope }: Awaited<ReturnType<typeof logOf>>
): Promise<ReadonlyArray<Pointer>> =>
  (await redis.mget(positions.map((_, partition) => `${partitionPrefix(scope, partition)}live`))).map((text) =>
    pointerOf(text ?? "")
  )

/** Waits until the read models hold everything that the log holds now. */
export const caughtUp = async (redis: Redis, mongo: MongoClient): Promise<void> => {
  const log = await logOf(mongo)
  for (const deadline = performance.now() + CAUGHT_UP_MS; performance.now() < deadline;) {
    const pointers = await pointersOf(redis, log)
    if (pointers.every(({ checkpoint }, partition) => checkpoint >= log.positions[partition]!)) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`The read models are not where the log is after ${CAUGHT_UP_MS / 1000} s`)
}
