import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { ConversationId, Seq } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"
import type { FoldedMessage } from "../domain/protocol/server-frames.ts"
import type { MetricsWriter } from "../platform/Metrics.ts"
import type { LogUnavailable } from "../write-side/EventLog.ts"
import { isMessage } from "./fromLog.ts"
import { foldMessages } from "./messages.ts"
import { jsonBytes, withinReactionBytes } from "./paging.ts"
import type { ConversationRow } from "./projection.ts"
import type { ReadModelsUnavailable } from "./ReadModels.ts"
import { pointerKey, type RedisSet, redisAway, unavailable } from "./ReadModelsRedisApply.ts"
import { BLOCK, blockOf } from "./ReadModelsRedisCache.ts"
import type { RedisProgress } from "./ReadModelsRedisProgress.ts"
import { BLOCKS, FILL } from "./ReadModelsRedisReadScripts.ts"
import type { TailMessage } from "./ReadModelsRedisRows.ts"

/** How long a block is kept: what nobody reads any more goes by itself. */
const KEEP_MS = 600_000
/** Blocks kept of each partition: with 16 partitions and messages of 200 bytes about 100 MB. The oldest go first. */
const BLOCKS_KEPT = 512
/** A larger block is answered and not kept. */
const BLOCK_BYTES = 262_144
/** How long one who fills has; after that another may. */
const LEASE_MS = 5_000
/** Blocks looked at together: the log is asked for that many events and their amendments at once. */
const BLOCKS_AT_ONCE = 15
/** Events looked through for one answer. Beyond that the read models cannot tell. */
const SCAN_EVENTS = 50_000

/**
 * Messages that are older than the tail, from the log: in blocks of 64 seqs, which are kept in Redis for the next who asks. `oldest` is the first seq of the tail at the
 * moment of `row`.
 */
export interface Older {
  /** The newest `count` messages below `before`, the newest first. */
  readonly below: (
    row: ConversationRow,
    oldest: Seq,
    before: Seq,
    count: number
  ) => Effect.Effect<ReadonlyArray<TailMessage>, ReadModelsUnavailable>
  /** The oldest `count` messages above `after`, the oldest first. */
  readonly above: (
    row: ConversationRow,
    oldest: Seq,
    after: Seq,
    count: number
  ) => Effect.Effect<ReadonlyArray<TailMessage>, ReadModelsUnavailable>
}

/**
 * The cache is right without being told of more than amendments: a block holds only messages that had left the tail, so nothing is ever added below its end. An amendment
 * of one of its messages takes it away, and takes away the lease of whoever is filling it from a log that it read before.
 */
