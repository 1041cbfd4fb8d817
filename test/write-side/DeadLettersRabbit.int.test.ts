import { assert, describe, it } from "@effect/vitest"
import type { Options } from "amqplib"
import { Effect } from "effect"
import {
  type DeadLettersOptions,
  dropLetters,
  listLetters,
  retryLetters,
  showLetter
} from "../../src/write-side/DeadLettersRabbit.ts"
import { engines } from "../support/engines.ts"
import {
  commandOf,
  following,
  freshScope,
  joinCommandBus,
  offering,
  onChannel,
  rabbitAddress,
  until
} from "../support/rabbit.ts"

const PARTITIONS = 1

/** An edge, what the committer is given, and a way to put anything into their queue. */
const opened = Effect.gen(function* () {
  const { amqpUrl } = engines()
  const scope = yield* freshScope(amqpUrl, PARTITIONS)
  const options: DeadLettersOptions = { address: rabbitAddress(amqpUrl), scope }
  const bus = yield* joinCommandBus(amqpUrl, scope, PARTITIONS, "e1")
  const load = offering(bus, PARTITIONS)
  const committer = yield* following(yield* bus.consumer, PARTITIONS)
  load.offer()
  yield* committer.hasAll(load.taken)
  const queue = `darda.${scope}.commands.0`
  const put = (to: string, messages: ReadonlyArray<string | Buffer>, options: Options.Publish = {}) =>
    onChannel(amqpUrl, async (channel) => {
      for (const message of messages) channel.sendToQueue(to, Buffer.from(message), options)
      await channel.checkQueue(to)
    })
  const waiting = (name: string) => onChannel(amqpUrl, async (channel) => (await channel.checkQueue(name)).messageCount)
  const letters = (count: number) =>
    listLetters(options).pipe(
      Effect.filterOrFail(({ letters }) => letters.length === count),
      Effect.eventually,
      Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(`never ${count} letters`) }),
      Effect.map((found) => found.letters)
    )
  return { options, load, committer, queue, put, waiting, letters, scope }
})

const batch = (edge: string, n: number) => JSON.stringify({ v: 1, edge, counter: 7, commands: [commandOf(n)] })

