/**
 * The engines that a run of tests shares: those of DARDA_TEST_MONGO_URL, DARDA_TEST_AMQP_URL and DARDA_TEST_REDIS_URL where all three
 * are given, else those that `npm run services -- up` started in this checkout, else its own, which end with it.
 */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { identify } from "../../scripts/services/processes.ts"
import { down, status, up } from "../../scripts/services/stack.ts"
import { servicesFolder, testFolder } from "../../scripts/services/folders.ts"

const NAMES = ["DARDA_TEST_MONGO_URL", "DARDA_TEST_AMQP_URL", "DARDA_TEST_REDIS_URL"] as const

/** The first project of a run that needs the engines gets them; the others find them in the environment. */
export const setup = async (): Promise<(() => Promise<void>) | undefined> => {
  const given = NAMES.filter((name) => (process.env[name] ?? "") !== "")
  if (given.length === NAMES.length && process.env["DARDA_TEST_RUN"] !== undefined) return undefined
  if (given.length !== 0 && given.length !== NAMES.length)
    throw new Error(`Set all of ${NAMES.join(", ")}, or none: only ${given.join(", ")} is set`)
  const run = `test_${randomBytes(4).toString("hex")}`
  process.env["DARDA_TEST_RUN"] = run
  removeLeftOvers()
  if (given.length === NAMES.length) return () => dropDatabases(run)

  const inUse = await status(servicesFolder)
  if (inUse !== undefined && inUse.missing.length === 0) {
    publish(inUse)
    return () => dropDatabases(run)
  }
  const folder = join(testFolder, `${process.pid}`)
  publish(await up(folder, { own: true, testCommands: true }))
  return async () => {
    await down(folder, { atOnce: true })
    rmSync(folder, { recursive: true, force: true })
  }
}

const publish = ({ mongoUrl, amqpUrl, redisUrl }: { mongoUrl: string; amqpUrl: string; redisUrl: string }): void => {
  process.env["DARDA_TEST_MONGO_URL"] = mongoUrl
  process.env["DARDA_TEST_AMQP_URL"] = amqpUrl
  process.env["DARDA_TEST_REDIS_URL"] = redisUrl
}

/** The folders of runs whose process is gone; the engines went with it. */
const removeLeftOvers = (): void => {
  mkdirSync(testFolder, { recursive: true })
  for (const name of readdirSync(testFolder)) {
    if (identify(Number.parseInt(name, 10)) === undefined)
      rmSync(join(testFolder, name), { recursive: true, force: true })
  }
}

/** Databases that no test dropped, in engines that go on. */
const dropDatabases = async (run: string): Promise<void> => {
  const client = new MongoClient(process.env["DARDA_TEST_MONGO_URL"] as string)
  try {
    const { databases } = await client.db("admin").admin().listDatabases({ nameOnly: true })
    for (const { name } of databases) {
      if (name.startsWith(`${run}_`)) await client.db(name).dropDatabase()
    }
  } finally {
    await client.close()
  }
}