export const makeOlder = (set: RedisSet, progress: RedisProgress, metrics: MetricsWriter): Older => {
  const { log, partitions, redis } = set

  const read = Effect.fnUntraced(function* (
    { conv, head }: ConversationRow,
    first: Seq,
    last: Seq
  ): Effect.fn.Return<ReadonlyArray<FoldedMessage>, LogUnavailable | ReadModelsUnavailable> {
    // A replica that lags, or a primary that was replaced and does not know it yet, would leave out amendments, and nothing would ever take that back.
    const newest = yield* log.timeline(conv, { after: head - 1, before: head + 1, limit: 1, take: "newest" })
    const slice = { after: first - 1, before: last + 1, limit: last - first + 1, take: "oldest" } as const
    const events = yield* log.timeline(conv, slice)
    if (newest.length === 0 || events.length < slice.limit) {
      return yield* unavailable("older messages", "the event log told less than was applied from it")
    }
    metrics.update("olderRead", 1)
    const messages = events.filter(isMessage)
    if (messages.length === 0) return []
    const amendments = yield* log.amendments(
      conv,
      messages.map(({ seq }) => seq)
    )
    // Nothing after the head that the read models know: it may come after a removal of who asks.
    return foldMessages(
      messages,
      amendments.filter(({ seq }) => seq <= head)
    ).map(withinReactionBytes)
  })

  const fill = Effect.fnUntraced(function* (
    conv: ConversationId,
    token: string,
    blocks: ReadonlyArray<readonly [block: number, upTo: Seq, messages: ReadonlyArray<FoldedMessage>]>
  ) {
    const args: Array<string | number> = [conv, token, KEEP_MS, BLOCKS_KEPT]
    for (const [block, upTo, messages] of blocks) {
      const text = `${upTo}:${JSON.stringify(messages.map(({ conv: _, ...rest }) => rest))}`
      args.push(block, Buffer.byteLength(text) > BLOCK_BYTES ? "" : text)
    }
    const key = pointerKey(set, partitionOf(conv, partitions))
    yield* redis.run("fill", (client) => fillScript(client, [key], args))
  })
  const fillScript = redis.script("dardaFill", FILL)
  const blocksScript = redis.script("dardaBlocks", BLOCKS)

  /** Messages of consecutive blocks that are below the tail, in seq order. */
  const blocks = Effect.fnUntraced(
    function* (row: ConversationRow, oldest: Seq, first: number, last: number) {
      const { conv } = row
      const partition = partitionOf(conv, partitions)
      const token = randomUUID()
      const end = (block: number): Seq => Math.min((block + 1) * BLOCK, oldest - 1)
      const args: Array<string | number> = [conv, token, LEASE_MS]
      for (let block = first; block <= last; block++) args.push(block, end(block))
      const told = progress.told()
      const [pointer, found] = (yield* redis.run("blocks", (client) =>
        blocksScript(client, [pointerKey(set, partition)], args)
      )) as readonly [string, ReadonlyArray<string>]
      yield* progress.read(partition, pointer, told)
      const missing = found.flatMap((text, i) => (text.length === 1 ? [first + i] : []))
      const messages: Array<FoldedMessage> = []
      if (missing.length > 0) {
        // One question for all that lies between the first and the last of them.
        messages.push(...(yield* read(row, missing[0]! * BLOCK + 1, end(missing.at(-1)!))))
        const byBlock = Map.groupBy(messages, ({ seq }) => blockOf(seq))
        const mine = missing.filter((block) => found[block - first] === "+")
        if (mine.length > 0) {
          const filled = mine.map((block) => [block, end(block), byBlock.get(block) ?? []] as const)
          yield* Effect.ignore(fill(conv, token, filled))
        }
      }
      for (const [i, text] of found.entries()) {
        const block = first + i
        if (text.length === 1 || (missing.length > 0 && block > missing[0]! && block < missing.at(-1)!)) continue
        for (const rest of JSON.parse(text.slice(text.indexOf(":") + 1)) as ReadonlyArray<Omit<FoldedMessage, "conv">>)
          messages.push({ conv, ...rest })
      }
      return messages.filter(({ seq }) => seq < oldest).sort((a, b) => a.seq - b.seq)
    },
    Effect.catchTags({
      RedisUnavailable: (error) => Effect.fail(redisAway(error)),
      LogUnavailable: (error) => Effect.fail(unavailable("older messages", error.message, error))
    })
  )

  /** Looks through blocks from a seq on, further and further, until there are enough messages. */
  const walk = Effect.fnUntraced(function* (
    row: ConversationRow,
    oldest: Seq,
    from: Seq,
    step: 1 | -1,
    count: number
  ): Effect.fn.Return<ReadonlyArray<TailMessage>, ReadModelsUnavailable> {
    const last = step < 0 ? 1 : oldest - 1
    const within = (seq: Seq): boolean => (seq - from) * step >= 0
    const messages: Array<FoldedMessage> = []
    let next = blockOf(from)
    // As if there were nothing but messages.
    let atOnce = Math.abs(blockOf(from + (count - 1) * step) - next) + 1
    for (let looked = 0; (blockOf(last) - next) * step >= 0 && messages.length < count; looked += atOnce * BLOCK) {
      if (looked >= SCAN_EVENTS) return yield* unavailable("older messages", "there are too few among the events")
      if (looked > 0) atOnce *= 2
      atOnce = Math.min(atOnce, BLOCKS_AT_ONCE, Math.abs(blockOf(last) - next) + 1)
      const far = next + (atOnce - 1) * step
      const found = yield* blocks(row, oldest, Math.min(next, far), Math.max(next, far))
      for (const message of step < 0 ? found.toReversed() : found) if (within(message.seq)) messages.push(message)
      next = far + step
    }
    return messages
      .slice(0, count)
      .map((message) => ({ seq: message.seq, bytes: jsonBytes(message), message: () => message }))
  })

  return {
    below: (row, oldest, before, count) => walk(row, oldest, before - 1, -1, count),
    above: (row, oldest, after, count) => walk(row, oldest, after + 1, 1, count)
  }
}
