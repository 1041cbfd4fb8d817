/** The real engines that all tests of a run share. Those who break engines take private ones: privateEngines.ts. */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { onTestFinished } from "vitest"
import { askFor } from "./onDemand.ts"

export interface Engines {
  readonly mongoUrl: string
  readonly amqpUrl: string
  readonly redisUrl: string
}

let known: Engines | undefined

/**
 * Where they are. Use names, keys and a database of your own in them, and never break or flush them. The first who asks in a run waits
 * some seconds, in which nothing else of this process goes on.
 */
export const engines = (): Engines => (known ??= fromEnvironment() ?? askForThem())

const fromEnvironment = (): Engines | undefined => {
  const { DARDA_TEST_MONGO_URL, DARDA_TEST_AMQP_URL, DARDA_TEST_REDIS_URL } = process.env
  return DARDA_TEST_MONGO_URL && DARDA_TEST_AMQP_URL && DARDA_TEST_REDIS_URL
    ? { mongoUrl: DARDA_TEST_MONGO_URL, amqpUrl: DARDA_TEST_AMQP_URL, redisUrl: DARDA_TEST_REDIS_URL }
    : undefined
}

const askForThem = (): Engines => {
  const folder = process.env["DARDA_TEST_ENGINES"]
  if (folder === undefined)
    throw new Error("Engines are only there in the projects of vitest.config.ts that have engines.setup.ts")
  return askFor(folder, "The engines")
}

/**
 * The address of a database that nobody else has. It is dropped after the test that asks; where none runs (in `beforeAll`, say), at
 * the end of the whole run.
 */
export const freshMongoUrl = (): string => {
  const url = new URL(engines().mongoUrl)
  url.pathname = `/${process.env["DARDA_TEST_RUN"]}_${randomBytes(6).toString("hex")}`
  const fresh = url.toString()
  try {
    onTestFinished(() => dropDatabase(fresh))
  } catch {
    // No test runs.
  }
  return fresh
}

const dropDatabase = async (url: string): Promise<void> => {
  const client = new MongoClient(url)
  try {
    await client.db().dropDatabase()
  } finally {
    await client.close()
  }
}
