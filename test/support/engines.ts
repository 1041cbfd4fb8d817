/** The real engines of the tests: the shared ones that the run has, and private ones for those who break them. */
import { randomBytes } from "node:crypto"
import { MongoClient } from "mongodb"
import { onTestFinished } from "vitest"

export interface Engines {
  readonly mongoUrl: string
  readonly amqpUrl: string
  readonly redisUrl: string
}

const given = (name: string): string => {
  const value = process.env[name]
  if (value === undefined || value === "")
    throw new Error(`${name} is not set: tests of real engines run in a project of vitest.config.ts that starts them`)
  return value
}

/** The engines that all tests of this run share: use names, keys and a database of your own in them, and never break or flush them. */
export const engines = (): Engines => ({
  mongoUrl: given("DARDA_TEST_MONGO_URL"),
  amqpUrl: given("DARDA_TEST_AMQP_URL"),
  redisUrl: given("DARDA_TEST_REDIS_URL")
})

/**
 * The address of a database that nobody else has. It is dropped after the test that asks; where none runs (in `beforeAll`, say), at
 * the end of the whole run.
 */
export const freshMongoUrl = (): string => {
  const { mongoUrl } = engines()
  const url = new URL(mongoUrl)
  url.pathname = `/${given("DARDA_TEST_RUN")}_${randomBytes(6).toString("hex")}`
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
