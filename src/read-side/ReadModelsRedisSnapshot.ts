import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { ConversationId, UserId } from "../domain/ids.ts"
import { partitionOf } from "../domain/partition.ts"
import { pipelined, type RedisCommand } from "../platform/RedisConnection.ts"
import { foldedMessage } from "./messages.ts"
import type { DumpRow, ReadModelsUnavailable, Snapshot } from "./ReadModels.ts"
import { pointerKey, type RedisSet, redisAway, unavailable } from "./ReadModelsRedisApply.ts"
import {
  decodeConversation,
  decodeMember,
  decodeMessage,
  decodeReactions,
  type Pointer,
  pointerOf
} from "./ReadModelsRedisRows.ts"
import { compareKeys, dumpConversation, dumpMember, dumpMessage, KINDS } from "./Store.ts"

/** How long a snapshot lives on without its process: then what changes is not copied any more. */
const LEASE_MS = 15_000
const PROLONG_MS = 4_000
/** How long another one's snapshot is waited for. */
const BUSY_MS = 20_000
const BUSY_PAUSE_MS = 50
const UNSAVE = 200
/** Conversations of a partition whose names are read at once, and conversations that are read at once. */
const NAMES = 200
const CONVERSATIONS = 50

/**
 * What there is in a set at one moment of each partition, while it goes on: a conversation is copied in Redis before it changes for the first time, and read from there. One
 * snapshot of a set at a time.
 */
export const openSnapshot = Effect.fnUntraced(function* (
  set: RedisSet
): Effect.fn.Return<Snapshot, ReadModelsUnavailable, Scope.Scope> {
  const { partitions, redis } = set
  const token = randomUUID()
  const all = (operation: string, command: (partition: number) => RedisCommand) =>
    redis
      .run(operation, (client) =>
        pipelined(
          client,
          Array.from({ length: partitions }, (_, p) => command(p))
        )
      )
      .pipe(Effect.mapError(redisAway))
  const script = (name: string, partition: number, ...args: ReadonlyArray<string | number>): RedisCommand => [
    name,
    1,
    pointerKey(set, partition),
    args
  ]
  const pointers: Array<Pointer | undefined> = Array.from({ length: partitions }, () => undefined)

  const unsave = Effect.fnUntraced(function* (partition: number, generation: string) {
    for (;;) {
      const [left] = yield* redis.run("snapshot", (client) =>
        pipelined(client, [script("dardaUnsave", partition, generation, UNSAVE)])
      )
      if (left === 0) return
    }
  }, Effect.mapError(redisAway))
  const begin = Effect.gen(function* () {
    for (let waited = 0; ; waited += BUSY_PAUSE_MS) {
      const missing = pointers.flatMap((pointer, partition) => (pointer === undefined ? [partition] : []))
      if (missing.length === 0) return
      if (waited >= BUSY_MS) return yield* unavailable("snapshot", "somebody else is reading one; try again later")
      const replies = (yield* redis
        .run("snapshot", (client) =>
          pipelined(
            client,
            missing.map((partition) => script("dardaSnapshot", partition, token, LEASE_MS))
          )
        )
        .pipe(Effect.mapError(redisAway))) as ReadonlyArray<readonly [string, string]>
      for (const [i, [text, outcome]] of replies.entries()) {
        const pointer = pointerOf(text)
        if (outcome === "ok") pointers[missing[i]!] = pointer
        else if (outcome === "unclean") yield* unsave(missing[i]!, pointer.generation)
      }
      if (replies.some(([, outcome]) => outcome === "busy")) yield* Effect.sleep(BUSY_PAUSE_MS)
    }
  })
  const leaseOf = (partition: number): string => {
    const key = pointerKey(set, partition)
    return `${key.slice(0, key.lastIndexOf(":") + 1)}${pointers[partition]?.generation ?? ""}:s`
  }
  yield* Effect.acquireRelease(begin, () =>
    all("snapshot", (partition) => ["dardaLetGo", 1, leaseOf(partition), token]).pipe(
      Effect.andThen(
        Effect.forEach(
          pointers.flatMap((pointer, partition) =>
            pointer === undefined || pointer.generation === "" ? [] : [[partition, pointer.generation] as const]
          ),
          ([partition, generation]) => unsave(partition, generation)
        )
      ),
      // What is left is taken away by the next one.
      Effect.ignore
    )
  )
  yield* all("snapshot", (partition) => ["dardaProlong", 1, leaseOf(partition), token, LEASE_MS]).pipe(
    Effect.ignore,
    Effect.delay(PROLONG_MS),
    Effect.forever,
    Effect.forkScoped
  )
  const found = pointers as ReadonlyArray<Pointer>

  const read = Effect.fnUntraced(function* (convs: ReadonlyArray<readonly [partition: number, conv: ConversationId]>) {
    const byPartition = [...Map.groupBy(convs, ([partition]) => partition)]
    const replies = (yield* redis
      .run("snapshot", (client) =>
        pipelined(
          client,
          byPartition.map(([partition, list]) =>
            script("dardaDump", partition, found[partition]!.generation, token, ...list.map(([, conv]) => conv))
          )
        )
      )
      .pipe(Effect.mapError(redisAway))) as ReadonlyArray<ReadonlyArray<Dumped>>
    const rows = new Map<ConversationId, ReadonlyArray<DumpRow>>()
    for (const [i, [partition, list]] of byPartition.entries()) {
      for (const [j, [, conv]] of list.entries()) rows.set(conv, rowsOf(conv, partition, replies[i]![j]!))
    }
    return convs.flatMap(([, conv]) => rows.get(conv)!)
  })

  /** Names of conversations that follow, of each partition; undefined at the end. */
  let ahead: Array<Array<ConversationId> | undefined> = []
  let passed: Array<ConversationId> = []
  const refill = Effect.gen(function* () {
    const empty = ahead.flatMap((names, partition) => (names?.length === 0 ? [partition] : []))
    if (empty.length === 0) return
    const replies = (yield* redis
      .run("snapshot", (client) =>
        pipelined(
          client,
          empty.map((partition) =>
            script("dardaRegister", partition, found[partition]!.generation, passed[partition]!, NAMES)
          )
        )
      )
      .pipe(Effect.mapError(redisAway))) as ReadonlyArray<Array<ConversationId>>
    for (const [i, partition] of empty.entries()) {
      ahead[partition] = replies[i]!.length === 0 ? undefined : replies[i]!
      passed[partition] = replies[i]!.at(-1) ?? passed[partition]!
    }
  })
  /** The next conversation in the order of ids, of whatever partition. */
  const next = Effect.fnUntraced(function* () {
    yield* refill
    let first: number | undefined
    for (const [partition, names] of ahead.entries()) {
      if (names !== undefined && (first === undefined || names[0]! < ahead[first]![0]!)) first = partition
    }
    return first === undefined ? undefined : ([first, ahead[first]!.shift()!] as const)
  })

  let pending: Array<DumpRow> = []
  let given: ReadonlyArray<string> | undefined = ["not", "begun"]
  const rows = Effect.fnUntraced(function* (
    after: ReadonlyArray<string> | undefined,
    limit: number
  ): Effect.fn.Return<ReadonlyArray<DumpRow>, ReadModelsUnavailable> {
    if (String(after) !== String(given)) {
      const from = after?.[0] ?? ""
      ahead = found.map(({ generation }) => (generation === "" ? undefined : []))
      passed = found.map(() => from)
      pending = []
      // The rest of the conversation in which it stopped.
      const partition = partitionOf(from, partitions)
      if (from !== "" && found[partition]!.generation !== "") {
        for (const row of yield* read([[partition, from]])) if (compareKeys(row.key, after!) > 0) pending.push(row)
      }
    }
    while (pending.length < limit) {
      const convs: Array<readonly [number, ConversationId]> = []
      while (convs.length < CONVERSATIONS) {
        const one = yield* next()
        if (one === undefined) break
        convs.push(one)
      }
      if (convs.length === 0) break
      pending.push(...(yield* read(convs)))
    }
    const page = pending.splice(0, limit)
    given = page.at(-1)?.key ?? after
    return page
  })

  return { checkpoints: found.map(({ checkpoint }) => checkpoint), rows }
})

