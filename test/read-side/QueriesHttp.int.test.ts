import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { makeQueryHttp } from "../../src/edge/http/RoleHttp.ts"
import { Queries } from "../../src/read-side/Queries.ts"
import { layerHttp } from "../../src/read-side/QueriesHttp.ts"
import { layer as queriesLive } from "../../src/read-side/QueriesLive.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerMemory as readModelsMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { EventLog, LogHeads } from "../../src/write-side/EventLog.ts"
import { layerMemory as logMemory, makeMemoryLog } from "../../src/write-side/EventLogMemory.ts"
import { historyOf } from "../support/histories.ts"
import { appendHistory } from "../support/historyLog.ts"

const PARTITIONS = 4
const SECRET = Redacted.make("a secret of this cluster, and 32+")
const history = historyOf(7, 400, { partitions: PARTITIONS })
const heads = history.logs.map((log) => log.length)

const told = (name: string) =>
  Effect.map(PrometheusMetrics.format(), (text) => Number(new RegExp(`^${name} (.*)`, "m").exec(text)?.[1]))

/** A read process as the network sees it. */
const listening = (server: Server): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
      )
    }),
    () => Effect.sync(() => server.close().closeAllConnections())
  )

const reader = Effect.gen(function* () {
  const ports = Layer.mergeAll(logMemory(makeMemoryLog(PARTITIONS)), readModelsMemory(makeReadModelsEngine(PARTITIONS)))
  const context = yield* Layer.build(Layer.fresh(queriesLive.pipe(Layer.provideMerge(ports))))
  yield* appendHistory(Context.get(context, EventLog), history)
  yield* Context.get(context, ReadModels).apply(history.logs.map((events, partition) => ({ partition, events })))
  const listener = yield* Effect.provide(makeQueryHttp(SECRET), context)
  const url = yield* listening(createServer(listener))
  return { url, local: Context.get(context, Queries), log: Context.get(context, EventLog) }
})

const remote = (urls: ReadonlyArray<string>) => Layer.build(Layer.fresh(layerHttp({ urls, secret: SECRET })))

/** As JSON has it, in which what is undefined is not there. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

/** Everything that can be asked about some conversations, refusals included. */
const everything = Effect.fnUntraced(function* (queries: Queries["Service"]) {
  const answers: Array<unknown> = []
  const convs = [...history.conversations.keys()].slice(0, 6)
  for (const user of [...history.users.slice(0, 3), "stranger"]) {
    for (const conv of [...convs, "dm:u1:u9"]) {
      for (const page of [{}, { before: 4 }, { after: 2 }, { around: 5 }]) {
        answers.push(yield* Effect.result(queries.history(user, { conv, limit: 3, ...page }, heads)))
      }
      answers.push(yield* Effect.result(queries.sync(user, { conv, after: 1, limit: 4 }, heads)))
      answers.push(yield* Effect.result(queries.roster(user, { conv, limit: 2 }, heads)))
      answers.push(yield* queries.audience(user, conv, heads))
      answers.push(yield* queries.pull(conv, 0, 3))
    }
    answers.push(yield* queries.acquainted(user, [...history.users, "nobody"].slice(0, 200), heads))
    const first = yield* queries.convs(user, { limit: 2 }, heads)
    answers.push(first, yield* Effect.result(queries.convs(user, { limit: 2, after: "no cursor" }, heads)))
    for (const since of [undefined, heads.map((head) => Math.floor(head / 2))]) {
      answers.push(yield* queries.missed({ user, since, seqs: { [convs[0]!]: 1 }, barrier: heads }))
    }
  }
  return answers
})

describe("queries asked of a read process", () => {
  it.live("answer what they answer in that process, refusals included", () =>
    Effect.gen(function* () {
      const { local, log, url } = yield* reader
      const context = yield* remote([url])
      const asked = yield* everything(Context.get(context, Queries))
      assert.deepStrictEqual(plain(asked), plain(yield* everything(local)))
      const known = Context.get(context, LogHeads)
      assert.deepStrictEqual(
        { id: known.id, partitions: known.partitions, heads: yield* known.heads },
        { id: log.id, partitions: PARTITIONS, heads }
      )
    })
  )

  it.live("are not answered to who does not know the cluster's secret", () =>
    Effect.gen(function* () {
      const { url } = yield* reader
      for (const authorization of [undefined, "Bearer ", "Bearer wrong", `Bearer ${Redacted.value(SECRET)}`]) {
        const answer = yield* Effect.promise(() =>
          fetch(`${url}/query/v1/heads`, { headers: authorization === undefined ? {} : { authorization } })
        )
        assert.strictEqual(answer.status, 401)
        assert.notInclude(yield* Effect.promise(() => answer.text()), "heads")
      }
    })
  )

  it.live("go to another read process when one has died, and say so when none is left", () =>
    Effect.gen(function* () {
      const { local, url } = yield* reader
      const gone = createServer()
      const dead = yield* Effect.scoped(listening(gone))
      const queries = Context.get(yield* remote([dead, url]), Queries)
      const user = history.users[0]!
      const expected = yield* local.convs(user, { limit: 5 }, heads)
      for (let i = 0; i < 10; i++) {
        assert.deepStrictEqual<unknown>(yield* queries.convs(user, { limit: 5 }, heads), plain(expected))
      }
      assert.isFalse(gone.listening)
      assert.isAtLeast(yield* told("darda_query_retries_total"), 5)
      assert.strictEqual(yield* told("darda_query_breakers_open"), 1)
    })
  )

  it.live("are refused at once, and not after a time-out each, while a read process does not answer", () =>
    Effect.gen(function* () {
      const { local: _, url } = yield* reader
      // Answers what log it is, and nothing after that.
      let silent = false
      const proxy = createServer((request, response) => {
        if (silent) return void response.destroy()
        void fetch(`${url}${request.url}`, { headers: { authorization: request.headers.authorization ?? "" } }).then(
          async (answer) =>
            response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text())
        )
      })
      const queries = Context.get(yield* remote([yield* listening(proxy)]), Queries)
      silent = true
      let asked = 0
      proxy.on("request", () => asked++)
      for (let i = 0; i < 50; i++) {
        const refused = yield* Effect.flip(queries.pull("dm:u1:u2", 0, 1))
        assert.strictEqual(refused.code, "unavailable")
      }
      assert.isAtMost(asked, 15, "a read process that fails is left alone for a while")
    })
  )
})
