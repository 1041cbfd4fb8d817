import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, HashMap, type Scope } from "effect"
import { groupConversation } from "../../src/domain/groupId.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { partitionOf } from "../../src/domain/partition.ts"
import type { AppendBatch, EventLog } from "../../src/write-side/EventLog.ts"
import { everything, LogCommitter, mark, onlyTimeline, plain, say, type Wish } from "../support/log-committer.ts"

type Log = EventLog["Service"]

/** A new, empty log of 16 partitions. `open` gives one process's way to it; it may be used several times. */
export interface LogUnderTest {
  readonly open: Effect.Effect<Log, unknown, Scope.Scope>
}

const PARTITIONS = 16
const group = groupConversation("ann", "g1")
const dm = dmConversation("ann", "bob")
const create = (conv: string, by: string, cid: string, ...members: ReadonlyArray<string>): Wish => ({
  conv,
  by,
  cid,
  intent: { type: "create", members, title: "Lunch" }
})

/** What every event log keeps to, whatever it stands on. `fresh` makes a new log for each test. */
export const eventLogContract = (name: string, fresh: Effect.Effect<LogUnderTest, unknown, Scope.Scope>): void => {
  const test = (
    title: string,
    body: (log: Log, under: LogUnderTest) => Effect.Effect<void, unknown, Scope.Scope>
  ): void => {
    it.live(title, () =>
      Effect.gen(function* () {
        const under = yield* fresh
        yield* body(yield* under.open, under)
      })
    )
  }
  /** Nothing of a refused batch may be seen. */
  const refusedWithoutTrace = Effect.fnUntraced(function* (log: Log, batch: AppendBatch, tag: string) {
    const look = Effect.gen(function* () {
      return {
        heads: yield* log.heads,
        events: yield* everything(log),
        outbox: yield* log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 100 }),
        conversations: yield* Effect.forEach([group, dm], (conv) => Effect.map(log.conversation(conv), plain)),
        memberships: yield* Effect.forEach(["ann", "bob", "eve"], (user) => log.memberships(user, "", 100))
      }
    })
    const before = yield* look
    const error = yield* Effect.flip(log.append(batch))
    assert.strictEqual(error._tag, tag)
    assert.deepStrictEqual(yield* look, before)
    return error
  })

  describe(`${name}: append and read`, () => {
    test(
      "is empty at first",
      Effect.fnUntraced(function* (log) {
        assert.strictEqual(log.partitions, PARTITIONS)
        assert.deepStrictEqual(yield* log.heads, new Array(PARTITIONS).fill(0))
        assert.deepStrictEqual(yield* everything(log), [])
        assert.isUndefined(yield* log.conversation(group))
        assert.deepStrictEqual(yield* log.timeline(group, { limit: 10, take: "newest" }), [])
        assert.deepStrictEqual(yield* log.amendments(group, [1, 2]), [])
        assert.deepStrictEqual(yield* log.memberships("ann", "", 10), [])
        assert.deepStrictEqual(yield* log.outbox({ until: Date.now(), limit: 10 }), [])
      })
    )

    test(
      "gives events back as they were written, in the order of positions",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const events = [
          ...(yield* committer.commit([create(group, "ann", "c1", "bob", "cid"), say(group, "bob", "c2", "hi")])),
          ...(yield* committer.commit([
            mark(group, "ann", 2),
            say(group, "ann", "c3", "yes", 2),
            { conv: group, by: "ann", cid: "c4", intent: { type: "title", title: "Dinner" } }
          ]))
        ]
        const partition = partitionOf(group, PARTITIONS)
        assert.deepStrictEqual(yield* log.read(partition, 0, 100), events)
        assert.deepStrictEqual(
          events.map(({ position, prev, seq }) => [position, seq, prev]),
          [
            [1, 1, 0],
            [2, 2, 1],
            [3, 0, 2],
            [4, 3, 2],
            [5, 4, 4]
          ]
        )
        assert.deepStrictEqual(yield* log.read(partition, 2, 2), events.slice(2, 4))
        assert.deepStrictEqual(yield* log.read(partition, 5, 10), [])
        const heads = yield* log.heads
        assert.strictEqual(heads[partition], 5)
        assert.deepStrictEqual(
          heads.filter((_, p) => p !== partition),
          new Array(PARTITIONS - 1).fill(0)
        )
      })
    )

    test(
      "keeps every text, small and large, and an event without an origin",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const bodies = [
          "é 漢字 👩‍👩‍👧 \u202E",
          "\"'\\ \n\t ; DROP TABLE events; --",
          "\u0001\uFFFF",
          "𝄞".repeat(32_000),
          "a".repeat(65_536)
        ]
        yield* committer.commit(bodies.map((body, i) => say(dm, "ann", `c${i}`, body)))
        const read = yield* log.timeline(dm, { limit: 10, take: "oldest" })
        assert.deepStrictEqual(
          read.map(({ data }) => (data as { body: string }).body),
          bodies
        )
        const decided = yield* committer.decide([say(dm, "bob", "d1", "x")])
        const [run] = decided.append.runs
        const { origin: _, ...event } = run!.events[0]!
        yield* log.append({ ...decided.append, runs: [{ ...run!, events: [event] }], relayed: [], at: 1 })
        const [last] = yield* log.timeline(dm, { limit: 1, take: "newest" })
        assert.deepStrictEqual(last, event)
      })
    )

    test(
      "lets others read what was appended as soon as the append has answered",
      Effect.fnUntraced(function* (log, { open }) {
        const other = yield* open
        assert.strictEqual(other.id, log.id)
        const committer = yield* LogCommitter.claim(log)
        for (let i = 1; i <= 50; i++) {
          yield* committer.commit([say(dm, "ann", `c${i}`, "x")])
          assert.strictEqual((yield* other.heads)[partitionOf(dm, PARTITIONS)], i)
          assert.strictEqual((yield* other.timeline(dm, { limit: 1, take: "newest" }))[0]?.seq, i)
        }
      })
    )

    test(
      "takes a batch of many conversations, and a run that only moves counters",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const convs = Array.from({ length: 300 }, (_, i) => dmConversation("ann", `u${i}`))
        const wishes = convs.flatMap((conv, i) => [say(conv, "ann", "a", "x"), say(conv, `u${i}`, "a", "y")])
        assert.lengthOf(yield* committer.commit(wishes), 600)
        assert.strictEqual(
          (yield* log.heads).reduce((sum, head) => sum + head),
          600
        )
        // Repeats: no events, only counters.
        assert.lengthOf(yield* committer.commit(wishes), 0)
        assert.lengthOf(yield* everything(log), 600)
      })
    )

    test(
      "gives several partitions contiguous positions while two committers append at once",
      Effect.fnUntraced(function* (log, { open }) {
        const other = yield* open
        const half = Array.from({ length: PARTITIONS / 2 }, (_, i) => i)
        const first = yield* LogCommitter.claim(log, { partitions: half })
        const second = yield* LogCommitter.claim(other, { partitions: half.map((p) => p + PARTITIONS / 2) })
        const convs = Array.from({ length: 64 }, (_, i) => dmConversation("ann", `u${i}`))
        const work = (committer: LogCommitter) => {
          const mine = convs.filter((conv) => committer.heads.has(partitionOf(conv, PARTITIONS)))
          return Effect.forEach(
            Array.from({ length: 20 }, (_, i) => i),
            (i) => committer.commit(mine.map((conv) => say(conv, "ann", `c${i}`, "x")))
          )
        }
        const reading = yield* Effect.forkChild(
          Effect.forever(
            Effect.gen(function* () {
              // Whatever the heads say is there.
              const heads = yield* log.heads
              for (let p = 0; p < PARTITIONS; p++) {
                const events = yield* other.read(p, 0, 10_000)
                assert.isAtLeast(events.length, heads[p]!)
                events.forEach(({ position }, i) => assert.strictEqual(position, i + 1))
              }
            })
          )
        )
        yield* Effect.all([work(first), work(second)], { concurrency: 2 }).pipe(Effect.raceFirst(Fiber.join(reading)))
        assert.lengthOf(yield* everything(log), 64 * 20)
      })
    )
  })

  describe(`${name}: claim and fence`, () => {
    test(
      "raises the epoch, and answers where the partition is",
      Effect.fnUntraced(function* (log) {
        const [head] = yield* log.claim([3], "a")
        assert.deepStrictEqual(head, { partition: 3, position: 0, epoch: 1, counters: {} })
        const committer = yield* LogCommitter.claim(log, { edge: "e1" })
        yield* committer.commit([say(dm, "ann", "c1", "x"), say(dm, "bob", "c2", "y")])
        const partition = partitionOf(dm, PARTITIONS)
        const before = committer.heads.get(partition)!
        const [again] = yield* log.claim([partition], "b")
        assert.deepStrictEqual(again, { ...before, epoch: before.epoch + 1 })
        assert.deepStrictEqual(again!.counters, { e1: 1 })
      })
    )

    test(
      "refuses whoever was there before, and writes nothing for them",
      Effect.fnUntraced(function* (log, { open }) {
        const old = yield* LogCommitter.claim(log)
        yield* old.commit([create(group, "ann", "c1", "bob"), say(dm, "ann", "d1", "x")])
        const stale = yield* old.decide([
          say(group, "ann", "c2", "late"),
          say(dm, "ann", "d2", "late"),
          mark(dm, "bob", 1)
        ])
        const partition = partitionOf(group, PARTITIONS)
        assert.notStrictEqual(partition, partitionOf(dm, PARTITIONS))
        const next = yield* LogCommitter.claim(yield* open, { owner: "next", partitions: [partition] })
        const error = yield* refusedWithoutTrace(log, { ...stale.append, relayed: [], at: 1 }, "Fenced")
        assert.deepStrictEqual((error as { partitions?: unknown }).partitions, [partition])
        yield* next.commit([say(group, "bob", "c3", "mine")])
        assert.deepStrictEqual(
          (yield* log.timeline(group, { limit: 10, take: "oldest" })).map(({ cid }) => cid),
          ["c1", "c3"]
        )
        // The other partition is still theirs.
        yield* old.commit([say(dm, "ann", "d2", "late")])
      })
    )

    test(
      "finds what others have written since, when a partition comes back",
      Effect.fnUntraced(function* (log, { open }) {
        const other = yield* open
        const seqs: Array<number> = []
        for (let turn = 0; turn < 6; turn++) {
          const committer = yield* LogCommitter.claim(turn % 2 === 0 ? log : other)
          for (let i = 0; i < 11; i++) {
            const [said] = yield* committer.commit([say(dm, "ann", `c${turn}-${i}`, "x"), say(dm, "ann", "c0-0", "x")])
            seqs.push(said!.seq)
          }
        }
        assert.deepStrictEqual(
          seqs,
          Array.from({ length: 66 }, (_, i) => i + 1)
        )
      })
    )

    test(
      "is not misled by a batch that was refused half way",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([say(dm, "ann", "c1", "x"), create(group, "ann", "c1", "bob")])
        const { append } = yield* committer.decide([say(dm, "ann", "c2", "x"), say(group, "ann", "c2", "x")])
        for (const bad of [dm, group]) {
          const runs = append.runs.map((run) => ({
            ...run,
            events: run.events.map((event) => (event.conv === bad ? { ...event, cid: "c1" } : event))
          }))
          yield* refusedWithoutTrace(log, { ...append, runs, relayed: [], at: 1 }, "AlreadyInLog")
        }
        yield* log.append({ ...append, relayed: [], at: 1 })
      })
    )

    test(
      "refuses a head that has moved",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const first = yield* committer.decide([say(dm, "ann", "c1", "x")])
        const second = yield* committer.decide([say(dm, "ann", "c2", "x")])
        yield* log.append({ ...first.append, relayed: [], at: 1 })
        yield* refusedWithoutTrace(log, { ...second.append, relayed: [], at: 2 }, "Fenced")
        yield* refusedWithoutTrace(log, { ...first.append, relayed: [], at: 2 }, "Fenced")
      })
    )

    test(
      "remembers the 256 edges that moved last",
      Effect.fnUntraced(function* (log) {
        const [{ epoch } = { epoch: 0 }] = yield* log.claim([0], "a")
        const move = (edge: string, counter: number) =>
          log.append({
            runs: [{ partition: 0, epoch, position: 0, events: [], counters: { [edge]: counter } }],
            conversations: [],
            members: [],
            relayed: [],
            at: 1
          })
        yield* Effect.forEach(
          Array.from({ length: 256 }, (_, i) => i),
          (i) => move(`e${i}`, 1)
        )
        yield* move("e0", 2)
        yield* move("new", 7)
        const [head] = yield* log.claim([0], "b")
        assert.strictEqual(Object.keys(head!.counters).length, 256)
        assert.strictEqual(head!.counters["e0"], 2)
        assert.strictEqual(head!.counters["new"], 7)
        assert.isUndefined(head!.counters["e1"])
        assert.deepStrictEqual(yield* log.outbox({ until: 10, limit: 10 }), [])
      })
    )
  })

  describe(`${name}: what is taken`, () => {
    test(
      "refuses a cid that its sender has used in the conversation, however long ago",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([create(group, "ann", "c0", "bob")])
        for (let i = 0; i < 5; i++) {
          yield* committer.commit(Array.from({ length: 23 }, (_, n) => say(group, "ann", `c${1 + i * 23 + n}`, "x")))
        }
        for (const [at, used] of [
          [1, 0],
          [2, 1],
          [3, 31],
          [4, 32],
          [5, 64],
          [6, 100],
          [7, 115]
        ] as const) {
          const fresh = yield* committer.decide([say(group, "ann", `new${at}`, "x"), say(dm, "eve", "d", "x")])
          const rename = (cid: string, by: string) => ({
            ...fresh.append,
            runs: fresh.append.runs.map((run) => ({
              ...run,
              events: run.events.map((event) => (event.conv === group ? { ...event, by, cid } : event))
            })),
            relayed: [],
            at
          })
          yield* refusedWithoutTrace(log, rename(`c${used}`, "ann"), "AlreadyInLog")
          assert.isTrue(
            Exit.isSuccess(yield* Effect.exit(log.append(rename(`c${used}`, `other${at}`)))),
            "another sender may use it"
          )
          yield* Effect.map(log.claim([...committer.heads.keys()], "test"), (heads) =>
            heads.forEach((head) => committer.heads.set(head.partition, head))
          )
        }
      })
    )

    test(
      "refuses one cid twice in one batch",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const { append } = yield* committer.decide([say(dm, "ann", "c1", "x"), say(dm, "ann", "c2", "y")])
        const [run] = append.runs
        const twice = { ...run!, events: run!.events.map((event) => ({ ...event, cid: "c1" })) }
        yield* refusedWithoutTrace(log, { ...append, runs: [twice], relayed: [], at: 1 }, "AlreadyInLog")
      })
    )

    test(
      "refuses a seq that is taken, and one that leaves a hole",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([say(dm, "ann", "c1", "x"), say(dm, "ann", "c2", "x")])
        const { append } = yield* committer.decide([say(dm, "ann", "c3", "x")])
        const at = (seq: number, prev: number): AppendBatch => ({
          ...append,
          runs: append.runs.map((run) => ({ ...run, events: run.events.map((event) => ({ ...event, seq, prev })) })),
          conversations: append.conversations.map((state) => ({ ...state, seq })),
          relayed: [],
          at: 1
        })
        yield* refusedWithoutTrace(log, at(1, 0), "AlreadyInLog")
        yield* refusedWithoutTrace(log, at(2, 1), "AlreadyInLog")
        yield* refusedWithoutTrace(log, at(4, 2), "AlreadyInLog")
        yield* refusedWithoutTrace(log, at(3, 1), "AlreadyInLog")
        yield* log.append(at(3, 2))
      })
    )

    test(
      "dies of a batch that is wrong in itself, and writes nothing",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const { append } = yield* committer.decide([say(dm, "ann", "c1", "x"), say(dm, "ann", "c2", "x")])
        const [run] = append.runs
        const [a, b] = run!.events as [(typeof run & {})["events"][number], (typeof run & {})["events"][number]]
        const wrong: ReadonlyArray<Partial<AppendBatch>> = [
          { runs: [{ ...run!, events: [a, { ...b, position: 3 }] }] },
          { runs: [{ ...run!, events: [{ ...a, partition: (a.partition + 1) % PARTITIONS }, b] }] },
          { runs: [{ ...run!, partition: PARTITIONS }] },
          { runs: [run!, run!] },
          { runs: [{ ...run!, events: [a, { ...b, seq: 3 }] }] },
          { runs: [{ ...run!, events: [a, { ...b, prev: 0 }] }] },
          { conversations: [] },
          { conversations: append.conversations.map((state) => ({ ...state, seq: 1 })) }
        ]
        for (const part of wrong) {
          const exit = yield* Effect.exit(log.append({ ...append, relayed: [], at: 1, ...part }))
          assert.isTrue(Exit.hasDies(exit), JSON.stringify(part))
        }
        assert.deepStrictEqual(yield* everything(log), [])
        assert.lengthOf(yield* committer.append({ ...(yield* committer.decide([say(dm, "ann", "c1", "x")])) }), 1)
      })
    )
  })

  describe(`${name}: prepare`, () => {
    test(
      "answers in the order of the questions, with undefined for what is not there",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit(
          [create(group, "ann", "c1", "bob"), say(group, "bob", "c2", "hi"), say(dm, "bob", "c2", "hi")],
          { at: 5_000 }
        )
        yield* committer.commit(
          Array.from({ length: 70 }, (_, i) => say(group, "ann", `x${i}`, "x")),
          { at: 6_000 }
        )
        const other = dmConversation("ann", "zoe")
        const prepared = yield* log.prepare({
          conversations: [other, group, dm],
          cids: [
            { conv: group, by: "bob", cid: "c2" },
            { conv: group, by: "ann", cid: "c2" },
            { conv: other, by: "ann", cid: "c2" },
            { conv: group, by: "ann", cid: "x69" },
            { conv: group, by: "ann", cid: "x0" }
          ],
          targets: [
            { conv: group, seq: 1 },
            { conv: group, seq: 2 },
            { conv: group, seq: 72 },
            { conv: group, seq: 73 },
            { conv: group, seq: 0 },
            { conv: other, seq: 1 },
            { conv: group, seq: 40 }
          ],
          openers: ["ann", "bob"],
          openedSince: 0
        })
        assert.deepStrictEqual(
          prepared.conversations.map((state) => state && [state.conv, state.seq, HashMap.size(state.members)]),
          [undefined, [group, 72, 2], [dm, 1, 2]]
        )
        assert.deepStrictEqual(
          prepared.priors.map((prior) => prior && [prior.seq, prior.at, prior.digest.length]),
          [[2, 5_000, 32], undefined, undefined, [72, 6_000, 32], [3, 6_000, 32]]
        )
        assert.deepStrictEqual(prepared.authors, [undefined, "bob", "ann", undefined, undefined, undefined, "ann"])
        assert.deepStrictEqual(prepared.opened, [0, 1])
      })
    )

    test(
      "counts the direct conversations that a user opened, since a time",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        for (let i = 1; i <= 4; i++)
          yield* committer.commit([say(dmConversation("ann", `u${i}`), "ann", "c", "x")], { at: i * 1000 })
        yield* committer.commit([
          say(dmConversation("ann", "u1"), "u1", "c", "x"),
          say(dmConversation("ann", "u9"), "u9", "c", "x")
        ])
        const opened = (openedSince: number) =>
          Effect.map(
            log.prepare({ conversations: [], cids: [], targets: [], openers: ["ann", "u1"], openedSince }),
            (found) => found.opened
          )
        assert.deepStrictEqual(yield* opened(0), [4, 0])
        assert.deepStrictEqual(yield* opened(2000), [3, 0])
        assert.deepStrictEqual(yield* opened(2001), [2, 0])
        assert.deepStrictEqual(yield* opened(9000), [0, 0])
      })
    )
  })

  describe(`${name}: conversations`, () => {
    test(
      "gives any slice of a timeline",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const LENGTH = 101
        const events = yield* committer.commit(
          Array.from({ length: LENGTH }, (_, i) => [say(dm, "ann", `c${i}`, `${i}`), mark(dm, "bob", i + 1)]).flat()
        )
        const all = onlyTimeline(events)
        assert.lengthOf(all, LENGTH)
        for (const after of [undefined, 0, 1, 31, 32, 33, 64, 95, 96, 100, 101, 500]) {
          for (const before of [undefined, 1, 2, 32, 33, 34, 65, 97, 101, 102, 1000]) {
            for (const limit of [1, 2, 32, 50, 10_000]) {
              const within = all.filter(({ seq }) => seq > (after ?? 0) && seq < (before ?? Infinity))
              const bounds = {
                ...(after === undefined ? {} : { after }),
                ...(before === undefined ? {} : { before }),
                limit
              }
              assert.deepStrictEqual(yield* log.timeline(dm, { ...bounds, take: "oldest" }), within.slice(0, limit))
              assert.deepStrictEqual(yield* log.timeline(dm, { ...bounds, take: "newest" }), within.slice(-limit))
            }
          }
        }
      })
    )

    test(
      "finds what amends a message, in seq order",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([
          say(dm, "ann", "c1", "one"),
          say(dm, "bob", "c2", "two"),
          say(dm, "bob", "c3", "three", 1),
          { conv: dm, by: "bob", cid: "r1", intent: { type: "react", target: 1, emoji: "👍", on: true } },
          { conv: dm, by: "ann", cid: "r2", intent: { type: "react", target: 2, emoji: "👍", on: true } },
          { conv: dm, by: "ann", cid: "e1", intent: { type: "edit", target: 1, body: "uno" } }
        ])
        yield* committer.commit([{ conv: dm, by: "ann", cid: "x1", intent: { type: "delete", target: 1 } }])
        const found = (targets: ReadonlyArray<number>) =>
          Effect.map(log.amendments(dm, targets), (events) => events.map(({ cid }) => cid))
        assert.deepStrictEqual(yield* found([1]), ["r1", "e1", "x1"])
        assert.deepStrictEqual(yield* found([2, 1, 2]), ["r1", "r2", "e1", "x1"])
        assert.deepStrictEqual(yield* found([3, 99]), [])
        assert.deepStrictEqual(yield* found([]), [])
        assert.deepStrictEqual(yield* found(Array.from({ length: 1_000 }, (_, i) => i + 1)), ["r1", "r2", "e1", "x1"])
      })
    )

    test(
      "knows the state of a conversation as the domain does",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const check = Effect.fnUntraced(function* (wishes: ReadonlyArray<Wish>) {
          const decided = yield* committer.decide(wishes)
          yield* committer.append(decided)
          for (const conv of new Set(wishes.map((wish) => wish.conv))) {
            const expected = plain(decided.states.get(conv))
            assert.deepStrictEqual(plain(yield* log.conversation(conv)), expected)
            const { conversations } = yield* log.prepare({
              conversations: [conv],
              cids: [],
              targets: [],
              openers: [],
              openedSince: 0
            })
            assert.deepStrictEqual(plain(conversations[0]), expected)
          }
        })
        yield* check([create(group, "ann", "c1", "bob", "cid"), say(dm, "ann", "c1", "hi")])
        yield* check([mark(group, "bob", 1), mark(dm, "bob", 1)])
        yield* check([
          { conv: group, by: "ann", cid: "c2", intent: { type: "members", add: ["dan", "eve"], remove: ["cid"] } }
        ])
        yield* check([{ conv: group, by: "ann", cid: "c3", intent: { type: "leave" } }, mark(group, "dan", 3)])
        yield* check([{ conv: group, by: "bob", cid: "c4", intent: { type: "members", add: ["ann"], remove: [] } }])
        yield* check([{ conv: group, by: "bob", cid: "c5", intent: { type: "title", title: "Größe 漢" } }])
      })
    )

    test(
      "lists the conversations that a user is or was in, page by page",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([create(group, "ann", "c1", "bob"), say(dm, "ann", "c1", "hi")])
        const convs = Array.from({ length: 7 }, (_, i) => dmConversation("bob", `z${i}`))
        yield* committer.commit(convs.map((conv) => say(conv, "bob", "c", "x")))
        const [, left] = yield* committer.commit([
          say(group, "ann", "c2", "x"),
          { conv: group, by: "bob", cid: "c3", intent: { type: "leave" } }
        ])
        const all = yield* log.memberships("bob", "", 100)
        assert.deepStrictEqual(
          all.map(({ conv }) => conv),
          [dm, ...convs, group].sort()
        )
        assert.deepStrictEqual(
          all.find(({ conv }) => conv === group),
          {
            conv: group,
            seq: 3,
            position: left!.position,
            left: left!.position
          }
        )
        const inDm = all.find(({ conv }) => conv === dm)
        assert.deepStrictEqual([inDm?.seq, inDm?.left], [1, 0])
        assert.deepStrictEqual(yield* log.memberships("bob", "", 4), all.slice(0, 4))
        assert.deepStrictEqual(yield* log.memberships("bob", all[3]!.conv, 100), all.slice(4))
        yield* committer.commit([
          { conv: group, by: "ann", cid: "c4", intent: { type: "members", add: ["bob"], remove: [] } }
        ])
        assert.strictEqual((yield* log.memberships("bob", "g:", 100))[0]?.left, 0)
        assert.deepStrictEqual(yield* log.memberships("nobody", "", 10), [])
      })
    )

    test(
      "takes a group of 10,000 members",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const many = Array.from({ length: 9_999 }, (_, i) => `user${i}`).sort()
        yield* committer.commit([create(group, "ann", "c1", ...many)])
        yield* committer.commit([say(group, "user77", "c2", "x"), mark(group, "user77", 1)])
        const state = yield* log.conversation(group)
        assert.strictEqual(state && HashMap.size(state.members), 10_000)
      })
    )
  })

  describe(`${name}: outbox`, () => {
    test(
      "holds what was committed until it has been relayed",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        yield* committer.commit([say(dm, "ann", "c1", "x"), say(dm, "bob", "c2", "x")], { at: 1_000 })
        yield* committer.commit([create(group, "ann", "c1", "bob"), say(dm, "ann", "c3", "x")], { at: 2_000 })
        const partitions = { dm: partitionOf(dm, PARTITIONS), group: partitionOf(group, PARTITIONS) }
        const first = { partition: partitions.dm, from: 1, to: 2, at: 1_000 }
        const rest = [
          { partition: partitions.group, from: 1, to: 1, at: 2_000 },
          { partition: partitions.dm, from: 3, to: 3, at: 2_000 }
        ].sort((a, b) => a.partition - b.partition)
        assert.deepStrictEqual(yield* log.outbox({ until: 2_000, limit: 10 }), [first, ...rest])
        assert.deepStrictEqual(yield* log.outbox({ until: 1_999, limit: 10 }), [first])
        assert.deepStrictEqual(yield* log.outbox({ until: 2_000, limit: 1 }), [first])
        assert.deepStrictEqual(yield* log.outbox({ until: 2_000, limit: 10, partition: partitions.group }), [
          { partition: partitions.group, from: 1, to: 1, at: 2_000 }
        ])
        yield* committer.commit([say(dm, "ann", "c4", "x")], { at: 3_000, relayed: [first] })
        const last = { partition: partitions.dm, from: 4, to: 4, at: 3_000 }
        assert.deepStrictEqual(yield* log.outbox({ until: 9_000, limit: 10 }), [...rest, last])
        yield* log.relayed([...rest, first, { partition: 0, from: 77, to: 78, at: 5 }])
        assert.deepStrictEqual(yield* log.outbox({ until: 9_000, limit: 10 }), [last])
        yield* log.relayed([])
        yield* log.relayed([last])
        assert.deepStrictEqual(yield* log.outbox({ until: 9_000, limit: 10 }), [])
      })
    )

    test(
      "keeps entries when the append that would remove them is refused",
      Effect.fnUntraced(function* (log) {
        const committer = yield* LogCommitter.claim(log)
        const stale = yield* committer.decide([say(dm, "ann", "c1", "x")])
        yield* committer.commit([say(dm, "ann", "c1", "x")], { at: 1_000 })
        const relayed = yield* log.outbox({ until: 1_000, limit: 10 })
        yield* refusedWithoutTrace(log, { ...stale.append, relayed, at: 2_000 }, "Fenced")
      })
    )
  })
}
