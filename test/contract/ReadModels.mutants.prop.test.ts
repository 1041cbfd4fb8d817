import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import fc from "fast-check"
import type { Rows } from "../../src/read-side/projection.ts"
import { ReadModels } from "../../src/read-side/ReadModels.ts"
import { layerMemory, makeReadModelsEngine } from "../../src/read-side/ReadModelsMemory.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { type History, history } from "../support/histories.ts"
import { type Place, recounted, sameWhateverTheWay, ways } from "./ReadModels.properties.ts"

const PARTITIONS = 4
/** Counterexamples are not shrunk: that there is one is all that counts. */
const OPTIONS = { numRuns: 3_000, endOnFailure: true }

/** Read models that are broken on purpose. `opened` counts how often they were opened. */
const broken = (breaks: (rows: Rows, opened: () => number) => Rows): Place => {
  const engine = makeReadModelsEngine(PARTITIONS)
  let opened = 0
  engine.store = makeMemoryStore(PARTITIONS, (rows) => breaks(rows, () => opened))
  return {
    open: Effect.suspend(() => {
      opened++
      return Effect.map(Layer.build(Layer.fresh(layerMemory(engine))), (context) => Context.get(context, ReadModels))
    })
  }
}

const run = (check: Effect.Effect<void, unknown, Scope.Scope>) => Effect.runPromise(Effect.scoped(check))

const failsI13 = (breaks: (rows: Rows) => Rows) =>
  Effect.promise(async () => {
    const property = fc.asyncProperty(history({ partitions: PARTITIONS, wishes: 300 }), (history: History) =>
      run(recounted(broken(breaks), history))
    )
    assert.isTrue((await fc.check(property, OPTIONS)).failed)
  })

const failsI15 = (breaks: (rows: Rows, opened: () => number) => Rows) =>
  Effect.promise(async () => {
    const property = fc.asyncProperty(history({ partitions: PARTITIONS, wishes: 300 }), ways, (history: History, way) =>
      run(sameWhateverTheWay(broken(breaks), history, way))
    )
    assert.isTrue((await fc.check(property, OPTIONS)).failed)
  })

describe("read models that are broken on purpose are found out", () => {
  it.live("I13: one's own messages count as read by oneself", () =>
    failsI13((rows) => ({
      ...rows,
      countByOthers: (conv, _user, after, upTo) => rows.countByOthers(conv, "", after, upTo)
    }))
  )

  it.live("I13: who comes back has never written", () =>
    failsI13((rows) => ({
      ...rows,
      putMember: (conv, row) => rows.putMember(conv, row.left > 0 ? { ...row, own: 0 } : row)
    }))
  )

  it.live("I13: nobody follows the last admin", () =>
    failsI13((rows) => ({ ...rows, successors: () => ({ admin: undefined, eldest: undefined }) }))
  )

  it.live("I15: the first write after a restart is lost", () =>
    failsI15((rows, opened) => {
      let seen = 1
      return {
        ...rows,
        putMember: (conv, row) => {
          if (opened() > seen) seen = opened()
          else rows.putMember(conv, row)
        }
      }
    })
  )

  it.live("I15: every third message cannot be edited", () =>
    failsI15((rows) => ({ ...rows, message: (conv, seq) => (seq % 3 === 0 ? undefined : rows.message(conv, seq)) }))
  )
})
