/** What people notice while the log takes long: nothing is persisted, and they go on talking. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type Cluster, startCluster } from "../support/cluster.ts"
import { engines } from "../support/engines.ts"
import { metrics } from "../support/fault-tools.ts"
import { privateMongo, type PrivateMongo } from "../support/privateEngines.ts"
import { makeGroup, say, talk, type Talk, unique } from "../support/talk.ts"

let mongo: PrivateMongo
let cluster: Cluster
beforeAll(async () => {
  mongo = await privateMongo()
  const { amqpUrl, redisUrl } = engines()
  // Longer than any commit takes on a busy machine, so that what is told early is told because the log stands still.
  const env = { LIVE_HEDGE_MS: "3000" }
  cluster = await startCluster({ edges: 2, env, engines: { mongoUrl: mongo.url, amqpUrl, redisUrl } })
})
afterAll(async () => {
  await cluster.dispose()
  await mongo.dispose()
})

/** Two people on different edges. */
const two = async (): Promise<readonly [Talk, Talk]> =>
  Promise.all([talk(cluster.edges[0]!.url, unique("ann")), talk(cluster.edges[1]!.url, unique("bob"))])

/** What was said of one command, in order. */
const about = (at: Talk, cid: string) => at.frames.filter((frame) => frame["cid"] === cid)

const whileStopped = async (act: () => Promise<void>): Promise<void> => {
  mongo.stop()
  try {
    await act()
  } finally {
    mongo.cont()
  }
}

describe("while the log does not answer", () => {
  it("a message is sent and goes out as live, and its event settles it when the log is back", async () => {
    const [ann, bob] = await two()
    const { conv } = await say(ann, { to: bob.user }, "before")
    await bob.got("event")
    await whileStopped(async () => {
      ann.tell({ t: "send", cid: "late", conv, body: "still here", replyTo: 1 })
      const live = await bob.got("live", ({ cid }) => cid === "late")
      const { at, ...rest } = live
      assert.isNumber(at)
      assert.deepStrictEqual(rest, {
        t: "live",
        conv,
        cid: "late",
        by: ann.user,
        type: "message",
        data: { kind: "text", body: "still here", replyTo: 1 }
      })
      assert.deepStrictEqual(about(ann, "late"), [{ t: "ack", cid: "late", conv, state: "sent" }])
    })
    const event = await bob.got("event", ({ cid }) => cid === "late")
    assert.strictEqual(event["seq"], 2)
    await ann.got("ack", ({ cid, state }) => cid === "late" && state === "persisted")
    assert.deepStrictEqual(
      about(ann, "late").map(({ state }) => state),
      ["sent", "persisted"]
    )
    assert.deepStrictEqual(
      about(bob, "late").map(({ t }) => t),
      ["live", "event"]
    )
  })

  it("what is refused in the end is taken back where it was seen", async () => {
    const [ann, bob] = await two()
    const { conv } = await say(ann, { to: bob.user }, "before")
    await bob.got("event")
    await whileStopped(async () => {
      ann.tell({ t: "send", cid: "wrong", conv, body: "an answer to nothing", replyTo: 99 })
      await bob.got("live", ({ cid }) => cid === "wrong")
    })
    const unlive = await bob.got("unlive")
    const err = await ann.got("err", ({ cid }) => cid === "wrong")
    assert.deepStrictEqual(unlive, { t: "unlive", conv, cid: "wrong", by: ann.user, code: err["code"] })
    for (const name of ["darda_hedged_sent_total", "darda_hedged_live_total", "darda_hedged_unlive_total"])
      assert.isAbove(await metrics(cluster.edges, name), 0, name)
  })

  it("goes to members alone", async () => {
    const [ann, bob] = await two()
    const [eve] = await two()
    const conv = await makeGroup(ann, [bob.user])
    await bob.got("event")
    await whileStopped(async () => {
      eve.tell({ t: "send", cid: "intruder", conv, body: "let me in" })
      ann.tell({ t: "send", cid: "own", conv, body: "between us" })
      await bob.got("live", ({ cid }) => cid === "own")
      await eve.got("ack", ({ cid }) => cid === "intruder")
    })
    await eve.got("err", ({ cid }) => cid === "intruder")
    await bob.got("event", ({ cid }) => cid === "own")
    assert.deepStrictEqual(about(bob, "intruder"), [])
    assert.deepStrictEqual(about(eve, "own"), [])
  })
})

describe("while the log answers", () => {
  it("nobody is told of anything before it is persisted", async () => {
    const [ann, bob] = await two()
    const { conv } = await say(ann, { to: bob.user }, "first")
    for (let i = 0; i < 50; i++) await say(ann, { conv }, `message ${i}`)
    await bob.got("event", ({ seq }) => seq === 51)
    assert.deepStrictEqual(
      [...ann.frames, ...bob.frames].filter(({ state, t }) => t === "live" || state === "sent"),
      []
    )
  })
})
