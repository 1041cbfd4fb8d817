import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Redis } from "ioredis"
import { pipelined, type RedisConnection, type RedisUnavailable } from "./RedisConnection.ts"
import { type NodeItem, StreamLost } from "./Router.ts"
import { decodeItems, entryBytes } from "./RouterRedisItems.ts"
import type { RouterKeys } from "./RouterRedisKeys.ts"
import { named } from "./RouterRedisScripts.ts"

/** Items, and bytes, that are taken from Redis before the node has taken the former ones. */
const READ_AHEAD = 2_000
const READ_AHEAD_BYTES = 4 * 1024 * 1024
/** Entries of one reading. */
const READ_ENTRIES = 64
/**
 * Redis is told of what was taken when it is so much: told with every reading, it costs as much as the reading does where each brings one entry. Little beside what a
 * stream may hold.
 */
const TELL_ENTRIES = 16
const TELL_BYTES = 256 * 1024
/** How long one reading waits, in milliseconds: a new epoch is seen after that at most. */
const BLOCK_MS = 500

type EntryReply = readonly [id: Buffer, fields: ReadonlyArray<Buffer>]
type ReadReply = ReadonlyArray<readonly [Buffer, ReadonlyArray<EntryReply>]> | null

/**
 * This node's stream: entries with contiguous numbers in an epoch, from one loss to the next. Whatever makes it doubtful that every entry comes
 * ends the epoch: {@link lose}.
 */
export class NodeStream {
  readonly node: string
  /** Counts the attempts to have a lease; the number of the present one, or of the last one. */
  epoch = 0
  /** Open while this node is known to others, and what is appended comes. */
  readonly live = Latch.makeUnsafe(false)
  /** Open while it is not. */
  readonly lost = Latch.makeUnsafe(true)
  /** The number of the last entry that came, and the bytes of all of this epoch. */
  last = 0
  bytes = 0
  /** How far Redis has been told, and how many bytes that were. */
  #told = 0
  #toldBytes = 0
  #isLive = false
  #items: Array<NodeItem> = []
  /** What came after a loss that the node was not told of yet; undefined while there is none. */
  #after: Array<NodeItem> | undefined
  #reason = ""
  /** Bytes of what came since the node had taken everything. */
  #waiting = 0
  /** Gives the one who takes what there is, if anything; undefined while nobody does. */
  #taker: (() => void) | undefined
  readonly #emptied = Latch.makeUnsafe(true)
  #isFull = false
  readonly #keys: { readonly lease: string; readonly stream: string }

  constructor(node: string, keys: RouterKeys) {
    this.node = node
    this.#keys = { lease: keys.lease(node), stream: keys.stream(node) }
  }

  get isLive(): boolean {
    return this.#isLive
  }

  /** This node has a lease, of this epoch. */
  begin(epoch: number): void {
    this.epoch = epoch
    this.last = this.bytes = this.#told = this.#toldBytes = 0
    this.#isLive = true
    this.lost.closeUnsafe()
    this.live.openUnsafe()
  }

