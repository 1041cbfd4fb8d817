import { afterAll, afterEach, assert, beforeAll, describe, it } from "@effect/vitest"
import { MongoClient } from "mongodb"
import { type Darda, darda, type Ended } from "../cli/darda.ts"
import { type Cluster, makeCluster } from "../support/cluster.ts"
import { freshMongoUrl } from "../support/engines.ts"
import { withRoles } from "../support/operator.ts"
import { type PrivateEngine, privateRedis } from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"
import { say, talk, type Talk } from "../support/talk.ts"
import { until } from "../support/until.ts"

/** Nobody listens there. */
const AWAY = "127.0.0.1:1"
/** Nor there, where fetch may ask. */
const AWAY_HTTP = "127.0.0.1:65534"
const READ_SECRET = "another secret of a cluster that only tests know"

let redis: PrivateEngine
let log: Cluster
let all: DardaProcess
let ann: Talk
let ben: Talk
/** A process that waits for MongoDB while the other tests run. */
let waiting: Darda
let waitingSince: number
beforeAll(async () => {
  redis = await privateRedis()
  log = await makeCluster({ edges: 0, writers: 0, readers: 0 })
  all = await withRoles("edge,write,read", { ...log.env, REDIS_URL: redis.url })
  waitingSince = Date.now()
  waiting = darda(["serve"], { ...log.env, PORT: "0", MONGO_URL: `mongodb://${AWAY}/darda?replicaSet=rs0` })
  await all.start()
  ;[ann, ben] = await Promise.all([talk(all.url, "ann"), talk(all.url, "ben")])
  await say(ann, { to: "ben" }, "the first")
})
afterAll(async () => {
  waiting?.child.kill("SIGKILL")
  await all?.dispose()
  await redis?.dispose()
})
const others = new Set<DardaProcess>()
afterEach(async () => {
  await Promise.all([...others].map((one) => one.dispose()))
  others.clear()
})

const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  darda(args, { ...log.env, REDIS_URL: redis.url, PORT: "0", ...env }).ended

/** What a command prints that ends well. */
const prints = async (...args: ReadonlyArray<string>): Promise<string> => {
  const { code, stderr, stdout } = await run(args)
  assert.strictEqual(code, 0, stdout + stderr)
  return stdout
}

describe("commands on the engines of many processes", () => {
  it("outbox status shows what is not told yet, and nothing when it is", async () => {
    await until("the outbox is empty", 20_000, async () =>
      (await prints("outbox", "status")).includes("The outbox is empty: everything that is committed has been told")
    )
    // Commits go on while nobody can be told of them.
    redis.stop()
    ann.tell({ t: "send", cid: "untold", to: "ben", body: "not told yet" })
    const table = await until("an entry stays in the outbox", 30_000, async () => {
      const said = await prints("outbox", "status")
      return /^ *\d+ +1 +1 +\d+\.\d s$/m.test(said) ? said : undefined
    })
    assert.match(table, /^partition {2}commits {4}events {2}oldest$/m)
    redis.cont()
    await ben.until("what was not told", (frames) =>
      frames.find(({ data }) => (data as { readonly body?: string } | undefined)?.body === "not told yet")
    )
    await until("the outbox is empty again", 20_000, async () =>
      (await prints("outbox", "status")).includes("The outbox is empty")
    )
  })

  it("verify, replay and dead-letters work beside the processes that serve", async () => {
    assert.match(await prints("verify"), /The read models are what \d+ events of the log make: \d+ rows, no difference/)
    const replayed = run(["replay"])
    for (let i = 0; i < 20; i++) await say(ann, { to: "ben" }, `while it replays ${i}`)
    const { code, stdout } = await replayed
    assert.strictEqual(code, 0, stdout)
    assert.match(stdout, /Replayed \d+ events in/)
    assert.match(await prints("verify"), /no difference/)
    assert.match(await prints("dead-letters", "list"), /There are no dead letters/)
  })

  it("end in one line where there is no log, and make none", async () => {
    const MONGO_URL = freshMongoUrl()
    for (const args of [["outbox", "status"], ["verify"], ["replay"], ["dead-letters", "list"]]) {
      const { code, stderr } = await run(args, { MONGO_URL })
      assert.match(
        stderr,
        /^darda: The event log cannot be used: there is none in the database \w+ at .*MONGO_URL.*\n$/
      )
      assert.strictEqual(code, 1)
    }
    const client = new MongoClient(MONGO_URL)
    assert.deepStrictEqual(await client.db().listCollections().toArray(), [])
    await client.close()
  })
})

