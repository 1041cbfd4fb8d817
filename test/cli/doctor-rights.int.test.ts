/** `darda doctor` on users who may less than they need. */
import { assert, describe, it } from "@effect/vitest"
import { Redis } from "ioredis"
import { freshMongoUrl } from "../support/engines.ts"
import { privateRabbit, privateRedis } from "../support/privateEngines.ts"
import { darda } from "./darda.ts"

const CLUSTER_SECRET = "the secret of a cluster that only tests know"

describe("the doctor", () => {
  it("says what users of RabbitMQ and Redis may not, and leaves nothing behind", async () => {
    await using rabbit = await privateRabbit()
    await using redis = await privateRedis()
    const wrong = async (amqpUrl: string, redisUrl: string): Promise<ReadonlyArray<string>> => {
      const { code, stdout } = await darda(["doctor"], {
        PORT: "0",
        CLUSTER_SECRET,
        MONGO_URL: freshMongoUrl(),
        AMQP_URL: amqpUrl,
        REDIS_URL: redisUrl
      }).ended
      const found = stdout.split("\n").filter((line) => line.startsWith("✗"))
      assert.strictEqual(code, found.length === 0 ? 0 : 1, stdout)
      return found
    }
    const as = (url: string): string => url.replace("//", "//limited:limited@")

    await rabbit.ctl("add_user", "limited", "limited")
    const rights = (...three: ReadonlyArray<string>) => rabbit.ctl("set_permissions", "limited", ...three)
    const client = new Redis(redis.url)
    try {
      await client.call("ACL", "SETUSER", "limited", "on", ">limited", "~darda:*", "&*", "+@all")
      // As docs/operations.md says.
      await rights("^darda\\..*", "^(darda\\..*|amq\\.default)$", "^darda\\..*")
      assert.deepStrictEqual(await wrong(as(rabbit.url), as(redis.url)), [])

      await client.call("ACL", "SETUSER", "limited", "-@write")
      await rights("^other$", ".*", ".*")
      const [makes, writes] = await wrong(as(rabbit.url), as(redis.url))
      assert.match(makes!, /✗ RabbitMQ at .*: the user in AMQP_URL may not make queues: it needs to/)
      assert.match(writes!, /✗ Redis at .*: the user in REDIS_URL may not write keys/)

      await rights(".*", "^darda\\..*", "^other$")
      const [reads] = await wrong(as(rabbit.url), redis.url)
      assert.match(reads!, /may not write to them and not read them: it needs to/)

      assert.deepStrictEqual(await client.keys("*doctor*"), [])
      assert.notInclude(await rabbit.ctl("list_queues", "name"), "doctor")
    } finally {
      client.disconnect()
    }
  })

  it("says when few open files are allowed", async () => {
    const few = await darda(["doctor"], { PORT: "0" }, ["sh", "-c", 'ulimit -n 1000; exec "$0" "$@"', process.execPath])
      .ended
    assert.match(few.stdout, /! only 1000 open files, one for each connection: raise it with ulimit -n 65536/)
    const many = await darda(["doctor"], { PORT: "0" }, [
      "sh",
      "-c",
      'ulimit -n 4096; exec "$0" "$@"',
      process.execPath
    ]).ended
    assert.match(many.stdout, /✓ up to 4096 open files/)
  })
})