type Dumped = readonly [
  fields: ReadonlyArray<string>,
  messages: ReadonlyArray<string>,
  reactions: ReadonlyArray<string>,
  unlisted: ReadonlyArray<UserId>
]

/** The canonical rows of one conversation, in their order. */
const rowsOf = (
  conv: ConversationId,
  partition: number,
  [fields, messages, reactions, unlisted]: Dumped
): ReadonlyArray<DumpRow> => {
  const values = new Map<string, string>()
  for (let i = 0; i < fields.length; i += 2) values.set(fields[i]!, fields[i + 1]!)
  const rows: Array<DumpRow> = []
  const text = values.get("")
  if (text !== undefined)
    rows.push(dumpConversation(decodeConversation(conv, partition, text, values.get("t") ?? null).row))
  for (const field of [...values.keys()].sort()) {
    if (field.startsWith(":")) rows.push(dumpMember(conv, decodeMember(field.slice(1), values.get(field)!)))
  }
  // No such rows come of the log: whoever compares finds them.
  for (const user of unlisted) rows.push({ key: [conv, KINDS.member, user, "lists"], value: '"do not agree"' })
  if (unlisted.length > 0) rows.sort((a, b) => compareKeys(a.key, b.key))
  const reacted = decodeReactions(reactions)
  for (const entry of messages) {
    const { row, seq } = decodeMessage(entry)
    rows.push(dumpMessage(foldedMessage(conv, seq, row, reacted.get(seq))))
  }
  return rows
}
