import { afterAll, afterEach, assert, beforeAll, describe, it } from "@effect/vitest"
import { type Cluster, makeCluster } from "../support/cluster.ts"
import { ask, startInVain, untilReadyz, untilSays, withRoles } from "../support/operator.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"
import type { DardaProcess } from "../support/process.ts"
import { httpAs, say, talk, unique } from "../support/talk.ts"
import { until } from "../support/until.ts"

/** One log for all, cut into processes in another way by each test. */
let log: Cluster
let mine: PrivateMongo
beforeAll(async () => {
  ;[log, mine] = await Promise.all([makeCluster({ edges: 0, writers: 0, readers: 0 }), privateMongo()])
})
afterAll(() => mine.dispose())

const running = new Set<DardaProcess>()
afterEach(async () => {
  await Promise.all([...running].map((one) => one.dispose()))
  running.clear()
})
const make = async (roles: string, env: Readonly<Record<string, string>> = {}): Promise<DardaProcess> => {
  const one = await withRoles(roles, { ...log.env, ...env })
  running.add(one)
  return one
}
const started = async (roles: string, env: Readonly<Record<string, string>> = {}): Promise<DardaProcess> => {
  const one = await make(roles, env)
  await one.start()
  return one
}

/** What ann said in her conversation with ben, in all tests so far. */
const saidBefore: Array<string> = []

/** A message from ann at one edge reaches ben at the other; both read all that was ever said at either. */
const talksAcross = async (one: DardaProcess, other: DardaProcess): Promise<void> => {
  const [ann, ben] = await Promise.all([talk(one.url, "ann"), talk(other.url, "ben")])
  for (const [from, to, body] of [
    [ann, ben, unique("from ann")],
    [ben, ann, unique("from ben")]
  ] as const) {
    const { seq } = await say(from, { to: to.user }, body)
    saidBefore.push(body)
    const event = await to.got("event", (frame) => frame["seq"] === seq)
    assert.strictEqual((event["data"] as { readonly body: string }).body, body)
  }
  for (const { url } of [one, other]) {
    const { body } = await (await httpAs(url, "ben")).get("/v1/conversations/dm:ann:ben/messages?limit=200")
    assert.deepStrictEqual(
      (body["messages"] as Array<{ readonly body: string }>).map((message) => message.body),
      saidBefore
    )
  }
  await Promise.all([ann.leave(), ben.leave()])
}

const endWith0 = async (...processes: ReadonlyArray<DardaProcess>): Promise<void> => {
  for (const one of processes) assert.strictEqual(await one.stop(), 0, one.output)
}

describe("roles in any combination", () => {
  it("all in one process", async () => {
    const all = await started("edge,write,read")
    await talksAcross(all, all)
    await endWith0(all)
  })

  it("edge and read beside write", async () => {
    const [front, back] = await Promise.all([started("edge,read"), started("write")])
    await talksAcross(front, front)
    await endWith0(front, back)
  })

  it("write and read beside two edges, of which one starts before there is anyone to ask", async () => {
    const back = await make("write,read")
    const early = await make("edge", { READ_URL: back.url })
    const waiting = early.start()
    await untilSays(early, /Learning which log this is: localhost:\d+/)
    await untilReadyz(early, 503, /this process is starting/)
    assert.strictEqual((await ask(early, "/healthz")).status, 200)
    await back.start()
    await waiting
    const late = await started("edge", { READ_URL: back.url })
    await talksAcross(early, late)
    await endWith0(early, late, back)
  })

  it("two of each, and one reader and one writer that die", async () => {
    const readers = await Promise.all([started("read"), started("read")])
    const READ_URL = readers.map(({ url }) => url).join(",")
    const [writers, edges] = await Promise.all([
      Promise.all([started("write"), started("write")]),
      Promise.all([started("edge", { READ_URL }), started("edge", { READ_URL })])
    ])
    const [one, other] = edges
    await talksAcross(one, other)
    await Promise.all([readers[0].kill9(), writers[0].kill9()])
    await talksAcross(other, one)
    // Nobody left to ask: it is said, and nothing is made up.
    await readers[1].kill9()
    await untilReadyz(one, 503, /heads of the log: .*No read process answers/)
    const { body, status } = await (await httpAs(one.url, "ann")).get("/v1/conversations/dm:ann:ben/messages")
    assert.deepStrictEqual([status, body["code"]], [503, "unavailable"])
    await readers[0].start()
    await untilReadyz(one, 200)
    await talksAcross(one, other)
  })
})

