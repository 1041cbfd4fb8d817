/**
 * The engines that a run of tests shares: those of DARDA_TEST_MONGO_URL, DARDA_TEST_AMQP_URL and DARDA_TEST_REDIS_URL where all three
 * are given; else those that `npm run services -- up --test-commands` started in this checkout; else its own, started when the first test asks for them
 * and ended with the run.
 */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { binaries } from "../../scripts/services/binaries.ts"
import { servicesFolder, testFolder } from "../../scripts/services/folders.ts"
import { identify } from "../../scripts/services/processes.ts"
import { down, status, up } from "../../scripts/services/stack.ts"
import type { Engines } from "./engines.ts"
import { serveOnDemand } from "./onDemand.ts"

const NAMES = ["DARDA_TEST_MONGO_URL", "DARDA_TEST_AMQP_URL", "DARDA_TEST_REDIS_URL"] as const

/** The first project of a run that needs engines sees to them; the others, and all tests, find what it says in the environment. */
export const setup = async (): Promise<(() => Promise<void>) | undefined> => {
  if (process.env["DARDA_TEST_RUN"] !== undefined) return undefined
  const run = `test_${randomBytes(4).toString("hex")}`
  process.env["DARDA_TEST_RUN"] = run
  const given = NAMES.filter((name) => (process.env[name] ?? "") !== "")
  if (given.length !== 0 && given.length !== NAMES.length)
    throw new Error(`Set all of ${NAMES.join(", ")}, or none: only ${given.join(", ")} is set`)

  removeLeftOvers()
  if (given.length === NAMES.length) return () => dropDatabases(run)
  const inUse = await status(servicesFolder)
  if (inUse !== undefined && inUse.missing.length === 0 && inUse.testCommands) {
    publish(inUse)
    return () => dropDatabases(run)
  }
  // Here, where nothing counts the time: a new machine has to fetch them.
  await binaries()
  return startWhenWanted(join(testFolder, `${process.pid}-${run}`))
}

/** Starts engines in that folder when a test asks for them; gives what ends them. */
const startWhenWanted = (folder: string): (() => Promise<void>) => {
  process.env["DARDA_TEST_ENGINES"] = folder
  const ended = serveOnDemand(folder, async (): Promise<Engines> => {
    const engines = await up(folder, { own: true, testCommands: true })
    publish(engines)
    return engines
  })
  return async () => {
    await ended()
    await down(folder, { atOnce: true })
    rmSync(folder, { recursive: true, force: true })
  }
}

const publish = ({ mongoUrl, amqpUrl, redisUrl }: Engines): void => {
  process.env["DARDA_TEST_MONGO_URL"] = mongoUrl
  process.env["DARDA_TEST_AMQP_URL"] = amqpUrl
  process.env["DARDA_TEST_REDIS_URL"] = redisUrl
}

/** The folders of processes that are gone; their engines went with them. */
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
    const { databases } = await client.db().admin().listDatabases({ nameOnly: true })
    for (const { name } of databases) {
      if (name.startsWith(`${run}_`)) await client.db(name).dropDatabase()
    }
  } finally {
    await client.close()
  }
}