describe("Dead letters in RabbitMQ", () => {
  it.live("are what nobody can read, with the reason; the rest flows", () =>
    Effect.gen(function* () {
      const { committer, letters, load, put, queue } = yield* opened
      const other = { ...commandOf(1), conv: "dm:ann" }
      const rubbish = [
        "not JSON \u001b[2J",
        Buffer.from([0xff, 0xfe, 0x00]),
        "",
        "null",
        "[]",
        JSON.stringify({ v: 2, edge: "e9", counter: 1, commands: [] }),
        JSON.stringify({ v: 1, edge: "e9", counter: 0, commands: [] }),
        JSON.stringify({ v: 1, edge: "e9", counter: 1, commands: [other] }),
        JSON.stringify({ v: 1, edge: "e9", counter: 1, commands: [{ ...commandOf(1), intent: { type: "send" } }] })
      ]
      for (let round = 0; round < 10; round++) {
        for (let i = 0; i < 20; i++) load.offer()
        yield* put(queue, rubbish)
      }
      for (let i = 0; i < 20; i++) load.offer()
      yield* committer.hasAll(load.taken)
      const found = yield* letters(10 * rubbish.length)
      assert.strictEqual(new Set(found.map(({ id }) => id)).size, found.length)
      for (const letter of found) {
        assert.strictEqual(letter.queue, queue)
        assert.isBelow(Math.abs(Date.parse(letter.time) - Date.now()), 60_000)
        assert.match(letter.reason, /^it is no(t JSON$| batch of commands: )/)
      }
      const first = found.find(({ size }) => size === rubbish[0]!.length)
      assert.strictEqual(first!.start, rubbish[0])
      assert.strictEqual(first!.reason, "it is not JSON")
    })
  )

  it.live("are also what could be read and not be committed: too much for one commit", () =>
    Effect.gen(function* () {
      const { committer, letters, load, put, queue } = yield* opened
      const commands = Array.from({ length: 501 }, (_, n) => commandOf(n))
      const body = "x".repeat(4 * 1024 * 1024)
      yield* put(queue, [
        JSON.stringify({ v: 1, edge: "e9", counter: 1, commands }),
        JSON.stringify({ v: 1, edge: "e9", counter: 1, commands: [commandOf(1, body)] })
      ])
      load.offer()
      yield* committer.hasAll(load.taken)
      const reasons = (yield* letters(2)).map(({ reason }) => reason)
      assert.strictEqual(reasons[0], "it holds 501 commands; at most 500 are one batch")
      assert.match(reasons[1]!, /^it has \d+ bytes; at most 4194304 are read$/)
    })
  )

  it.live("are shown, sent back and thrown away by their ids", () =>
    Effect.gen(function* () {
      const { committer, letters, options, put, queue, waiting } = yield* opened
      yield* put(queue, ["one", "two", "three"])
      const found = yield* letters(3)
      const [one, two] = found.map(({ id }) => id)
      const shown = yield* showLetter(options, one!)
      assert.strictEqual(shown?.content.toString(), found[0]!.start)
      assert.isUndefined(yield* showLetter(options, "nobody"))

      const dropped = yield* dropLetters(options, [one!, "nobody"])
      assert.deepStrictEqual<unknown>(dropped, { done: [one], kept: [], missing: ["nobody"] })
      // What is still unreadable is put aside again, as another letter.
      const retried = yield* retryLetters(options, [two!])
      assert.deepStrictEqual<unknown>(retried, { done: [two], kept: [], missing: [] })
      const left = yield* letters(2)
      assert.notInclude(
        left.map(({ id }) => id),
        two
      )
      assert.lengthOf((yield* dropLetters(options, "all")).done, 2)
      assert.deepStrictEqual<unknown>(yield* listLetters(options), { letters: [], more: 0 })
      assert.strictEqual(yield* waiting(queue), 0)
      assert.strictEqual(committer.total(), 1)
    })
  )

  it.live("come to the committer when they are sent back, though their edge's counter is long past", () =>
    Effect.gen(function* () {
      const { committer, letters, load, options, put, queue } = yield* opened
      for (let n = 0; n < 3; n++) {
        yield* put(`darda.${options.scope}.dead-letters`, [batch("e1", 1_000 + n)], {
          messageId: `letter-${n}`,
          headers: { reason: "a newer version wrote it", "from-queue": queue }
        })
      }
      yield* letters(3)
      assert.lengthOf((yield* retryLetters(options, "all")).done, 3)
      load.taken[0]!.push("c1000", "c1001", "c1002")
      yield* committer.hasAll(load.taken)
    })
  )

  it.live("stay where they are when their queue is no queue of this log, or gone", () =>
    Effect.gen(function* () {
      const { letters, options, put } = yield* opened
      const dead = `darda.${options.scope}.dead-letters`
      for (const from of ["darda.other.commands.0", dead, `darda.${options.scope}.commands.77`, undefined])
        yield* put(dead, ["x"], { headers: from === undefined ? {} : { "from-queue": from } })
      yield* letters(4)
      const { done, kept } = yield* retryLetters(options, "all")
      assert.lengthOf(done, 0)
      assert.lengthOf(kept, 4)
      assert.match(kept[2]!.reason, /commands\.77 does not exist$/)
      yield* letters(4)
    })
  )

  it.live("are in one queue or the other when sending them back is broken off", () =>
    Effect.gen(function* () {
      const { committer, letters, options, queue, waiting } = yield* opened
      const dead = `darda.${options.scope}.dead-letters`
      const cids = Array.from({ length: 40 }, (_, n) => `c${n + 1}`)
      yield* onChannel(engines().amqpUrl, async (channel) => {
        for (const cid of cids)
          channel.sendToQueue(dead, Buffer.from(batch("e1", Number(cid.slice(1)))), {
            messageId: `letter-${cid}`,
            headers: { "from-queue": queue }
          })
      })
      yield* letters(40)
      let broken = 0
      for (let tries = 1; (yield* waiting(dead)) > 0; tries++) {
        const done = yield* retryLetters(options, "all").pipe(Effect.timeoutOption(tries * 15))
        if (done._tag === "None") broken++
      }
      assert.isAtLeast(broken, 1)
      yield* until("all come", () => committer.total() === 41)
      assert.sameMembers([...new Set(committer.came[0])], ["c0", ...cids])
    })
  )
})