describe("each process by itself", () => {
  const QUERY = "/query/v1/log"

  it("answers health, readiness and metrics, nothing else, and queries only to who knows the secret", async () => {
    const read = await started("read")
    const [write, edge] = await Promise.all([started("write"), started("edge", { READ_URL: read.url })])
    await talksAcross(edge, edge)
    const series = { read: "darda_read_models_behind_events", write: "darda_commits_total", edge: "darda_connections" }
    for (const [role, one] of Object.entries({ read, write, edge })) {
      assert.deepStrictEqual(await ask(one, "/healthz"), { status: 200, text: '{"status":"ok"}' }, role)
      assert.strictEqual((await ask(one, "/readyz")).status, 200, role)
      await until(`${role} has metrics of its role`, 10_000, async () =>
        (await ask(one, "/metrics")).text.includes(`\n${series[role as keyof typeof series]}`)
      )
      for (const path of ["/nothing", "/healthz/", "/query", "/query/v1/", "/query/v1/nothing"])
        assert.strictEqual((await ask(one, path)).status, 404, `${role} ${path}`)
      assert.strictEqual((await ask(one, "/healthz", { method: "POST" })).status, 405, role)
    }
    for (const path of ["/v1/me", "/v1/ws", "/docs", "/openapi.json", "/"])
      for (const one of [read, write]) assert.strictEqual((await ask(one, path)).status, 404, path)
    // An edge has no query API, whoever asks; a reader has it for those who know the secret.
    for (const authorization of [undefined, "Bearer ", `Bearer ${"x".repeat(43)}`, log.env["CLUSTER_SECRET"]!]) {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
      for (const path of [QUERY, "/query/v1/heads"]) {
        const refused = await ask(read, path, { headers })
        assert.strictEqual(refused.status, 401, `${authorization} ${refused.text}`)
        for (const one of [write, edge]) assert.strictEqual((await ask(one, path, { headers })).status, 404)
      }
      const body = JSON.stringify({ user: "ann", atLeast: [], request: { conv: "dm:ann:ben", limit: 1 } })
      const post = { method: "POST", body, headers: { ...headers, "content-type": "application/json" } }
      assert.strictEqual((await ask(read, "/query/v1/history", post)).status, 401)
    }
    // Leaving, it is there for those who are still connected, and for nobody new.
    const staying = await talk(edge.url, "ann")
    const stopping = edge.stop()
    await untilReadyz(edge, 503, /drain: this server is going away/)
    assert.strictEqual((await ask(edge, "/healthz")).status, 200)
    await staying.got("drain")
    await staying.leave()
    assert.strictEqual(await stopping, 0, edge.output)
  })

  it("with another secret an edge waits, and says why", async () => {
    const read = await started("read")
    const edge = await make("edge", { READ_URL: read.url, CLUSTER_SECRET: "not the secret that the others know" })
    const start = edge.start().catch(() => {})
    await untilSays(edge, /Learning which log this is: .*another CLUSTER_SECRET/)
    await edge.kill9()
    await start
  })

  it("without a secret AUTH=dev keeps one with the log: tokens of one process are good at the others", async () => {
    const { CLUSTER_SECRET: _, ...env } = log.env
    const processes = await Promise.all(["edge,read", "edge,write,read"].map((roles) => withRoles(roles, env)))
    processes.forEach((one) => running.add(one))
    await Promise.all(processes.map((one) => one.start()))
    const read = processes[0]!
    const edge = await withRoles("edge", { ...env, READ_URL: read.url })
    running.add(edge)
    await edge.start()
    const all = [...processes, edge]
    for (const one of all) {
      const made = await ask(one, "/v1/auth/dev", {
        method: "POST",
        body: JSON.stringify({ user: "ann" }),
        headers: { "content-type": "application/json" }
      })
      const authorization = `Bearer ${(JSON.parse(made.text) as { readonly token: string }).token}`
      for (const other of all)
        assert.strictEqual((await ask(other, "/v1/conversations", { headers: { authorization } })).status, 200)
    }
  })
})

describe("engines that are away", () => {
  it("MongoDB at the start: it is waited for, and the process says so", async () => {
    const env = { MONGO_URL: mine.url }
    await mine.kill9()
    const read = await make("read", env)
    const start = read.start()
    await untilSays(read, /warn .*MongoDB at mongodb:\/\/127\.0\.0\.1:\d+.*no primary was found.* It is tried again\./)
    assert.strictEqual((await ask(read, "/healthz")).status, 200)
    await untilReadyz(read, 503, /start: this process is starting/)
    await mine.restart()
    await start
    await untilReadyz(read, 200)
    // And when it goes away later.
    await mine.kill9()
    await untilReadyz(read, 503, /event log: /)
    await mine.restart()
    await untilReadyz(read, 200)
    assert.strictEqual(await read.stop(), 0)
  })

  it("RabbitMQ or Redis: each process is there, is not ready, and says why", async () => {
    const away = "127.0.0.1:1"
    const [rabbit, redis] = await Promise.all([
      started("edge,write,read", { AMQP_URL: `amqp://someone:hunter2@${away}` }),
      started("edge,write,read", { REDIS_URL: `redis://someone:hunter2@${away}` })
    ])
    await untilReadyz(rabbit, 503, /commands out: .*RabbitMQ did not take a connection: connect ECONNREFUSED/)
    await untilReadyz(redis, 503, /routes: no connection to Redis at redis:\/\/127\.0\.0\.1:1: connect ECONNREFUSED/)
    for (const one of [rabbit, redis]) {
      assert.strictEqual((await ask(one, "/healthz")).status, 200)
      assert.notInclude(one.output, "hunter2")
      assert.strictEqual(await one.stop(), 0, one.output)
    }
  })

  it("and what trying again does not help ends the start in one line", async () => {
    for (const [env, says] of [
      [{ PARTITIONS: "7" }, /has 16 partitions, and PARTITIONS is 7.* start with PARTITIONS=16\.$/],
      [{ MONGO_URL: "mongodb://u:hunter2@%%%" }, /MONGO_URL: its address must look like mongodb:\/\//],
      [{ REDIS_URL: "redis://u:hunter2@host:port" }, /REDIS_URL is hidden, 27 characters; allowed: a URL that/],
      [{ AMQP_URL: "amqp://u:hunter2@" }, /AMQP_URL is hidden, 17 characters; allowed: a URL that/]
    ] as const) {
      const one = await make("read,write", env)
      const { code, said } = await startInVain(one)
      assert.deepStrictEqual([code, said.length], [1, 1], one.output)
      assert.match(said[0]!, says)
      assert.notInclude(one.output, "hunter2")
    }
  })
})
