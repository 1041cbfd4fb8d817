import { partitionOf } from "../domain/partition.ts"

/** Parts of the routes, each in one slot of a Redis Cluster. */
const SHARDS = 4

/** A node as it is known between two losses: its name and a number that grows. */
export type Incarnation = string

export const incarnationOf = (node: string, epoch: number): Incarnation => `${node}.${epoch}`

export const nodeOf = (incarnation: Incarnation): string => incarnation.slice(0, incarnation.lastIndexOf("."))

/** The part that a route is in. */
export const shardOf = (user: string): number => partitionOf(user, SHARDS)

/** The keys of one log's routing. What one script touches shares a hash tag, so that a Redis Cluster takes it too. */
export const makeKeys = (scope: string) => {
  const prefix = `darda:${scope}:`
  const shards = Array.from({ length: SHARDS }, (_, shard) => {
    const part = `${prefix}{r${shard}}:`
    return {
      /** Hash: user, or big conversation, to the incarnations that hold them, separated by spaces. */
      routes: `${part}routes`,
      /** Sorted set: user by the time when their last device left. */
      seen: `${part}seen`,
      /** Set: the users and big conversations in this part that an incarnation holds. */
      held: (incarnation: Incarnation) => `${part}held:${incarnation}`
    }
  })
  return {
    /** Sorted set: incarnation by the time when its lease runs out. */
    nodes: `${prefix}nodes`,
    /** Hash, with the lease's time to live: `e` epoch, `n` entries and `b` bytes that were appended, `t` bytes that were taken. */
    lease: (node: string) => `${prefix}{n:${node}}:lease`,
    /** Stream: one entry for each append, `<epoch>-<number>`. */
    stream: (node: string) => `${prefix}{n:${node}}:stream`,
    claim: (key: string) => `${prefix}claim:${key}`,
    shards,
    /** Channels of signals: of all nodes, and of one. */
    everyone: `${prefix}signals`,
    signals: (node: string) => `${prefix}signals:${node}`
  }
}

export type RouterKeys = ReturnType<typeof makeKeys>

/** A field of every part of the routes by which an incarnation sees that they are still there. No user's name has an asterisk. */
export const canaryOf = (incarnation: Incarnation): string => `*${incarnation}`