  /** Ends the epoch. What came before is still taken, and then the node is told. */
  lose(reason: string): void {
    if (!this.#isLive) return
    this.#isLive = false
    this.#after = []
    this.#reason = reason
    this.live.closeUnsafe()
    this.lost.openUnsafe()
    this.#taker?.()
  }

  /** This node goes away, and nothing is lost by that. */
  end(): void {
    this.#isLive = false
    this.live.closeUnsafe()
  }

  take(max: number): Effect.Effect<ReadonlyArray<NodeItem>, StreamLost> {
    return Effect.callback((resume) => {
      const taker = (): void => {
        const items = this.#items
        if (items.length > 0) {
          this.#taker = undefined
          this.#keep(items.length <= max ? [] : items.slice(max))
          resume(Effect.succeed(items.length <= max ? items : items.slice(0, max)))
        } else if (this.#after !== undefined) {
          const after = this.#after
          const lost = new StreamLost({ reason: this.#reason })
          this.#taker = this.#after = undefined
          this.#keep(after)
          resume(Effect.fail(lost))
        }
      }
      this.#taker = taker
      taker()
      return Effect.sync(() => {
        if (this.#taker === taker) this.#taker = undefined
      })
    })
  }

  #keep(items: Array<NodeItem>): void {
    this.#items = items
    if (items.length === 0) this.#waiting = 0
    if (items.length >= READ_AHEAD || this.#waiting >= READ_AHEAD_BYTES) return
    this.#isFull = false
    this.#emptied.openUnsafe()
  }

  /** Reads what is appended, as long as the scope of the connection lives. */
  read(redis: RedisConnection): Effect.Effect<never> {
    return this.live.await.pipe(
      Effect.andThen(this.#emptied.await),
      Effect.andThen(this.#readOn(redis)),
      Effect.catch((error) => {
        // It is not known what the server makes of a reading that was given up: a new connection is one that asks for nothing else.
        if (error.code === "timeout") redis.client.disconnect(true)
        this.lose(error.reason)
        return Effect.sleep("20 millis")
      }),
      Effect.forever
    )
  }

  /** Reads until the epoch ends, or until so much waits that reading has to. Once a message at least, on every node: so by callbacks, and not by the steps of a fiber. */
  #readOn(redis: RedisConnection): Effect.Effect<void, RedisUnavailable> {
    return Effect.callback((resume) => {
      let isOver = false
      let cancel: (() => void) | undefined
      const next = (): void => {
        if (isOver) return
        if (!this.#isLive || this.#isFull) return resume(Effect.void)
        const { bytes, epoch, last } = this
        const tells = last - this.#told >= TELL_ENTRIES || bytes - this.#toldBytes >= TELL_BYTES
        cancel = redis.ask(
          "take",
          (client) => this.#read(client, tells),
          (exit) => {
            if (exit._tag === "Failure") return resume(exit)
            try {
              if (epoch === this.epoch && this.#isLive) {
                if (tells) {
                  this.#told = last
                  this.#toldBytes = bytes
                }
                this.#came(exit.value)
              }
            } catch (defect) {
              return resume(Effect.die(defect))
            }
            next()
          }
        )
      }
      next()
      return Effect.sync(() => {
        isOver = true
        cancel?.()
      })
    })
  }

  async #read(client: Redis, tells: boolean): Promise<ReadReply> {
    const { lease, stream } = this.#keys
    const read = ["COUNT", READ_ENTRIES, "BLOCK", BLOCK_MS, "STREAMS", stream, `${this.epoch}-${this.last}`] as const
    if (!tells) return await client.xreadBuffer(...read)
    const taken = [named("taken"), 2, lease, stream, this.epoch, this.last, this.bytes] as const
    const [, reply] = await pipelined(client, [taken, ["xreadBuffer", ...read]])
    return reply as ReadReply
  }

  #came(reply: ReadReply): void {
    if (reply === null) return
    for (const entry of reply[0]![1]) if (!this.#entry(entry)) return
    this.#taker?.()
  }

  /** Takes an entry in; false when it is not the next one. */
  #entry([id, [, meta, , frames]]: EntryReply): boolean {
    const expected = `${this.epoch}-${this.last + 1}`
    const found = id.toString("latin1")
    if (found !== expected || meta === undefined || frames === undefined) {
      this.lose(`entry ${expected} was expected in it, and ${found} came`)
      return false
    }
    const size = entryBytes(meta, frames)
    this.last++
    this.bytes += size
    this.#waiting += size
    const into = this.#after ?? this.#items
    try {
      for (const item of decodeItems(this.node, meta, frames)) into.push(item)
    } catch {
      this.lose(`entry ${found} of it cannot be read; it may be of another version of Darda`)
      return false
    }
    if (into.length >= READ_AHEAD || this.#waiting >= READ_AHEAD_BYTES) {
      this.#isFull = true
      this.#emptied.closeUnsafe()
    }
    return true
  }
}
