import { afterEach, assert, describe, it } from "@effect/vitest"
import type { IncomingMessage } from "node:http"
import { WebSocket } from "ws"
import { type RunningServer, startServer } from "../support/server.ts"
import { until } from "../support/until.ts"

/** How a server answered a wish to connect: an open socket, or a refusal over HTTP. */
interface Answer {
  readonly status: number
  readonly retryAfter: number
  readonly type: string
  readonly body: Readonly<Record<string, unknown>>
  readonly socket: WebSocket
}

const sockets: Array<WebSocket> = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate()
})

const V1 = "/v1/ws"
const LEGACY = "/api/v1/ws?id=ann"

const knock = async (server: RunningServer, path = V1, headers: Record<string, string> = {}): Promise<Answer> => {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}${path}`, { headers })
  sockets.push(socket)
  const answer = await new Promise<IncomingMessage | undefined>((resolve, reject) => {
    socket.once("open", () => resolve(undefined))
    socket.once("unexpected-response", (_request, response) => resolve(response))
    socket.once("error", reject)
  })
  socket.on("error", () => {})
  if (answer === undefined) return { status: 101, retryAfter: 0, type: "", body: {}, socket }
  let text = ""
  for await (const part of answer) text += String(part)
  return {
    status: answer.statusCode ?? 0,
    retryAfter: Number(answer.headers["retry-after"]),
    type: answer.headers["content-type"] ?? "",
    body: JSON.parse(text) as Answer["body"],
    socket
  }
}

const refusals = async (server: RunningServer, reason: string): Promise<number> => {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  return Number(new RegExp(`^darda_connects_refused_total\\{reason="${reason}"\\} (\\d+)`, "m").exec(text)?.[1])
}

const assertProblem = (
  { body, retryAfter, status, type }: Answer,
  expected: { status: number; code: string }
): void => {
  assert.strictEqual(status, expected.status)
  assert.match(type, /^application\/problem\+json/)
  assert.deepInclude(body, { type: "about:blank", ...expected })
  assert.isString(body["detail"])
  assert.strictEqual(retryAfter, Math.ceil((body["retryAfterMs"] as number) / 1000))
  assert.isAtLeast(retryAfter, 1)
  assert.isAtMost(retryAfter, 5)
}

describe("who may connect", () => {
  it("no more than the process has places for, on both of its sockets together", async () => {
    await using server = await startServer({ env: { LIMIT_CONNECTIONS: "3" } })
    assert.strictEqual(await refusals(server, "full"), 0)
    const [first] = [await knock(server), await knock(server, LEGACY), await knock(server)]
    assertProblem(await knock(server), { status: 503, code: "busy" })
    const legacy = await knock(server, LEGACY)
    assert.strictEqual(legacy.status, 503)
    assert.deepEqual(Object.keys(legacy.body), ["error"])
    assert.isAtLeast(legacy.retryAfter, 1)
    assert.strictEqual(await refusals(server, "full"), 2)
    first.socket.close()
    await until("the place is free again", 15_000, async () => (await knock(server)).status === 101)
    assert.strictEqual((await knock(server)).status, 503)
  })

  it("no more than so many a second", async () => {
    await using server = await startServer({ env: { LIMIT_CONNECTS_PER_SECOND: "5" } })
    const started = Date.now()
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => knock(server, i % 2 === 0 ? V1 : LEGACY)))
    const most = 5 + Math.ceil(((Date.now() - started) * 5) / 1000)
    const taken = answers.filter(({ status }) => status === 101).length
    assert.isAtLeast(taken, 5)
    assert.isAtMost(taken, most)
    for (const answer of answers) {
      if (answer.status !== 101 && answer.body["error"] === undefined)
        assertProblem(answer, { status: 503, code: "busy" })
    }
    assert.strictEqual(await refusals(server, "rate"), 60 - taken)
    await until("there are new ones again", 15_000, async () => (await knock(server)).status === 101)
  })

  it("no more than so many from one address, as the proxies that are trusted tell it", async () => {
    await using server = await startServer({ env: { LIMIT_ADDRESS_CONNECTIONS: "2", TRUSTED_PROXIES: "1" } })
    const from = (address: string, path = V1) => knock(server, path, { "x-forwarded-for": address })
    const first = await from("2001:db8::1")
    assert.strictEqual((await from("2001:db8::2", LEGACY)).status, 101)
    assertProblem(await from("2001:db8::3"), { status: 429, code: "rate_limited" })
    // What a client claims before the proxy's own word does not make it another one.
    assert.strictEqual((await from("192.0.2.1, 2001:db8::4")).status, 429)
    assert.strictEqual((await from("2001:db8::5", LEGACY)).status, 429)
    assert.strictEqual((await from("2001:db8:0:1::1")).status, 101)
    assert.strictEqual(await refusals(server, "address"), 3)
    first.socket.close()
    await until("its place is free again", 15_000, async () => (await from("2001:db8::6")).status === 101)
  })
})
