import * as Effect from "effect/Effect"
import { CLOSE } from "../domain/protocol/close-codes.ts"
import type { Connection } from "./Connection.ts"
import { Frame } from "./Frame.ts"
import type { Node } from "./Node.ts"

/** Connections that are sent elsewhere in a second: what the other edges can take beside their work, also when two edges leave at once. */
const PER_SECOND = 150
/** Bounds of the longest pause that a client is asked for, in milliseconds: nobody should be away for longer than 5 s, connecting included. */
const PAUSE_MS = { min: 500, max: 4_000 }
/** How long after its pause a client is waited for that goes by itself, in milliseconds. */
const SLACK_MS = 500
/** Parts of the grace period: until then the last one was told, closed, and gone; the rest of it is for the partitions and the engines. */
const TOLD = 0.6
const CLOSED = 0.7
const GONE = 0.8
const TICK_MS = 50

/** How so many connections leave within a grace period. All times in milliseconds from its beginning. */
export interface DrainPlan {
  /** Over this time they are told, one after the other. */
  readonly spread: number
  /** Each comes back elsewhere at a random moment up to this long after it was told, or closed. */
  readonly pause: number
  /** This long after it was told one that has not gone by itself is closed, unless it waits for an answer. */
  readonly stay: number
  /** By then all are closed. */
  readonly closed: number
}

/**
 * {@link PER_SECOND}, as far as the grace period allows that; what it does not is left to the pause. That is no longer than the last ones are waited for, unless they are told faster than
 * they come back: who is still there when all are closed is away for the rest of it.
 */
export const drainPlan = (connections: number, graceMs: number): DrainPlan => {
  const needed = (connections * 1_000) / PER_SECOND
  const closed = graceMs * CLOSED
  const spread = Math.min(needed, graceMs * TOLD)
  const most = spread < PAUSE_MS.max ? PAUSE_MS.max : Math.min(PAUSE_MS.max, closed - spread - SLACK_MS)
  const pause = Math.round(Math.max(PAUSE_MS.min, Math.min(most, needed - spread)))
  return { spread, pause, stay: pause + SLACK_MS, closed }
}

/**
 * Sends all clients elsewhere, a few at a time, answers what is under way, and closes who is left: all within {@link GONE} of so many seconds. Whoever
 * calls it lets nobody in any more.
 */
export const drain = Effect.fnUntraced(function* (node: Node, seconds: number): Effect.fn.Return<void> {
  const graceMs = seconds * 1_000
  const began = node.now()
  const connections = [...node.connections()]
  const { closed, pause, spread, stay } = drainPlan(connections.length, graceMs)
  const turn = (index: number): number => (spread * index) / connections.length
  let told = 0
  let staying: Array<readonly [connection: Connection, until: number]> = []
  for (;;) {
    const elapsed = node.now() - began
    if (told < connections.length && turn(told) <= elapsed) {
      const deadlineMs = Math.max(0, Math.round(closed - elapsed))
      const frame = new Frame({ t: "drain", reconnectAfterMs: { min: 0, max: pause }, deadlineMs })
      for (; told < connections.length && turn(told) <= elapsed; told++) {
        const connection = connections[told]!
        // Before its welcome a client knows nothing of drains.
        if (connection.feed !== undefined) connection.push(frame)
        staying.push([connection, turn(told) + stay])
      }
    }
    staying = staying.filter(([connection, until]) => {
      if (connection.isClosing) return false
      if (elapsed < until || connection.waiting > 0) return true
      connection.close(CLOSE.draining)
      return false
    })
    if (elapsed >= closed || (node.size === 0 && node.requests().length === 0)) break
    yield* Effect.sleep(TICK_MS)
  }
  for (const connection of node.connections()) connection.close(CLOSE.draining)
  while (node.size > 0 && node.now() - began < graceMs * GONE) yield* Effect.sleep(TICK_MS)
})
