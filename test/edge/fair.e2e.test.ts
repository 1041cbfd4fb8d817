import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { bytesAnObject } from "../../src/edge/Allowance.ts"
import { type RunningServer, startServer } from "../support/server.ts"
import { type Talk, talk, unique } from "../support/talk.ts"

const BURST = 40
const BODY_CHARS = 16_000

let server: RunningServer
beforeAll(async () => {
  server = await startServer({ env: { LIMIT_PER_SECOND: "10", LIMIT_BURST: String(BURST) } })
})
afterAll(() => server.dispose())

/** Sends these in frames of `each`, and gives what became of them. */
const sendAll = async (one: Talk, count: number, each: number, body: string) => {
  const cids = Array.from({ length: count }, (_, i) => `${body.length}-${i}`)
  for (let from = 0; from < count; from += each)
    one.tell(cids.slice(from, from + each).map((cid) => ({ t: "send", cid, to: one.user, body })))
  const answers = await one.until(`${count} answers`, (frames) => {
    const found = frames.filter(
      ({ cid, state, t }) => cids.includes(cid as string) && (t === "err" || state === "persisted")
    )
    return found.length >= count ? found : undefined
  })
  return {
    acks: answers.filter(({ t }) => t === "ack").length,
    errs: answers.filter(({ t }) => t === "err")
  }
}

describe("limits are fair", () => {
  it("what somebody types and asks does not take the place of what they say", async () => {
    const ann = await talk(server.url, unique("ann"))
    const pings = Array.from({ length: 60 }, () => ({ t: "ping" }))
    ann.tell(pings)
    const refused = await ann.got("err", ({ code }) => code === "rate_limited")
    assert.isAbove(refused["retryAfterMs"] as number, 0)
    // The burst of commands is whole but for the hello, and no more than that.
    const { acks, errs } = await sendAll(ann, BURST + 60, 50, "hello")
    assert.isAtLeast(acks, BURST - 1)
    assert.isAbove(errs.length, 0)
    for (const { code, retryable, retryAfterMs } of errs) {
      assert.deepStrictEqual([code, retryable], ["rate_limited", true])
      assert.isAbove(retryAfterMs as number, 0)
    }
    await ann.leave()
  })

  it("the longest messages are sent as often as short ones, and frames of 64 KiB are not", async () => {
    const [ann, bob] = [await talk(server.url, unique("ann")), await talk(server.url, unique("bob"))]
    assert.strictEqual((await sendAll(ann, BURST - 1, 1, "x".repeat(BODY_CHARS))).acks, BURST - 1)
    const started = Date.now()
    const { acks, errs } = await sendAll(bob, BURST, 1, "漢".repeat(BODY_CHARS))
    const allowed = bytesAnObject(BODY_CHARS) * (BURST + ((Date.now() - started) * 10) / 1_000)
    assert.isAtMost((acks - 1) * BODY_CHARS * 3, allowed)
    const wait = Math.max(...errs.map(({ retryAfterMs }) => retryAfterMs as number))
    await new Promise((resolve) => setTimeout(resolve, wait))
    bob.tell({ t: "send", cid: "again", to: bob.user, body: "x" })
    await bob.got("ack", ({ cid }) => cid === "again")
    await Promise.all([ann.leave(), bob.leave()])
  })
})
