import { assert, describe, it } from "@effect/vitest"
import { DatabaseSync } from "node:sqlite"
import { makeSqliteDump } from "../../src/read-side/sqliteDump.ts"
import { createTables, makeSqliteStore, readCheckpoints } from "../../src/read-side/StoreSqlite.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { historyOf } from "../support/histories.ts"

const PARTITIONS = 4

const setUp = () => {
  const history = historyOf(41, 3_000, { partitions: PARTITIONS })
  const db = new DatabaseSync(":memory:")
  createTables(db, "log", PARTITIONS)
  const store = makeSqliteStore(db)
  const runs = (from: ReadonlyArray<number>, to: ReadonlyArray<number>) =>
    history.logs.map((log, partition) => ({ partition, events: log.slice(from[partition], to[partition]) }))
  const heads = history.logs.map((log) => log.length)
  const expected = makeMemoryStore(PARTITIONS)
  expected.apply(runs([0, 0, 0, 0], heads))
  return { history, db, store, runs, heads, expected: expected.dump() }
}

describe("the store in an SQLite file", () => {
  it("I9: what a full disk takes back is taken back from the checkpoints too, and nobody is answered from before", () => {
    const { db, expected, heads, history, runs, store } = setUp()
    const half = heads.map((head) => head >> 1)
    store.apply(runs([0, 0, 0, 0], half))
    store.commit()
    const more = half.map((position) => position + 5)
    assert.deepStrictEqual(store.apply(runs(half, more)), more)

    const { page_count } = db.prepare("PRAGMA page_count").get() as { page_count: number }
    db.exec(`PRAGMA max_page_count = ${page_count}`)
    assert.throws(() => store.apply(runs(more, heads)), /full/)
    const [conv] = [...history.conversations.keys()]
    assert.throws(() => store.access(conv!, "u1"), /taken from the log again/)
    assert.throws(() => store.page(conv!, { limit: 5 }), /taken from the log again/)
    assert.deepStrictEqual(store.checkpoints(), half)
    assert.isDefined(store.access(conv!, "u1"))

    db.exec("PRAGMA max_page_count = 1000000")
    assert.deepStrictEqual(store.apply(runs(more, heads)), half)
    assert.deepStrictEqual(store.apply(runs(half, heads)), heads)
    store.commit()
    assert.deepStrictEqual(readCheckpoints(db), heads)
    assert.deepStrictEqual(makeSqliteDump(db)(undefined, 100_000), expected)
  })

  it("writes the checkpoints in the transaction of what was applied", () => {
    const { db, heads, runs, store } = setUp()
    store.apply(runs([0, 0, 0, 0], heads))
    assert.isTrue(db.isTransaction)
    assert.deepStrictEqual(readCheckpoints(db), [0, 0, 0, 0])
    store.commit()
    assert.isFalse(db.isTransaction)
    assert.deepStrictEqual(readCheckpoints(db), heads)
  })
})
