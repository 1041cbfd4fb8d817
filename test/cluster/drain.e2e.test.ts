import { assert, it, onTestFinished } from "@effect/vitest"
import { createServer, type IncomingMessage, request } from "node:http"
import type { AddressInfo } from "node:net"
import { WebSocket } from "ws"
import { makeCluster } from "../support/cluster.ts"
import { untilReadyz, withRoles } from "../support/operator.ts"
import { type Talk, say, talk, unique } from "../support/talk.ts"
import { until } from "../support/until.ts"

/** Enough for 2 s of turns. */
const PEOPLE = 300
const GRACE_MS = 30_000
/** Nobody is to be away for longer. */
const AWAY_MS = 5_000
const AT_ONCE = 25

/** A read process as an edge asks it, and how often it was asked for what. */
const countingReader = async (url: string) => {
  const asked = new Map<string, number>()
  const proxy = createServer((incoming, answer) => {
    const { headers, method, url: path = "" } = incoming
    asked.set(path, (asked.get(path) ?? 0) + 1)
    const passed = request(`${url}${path}`, { headers, method: method! }, (response) => {
      answer.writeHead(response.statusCode!, response.headers)
      response.pipe(answer)
    })
    passed.on("error", () => answer.destroy())
    incoming.pipe(passed)
  })
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, asked }
}

/** Goes elsewhere when it is told to, or, where it does not listen to that, when it is closed. */
const move = async (here: Talk, there: string, listens: boolean) => {
  const drain = await here.got("drain")
  const drainedAt = Date.now()
  const { max, min } = drain["reconnectAfterMs"] as { readonly min: number; readonly max: number }
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, min + Math.random() * (max - min)))
  // What is asked late is answered still.
  if (!listens) await say(here, { to: here.user }, "am I heard?")
  if (listens) await pause()
  const left = listens ? (await here.leave(), 1000) : (await here.closed()).code
  const leftAt = Date.now()
  if (!listens) await pause()
  const cursor = here.frames.findLast(({ t }) => t === "cursor")?.["cursor"] ?? here.welcome["cursor"]
  const back = await talk(there, here.user, { resume: { cursor } })
  return { back, here, drain, drainedAt, left, away: Date.now() - leftAt }
}

it("an edge that is asked to stop sends its people elsewhere, a few at a time, and loses nothing", async () => {
  const { env } = await makeCluster({ edges: 0, writers: 0, readers: 0 })
  const back = await withRoles("write,read", env)
  onTestFinished(() => back.dispose())
  await back.start()
  const reader = await countingReader(back.url)
  const leaving = await withRoles("edge", { ...env, READ_URL: back.url })
  const staying = await withRoles("edge", { ...env, READ_URL: reader.url, LIMIT_NEW_DMS_PER_HOUR: "1000" })
  for (const edge of [leaving, staying]) {
    onTestFinished(() => edge.dispose())
    await edge.start()
  }

  const people: Array<Talk> = []
  while (people.length < PEOPLE) {
    const names = Array.from({ length: AT_ONCE }, () => unique("p"))
    people.push(...(await Promise.all(names.map((name) => talk(leaving.url, name)))))
  }
  const speakers = await Promise.all(Array.from({ length: 6 }, () => talk(staying.url, unique("speaker"))))
  let speaking = true
  const said = new Map<string, number>()
  const spoken = Promise.all(
    speakers.map(async (speaker, first) => {
      for (let i = first; speaking; i = (i + speakers.length) % PEOPLE) {
        const { user } = people[i]!
        const { seq } = await say(speaker, { to: user }, "are you there?")
        said.set(`dm:${[speaker.user, user].toSorted().join(":")}`, seq)
      }
    })
  )
  await until("all speakers are heard", 15_000, () => said.size >= speakers.length)
  const asked = reader.asked.get("/query/v1/missed") ?? 0

  const moves = people.map((one, i) => move(one, staying.url, i % 2 === 0))
  const stoppedAt = Date.now()
  const ended = leaving.stop()
  await untilReadyz(leaving, 503, /going away/)
  const refused = await new Promise<IncomingMessage>((resolve, reject) => {
    const late = new WebSocket(`${leaving.url.replace("http", "ws")}/v1/ws`)
    late.once("unexpected-response", (_request, response) => resolve(response))
    late.once("open", () => reject(new Error("a process that leaves takes connections")))
    late.once("error", reject)
  })
  const moved = await Promise.all(moves)
  assert.strictEqual(await ended, 0, leaving.output)
  assert.isBelow(Date.now() - stoppedAt, GRACE_MS)
  speaking = false
  await spoken

  assert.strictEqual(refused.statusCode, 503)
  assert.isAtLeast(Number(refused.headers["retry-after"]), 1)
  const drainedAt = moved.map((one) => one.drainedAt)
  assert.isAbove(Math.max(...drainedAt) - Math.min(...drainedAt), 1_500, "they are told one after the other")
  for (const { away, drain, here, left } of moved) {
    assert.deepStrictEqual(drain["reconnectAfterMs"], { min: 0, max: 500 })
    assert.isAbove(drain["deadlineMs"] as number, 0)
    assert.isBelow(drain["deadlineMs"] as number, GRACE_MS)
    assert.include([1000, 4000], left)
    assert.isBelow(away, AWAY_MS, here.user)
  }
  assert.strictEqual(moved.filter(({ left }) => left === 4000).length, PEOPLE / 2)
  assert.strictEqual((reader.asked.get("/query/v1/missed") ?? 0) - asked, PEOPLE, "one read of the inbox each")

  const seqs = (one: (typeof moved)[number], conv: string): ReadonlyArray<unknown> => [
    ...new Set([...one.here.events(conv), ...one.back.events(conv)].map(({ seq }) => seq))
  ]
  for (const [conv, head] of said) {
    const one = moved.find(({ here }) => conv.split(":").includes(here.user))!
    await until(`${conv} is complete`, 15_000, () => seqs(one, conv).length === head)
    assert.deepStrictEqual(
      seqs(one, conv),
      Array.from({ length: head }, (_, i) => i + 1),
      conv
    )
  }
  await Promise.all([...speakers, ...moved.map(({ back }) => back)].map((one) => one.leave()))
})