describe("the doctor", () => {
  const findings = async (env: Readonly<Record<string, string>> = {}) => {
    const { code, stdout } = await run(["doctor"], env)
    const wrong = stdout.split("\n").filter((line) => line.startsWith("✗"))
    assert.strictEqual(code, wrong.length === 0 ? 0 : 1, stdout)
    return { stdout, wrong }
  }

  it("is content with engines that are well and read processes of the same log", async () => {
    const { stdout, wrong } = await findings({ READ_URL: all.url })
    assert.deepStrictEqual(wrong, [])
    assert.match(stdout, /✓ MongoDB at .*: version 8\./)
    assert.match(stdout, /✓ event log in the database \w+: [0-9a-f-]{36}, format \d+, 16 partitions/)
    assert.match(stdout, /✓ RabbitMQ at .*: version 3\.|✓ RabbitMQ at .*: version 4\./)
    assert.match(stdout, /✓ Redis at .*: maxmemory-policy noeviction/)
    assert.match(stdout, /✓ READ_URL localhost:\d+: answers queries about the log [0-9a-f-]{36}/)
  })

  it("refuses a Redis that throws away, and another number of partitions than the log's, as a start does", async () => {
    await using evicting = await privateRedis({ args: ["--maxmemory-policy", "allkeys-lru"] })
    const env = { REDIS_URL: evicting.url, PARTITIONS: "8" }
    const { wrong } = await findings(env)
    assert.lengthOf(wrong, 2, wrong.join("\n"))
    assert.match(wrong[0]!, /✗ event log in the database \w+: has 16 partitions, PARTITIONS is 8: set PARTITIONS=16/)
    assert.match(wrong[1]!, /maxmemory-policy is allkeys-lru, so it may throw away .*: set noeviction/)
    const { code, stderr } = await run(["serve"], env)
    assert.match(stderr, /^darda: .* has 16 partitions, and PARTITIONS is 8\. .*PARTITIONS=16\.\n$/)
    assert.strictEqual(code, 1)
  })

  it("names the part of an address that does not fit an engine that answers", async () => {
    const { wrong } = await findings({
      MONGO_URL: log.env["MONGO_URL"]!.replace(/replicaSet=\w+/, "replicaSet=another"),
      AMQP_URL: `${log.env["AMQP_URL"]}/nowhere`,
      REDIS_URL: `${redis.url}/99`
    })
    assert.lengthOf(wrong, 3, wrong.join("\n"))
    assert.match(
      wrong[0]!,
      /✗ MongoDB at .*no member of a replica set another was found.*look at replicaSet in MONGO_URL/
    )
    assert.match(wrong[1]!, /✗ RabbitMQ at .*\/nowhere: it refuses the virtual host that AMQP_URL names/)
    assert.match(wrong[2]!, /✗ Redis at .*\/99: ERR DB index is out of range/)
  })

  it("names engines and read processes that do not answer, or are of another log or secret", async () => {
    const { wrong } = await findings({
      MONGO_URL: `mongodb://ada:hunter2@${AWAY}/?replicaSet=rs0`,
      AMQP_URL: `amqp://ada:hunter2@${AWAY}`,
      REDIS_URL: `redis://ada:hunter2@${AWAY}`,
      READ_URL: `${all.url},http://${AWAY_HTTP}`,
      CLUSTER_SECRET: READ_SECRET
    })
    assert.deepStrictEqual(
      wrong.map((line) => line.replace(/ \(.*/, "").replace(/\d{4,5}/g, "PORT")),
      [
        "✗ MongoDB at mongodb://127.0.0.1:1/: connect ECONNREFUSED 127.0.0.1:1",
        "✗ RabbitMQ at amqp://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1",
        "✗ Redis at redis://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1",
        "✗ READ_URL localhost:PORT: has another CLUSTER_SECRET; give all processes the same",
        "✗ READ_URL 127.0.0.1:PORT: does not answer: connect ECONNREFUSED 127.0.0.1:PORT"
      ]
    )
    const other = await withRoles("read", { ...log.env, MONGO_URL: freshMongoUrl() })
    others.add(other)
    await other.start()
    const mixed = await findings({ READ_URL: other.url })
    assert.lengthOf(mixed.wrong, 1)
    assert.match(
      mixed.wrong[0]!,
      /reads the log [0-9a-f-]{36}, and MONGO_URL names [0-9a-f-]{36}: one of the two is wrong/
    )
  })
})

describe("a MongoDB that does not come", () => {
  it("is waited for a minute; then the process ends with 1 and says why in one line", async () => {
    const { code, stderr, stdout } = await waiting.ended
    assert.isAbove(Date.now() - waitingSince, 55_000)
    assert.match(
      stdout,
      /warn.*MongoDB at mongodb:\/\/127\.0\.0\.1:1\/darda: no primary was found.*It is tried again\./
    )
    assert.match(
      stderr,
      /^darda: The event log did not answer \(open\): MongoDB at .*no primary was found within 5 s .*\n$/
    )
    assert.strictEqual(code, 1)
  })
})
