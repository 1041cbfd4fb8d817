import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { atLeast, type Vector, zeroVector } from "../domain/partition.ts"
import type { EventReader, LogUnavailable } from "../write-side/EventLog.ts"
import { fill } from "./fill.ts"
import { type DumpRow, type ReadModels, ReadModelsUnavailable, type Snapshot } from "./ReadModels.ts"
import { sum } from "./replay.ts"
import { compareKeys } from "./Store.ts"

/** One row that is not what the log says. Values as JSON; absent where there is no such row. */
export interface Difference {
  readonly conv: string
  /** `conversation`, `member <user>` or `message <seq>`. */
  readonly row: string
  readonly expected?: string
  readonly found?: string
}

export interface VerifyResult {
  /** What part of the log was compared: all that the read models had. */
  readonly checkpoints: Vector
  readonly events: number
  /** Rows that the log makes. */
  readonly rows: number
  /** How many rows differ, and the first of them in the order of conversations. */
  readonly differing: number
  readonly differences: ReadonlyArray<Difference>
}

/** `recompute`: events of the log applied; `compare`: rows compared, of an estimate. */
export interface VerifyProgress {
  readonly phase: "recompute" | "compare"
  readonly done: number
  readonly total: number
}

export interface VerifyOptions {
  readonly log: EventReader
  readonly readModels: ReadModels["Service"]
  /** Differences to list, 100 unless given. All are counted. */
  readonly maxDifferences?: number
  /** Called after every page of 1,000 events or rows. */
  readonly onProgress?: (progress: VerifyProgress) => Effect.Effect<void>
}

const PAGE_ROWS = 1_000
/** Events that may be applied to the live read models between the copy's last look and the snapshot of them. */
const LAST_EVENTS = 2_000
const ROUNDS = 100

/**
 * Computes the read models from the log once more, into an empty set beside the live one, and compares both row by row, byte for byte. Live traffic goes
 * on: what is compared is a snapshot, and the copy is brought to exactly its checkpoints.
 */
export const verify = Effect.fn("ReadSide.verify")(function* (
  options: VerifyOptions
): Effect.fn.Return<VerifyResult, LogUnavailable | ReadModelsUnavailable, Scope.Scope> {
  const { log, onProgress, readModels } = options
  const shadow = yield* readModels.shadow
  let checkpoints: Vector = zeroVector(log.partitions)
  const fillTo = Effect.fnUntraced(function* (target: Vector) {
    checkpoints = yield* fill({
      log,
      from: checkpoints,
      target,
      apply: shadow.apply,
      onApplied: onProgress && ((reached) => onProgress({ phase: "recompute", done: sum(reached), total: sum(target) }))
    })
  })
  for (let round = 0; round < ROUNDS; round++) {
    const live = yield* readModels.checkpoints
    if (sum(live) - sum(checkpoints) <= LAST_EVENTS) break
    yield* fillTo(live)
  }
  const found = yield* readModels.snapshot
  yield* fillTo(found.checkpoints)
  if (!atLeast(checkpoints, found.checkpoints) || !atLeast(found.checkpoints, checkpoints)) {
    return yield* new ReadModelsUnavailable({
      operation: "verify",
      reason: "they moved back while they were compared, or are ahead of the log; run verify again",
      cause: undefined
    })
  }
  const counts = yield* shadow.counts
  const total = counts.conversations + counts.members + counts.messages
  const compared = yield* compare(yield* shadow.snapshot, found, options.maxDifferences ?? 100, (done) =>
    onProgress === undefined ? Effect.void : onProgress({ phase: "compare", done, total: Math.max(total, done) })
  )
  return { checkpoints, events: sum(checkpoints), ...compared }
}, Effect.scoped)

/** Rows of a snapshot, one after another. */
const cursorOf = (snapshot: Snapshot) => {
  let page: ReadonlyArray<DumpRow> = []
  let index = 0
  let after: ReadonlyArray<string> | undefined
  return Effect.fnUntraced(function* () {
    if (index >= page.length) {
      page = yield* snapshot.rows(after, PAGE_ROWS)
      index = 0
      after = page.at(-1)?.key ?? after
    }
    return page[index++]
  })
}

const compare = Effect.fnUntraced(function* (
  expected: Snapshot,
  found: Snapshot,
  most: number,
  onRows: (done: number) => Effect.Effect<void>
) {
  const differences: Array<Difference> = []
  let differing = 0
  let rows = 0
  const nextExpected = cursorOf(expected)
  const nextFound = cursorOf(found)
  let right = yield* nextExpected()
  let there = yield* nextFound()
  while (right !== undefined || there !== undefined) {
    const order = right === undefined ? 1 : there === undefined ? -1 : compareKeys(right.key, there.key)
    if (order !== 0 || right!.value !== there!.value) {
      differing++
      if (differences.length < most)
        differences.push(difference(order <= 0 ? right : undefined, order >= 0 ? there : undefined))
    }
    if (order <= 0) {
      right = yield* nextExpected()
      if (++rows % PAGE_ROWS === 0) yield* onRows(rows)
    }
    if (order >= 0) there = yield* nextFound()
  }
  return { rows, differing, differences }
})

const difference = (expected: DumpRow | undefined, found: DumpRow | undefined): Difference => {
  const [conv, kind, place] = (expected ?? found)!.key
  return {
    conv: conv!,
    row: place === undefined ? kind! : `${kind} ${kind === "message" ? Number(place) : place}`,
    ...(expected === undefined ? {} : { expected: expected.value }),
    ...(found === undefined ? {} : { found: found.value })
  }
}
