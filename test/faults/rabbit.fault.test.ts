/** F9, F12 and F13: commands that are refused, queues that vanish, and what nobody can read. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { darda } from "../cli/darda.ts"
import { deleteQueues, putInto, queuesOf } from "../support/fault-rabbit.ts"
import { isFull, scene, type Scene } from "../support/fault-scene.ts"
import { metrics } from "../support/fault-tools.ts"
import { type PrivateRabbit, privateRabbit } from "../support/privateEngines.ts"

let rabbit: PrivateRabbit
beforeAll(async () => {
  rabbit = await privateRabbit()
})
afterAll(() => rabbit.dispose())

/** RabbitMQ 3.10 may take half a minute until it lets a queue be declared that was deleted while others declared it. */
const REMADE_MS = 60_000

const queues = async ({ log }: Scene) => log((one) => Effect.succeed(queuesOf(one.id, one.partitions)))

describe("one bad command among a hundred (F9)", () => {
  it("is refused alone: the 99 others are persisted, in the one commit in which they all were", async () => {
    const { cluster, load } = await scene("F9", { engines: { amqpUrl: rabbit.url } })
    await load.progress(200)
    load.hush()
    await load.until("everybody is answered", 20_000, () => load.isAnswered)
    const [ann] = load.devices as [(typeof load.devices)[0]]
    const conv = load.trio
    const [writer] = cluster.writers as [(typeof cluster.writers)[0]]
    const commits = await metrics([writer], "darda_commits_total")
    // All of them are in the queue before the first is taken.
    writer.pause()
    const from = Date.now()
    const cids = ann.commands(
      Array.from({ length: 100 }, (_, i) =>
        i === 50
          ? { t: "edit", conv, target: 1_000_000, body: "of what nobody has said" }
          : { t: "send", conv, body: `one of ninety-nine, ${i}` }
      )
    )
    writer.resume()
    await load.until("all hundred are answered", 15_000, () => load.isAnswered)
    const about = (t: string): number =>
      load.heard(
        from,
        Date.now(),
        (frame) => frame.t === t && cids.includes(frame["cid"] as string) && frame["state"] !== "sent"
      )
    assert.strictEqual(about("ack"), 99)
    assert.strictEqual(about("err"), 1)
    assert.isAtMost((await metrics([writer], "darda_commits_total")) - commits, 5, "they were committed together")
    await load.settle()
  })
})

describe("queues that vanish (F12)", () => {
  it("are declared again, published to and consumed again", async () => {
    const own = await scene("F12-delete", { edges: 2, engines: { amqpUrl: rabbit.url } })
    const { load } = own
    const { commands, events } = await queues(own)
    for (let round = 0; round < (isFull ? 3 : 1); round++) {
      await load.progress(150)
      await load.quiet()
      await deleteQueues(rabbit.url, [...commands, events])
      load.go()
      await load.everyPartitionMoves(30_000)
    }
    // The one that can be deleted at any time: what was in it is in the log.
    await load.progress(150)
    await deleteQueues(rabbit.url, [events])
    await load.progress(150, REMADE_MS)
    await load.settle()
  })
})

describe("what no code can read (F13)", () => {
  it("is put to the dead letters with its reason, and the rest flows", async () => {
    const own = await scene("F13", { engines: { amqpUrl: rabbit.url } })
    const { cluster, load } = own
    const { commands, events } = await queues(own)
    await load.progress(100)
    for (const queue of [...commands, events]) {
      await putInto(rabbit.url, queue, [
        "this is no JSON",
        Buffer.from([0xff, 0x00, 0x7b]),
        JSON.stringify({ v: 1, edge: "e", counter: 1, commands: [{ conv: "dm:a:b" }] }),
        JSON.stringify({ v: 99 }),
        ""
      ])
      await load.progress(40)
    }
    await load.settle()
    const listed = await darda(["dead-letters", "list"], cluster.env).ended
    assert.strictEqual(listed.code, 0, listed.stderr)
    assert.include(listed.stdout, "not JSON")
    for (const queue of [...commands, events]) assert.include(listed.stdout, queue)
  })
})
