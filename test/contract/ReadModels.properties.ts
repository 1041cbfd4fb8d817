import { assert } from "@effect/vitest"
import { Effect, Exit, HashMap, Scope } from "effect"
import fc from "fast-check"
import type { DumpRow, ReadModels, Run, Snapshot } from "../../src/read-side/ReadModels.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import type { History } from "../support/histories.ts"
import { referenceConversations, referenceMessages, referenceUnread } from "../support/readReference.ts"

type Service = ReadModels["Service"]

/** A place where read models live: opened again, it holds what it held. */
export interface Place {
  readonly open: Effect.Effect<Service, never, Scope.Scope>
}

export const dumpOf = Effect.fnUntraced(function* (snapshot: Snapshot, step: number) {
  const all: Array<DumpRow> = []
  for (;;) {
    const rows = yield* snapshot.rows(all.at(-1)?.key, step)
    if (rows.length === 0) return all
    all.push(...rows)
  }
})

export const dump = (readModels: Pick<Service, "snapshot">) =>
  Effect.scoped(Effect.flatMap(readModels.snapshot, (snapshot) => dumpOf(snapshot, 7)))

export const runsOf = (history: History): ReadonlyArray<Run> =>
  history.logs.map((events, partition) => ({ partition, events }))

export const heads = (history: History): ReadonlyArray<number> => history.logs.map((log) => log.length)

/** What is there after the whole history, applied at once. */
export const expectedDump = (history: History): ReadonlyArray<DumpRow> => {
  const store = makeMemoryStore(history.partitions)
  store.apply(runsOf(history))
  return store.dump()
}

/** Sizes of steps; some mean more than their size, see {@link sameWhateverTheWay}. */
export const ways = fc.array(fc.nat(12), { minLength: 1, maxLength: 30 })

/** I15: the way in which events are applied does not show in what is there in the end. */
export const sameWhateverTheWay = Effect.fnUntraced(function* (
  place: Place,
  history: History,
  way: ReadonlyArray<number>
) {
  let scope = yield* Scope.fork(yield* Effect.scope)
  let readModels = yield* Scope.provide(place.open, scope)
  let checkpoints = yield* readModels.checkpoints
  for (let i = 0; history.logs.some((log, partition) => checkpoints[partition]! < log.length); i++) {
    const step = way[i % way.length]!
    // Some steps begin before the checkpoint, some leave a hole behind it, some stop the process.
    const shift = step % 5 === 0 ? -3 : i % 7 === 3 ? 1 : 0
    checkpoints = yield* readModels.apply(
      history.logs.map((log, partition) => {
        const from = Math.max(0, checkpoints[partition]! + shift)
        return { partition, events: log.slice(from, from + step + 4) }
      })
    )
    if (step === 12) {
      yield* Scope.close(scope, Exit.void)
      scope = yield* Scope.fork(yield* Effect.scope)
      readModels = yield* Scope.provide(place.open, scope)
      assert.deepStrictEqual(yield* readModels.checkpoints, checkpoints)
    }
  }
  assert.deepStrictEqual(yield* dump(readModels), expectedDump(history))
})

/** I13, and everything else that can be read: as a plain recount of the log says. */
export const recounted = Effect.fnUntraced(function* (place: Place, history: History) {
  const readModels = yield* place.open
  yield* readModels.apply(runsOf(history))
  for (const [conv, state] of history.conversations) {
    const messages = referenceMessages(history, conv)
    const page = (yield* readModels.page(conv, { limit: 200 }))!
    assert.deepStrictEqual(page.messages, messages)
    // Also in the order of emojis, which deep equality does not see.
    assert.strictEqual(
      JSON.stringify(page.messages.map(({ reactions }) => reactions)),
      JSON.stringify(messages.map(({ reactions }) => reactions))
    )
    assert.strictEqual(page.head, state.seq)
    assert.isFalse(page.more)
    const members = [...HashMap.values(state.members)].sort((a, b) => (a.user < b.user ? -1 : 1))
    assert.deepStrictEqual(
      page.receipts,
      Object.fromEntries(members.map(({ delivered, seen, user }) => [user, { delivered, seen }]))
    )
    assert.deepStrictEqual(
      yield* readModels.roster(conv, "", 256),
      members.map(({ admin, since, user }) => ({ user, admin, since }))
    )
    for (const user of history.users) {
      const member = HashMap.has(state.members, user)
      assert.deepStrictEqual(yield* readModels.access(conv, user), { member, head: state.seq })
    }
  }
  for (const user of history.users) {
    const { items } = yield* readModels.conversations(user, undefined, 200)
    assert.deepStrictEqual(
      items.map(({ item }) => item.conv),
      referenceConversations(history, user)
    )
    for (const { at, item } of items) {
      const state = history.conversations.get(item.conv)!
      const last = referenceMessages(history, item.conv).at(-1)
      assert.deepStrictEqual(item, {
        conv: item.conv,
        kind: state.kind,
        ...(state.title === undefined ? {} : { title: state.title }),
        members: [...HashMap.keys(state.members)].sort(),
        head: state.seq,
        seen: HashMap.getUnsafe(state.members, user).seen,
        unread: referenceUnread(history, item.conv, user),
        ...(last === undefined ? {} : { last })
      })
      assert.strictEqual(at, state.at)
    }
  }
})
