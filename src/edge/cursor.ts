import { Buffer } from "node:buffer"
import type { Vector } from "../domain/partition.ts"

/**
 * A place in the log: everything up to it has been given. `<log id>.<positions>` in base64url, opaque to clients. A cursor of another log, or of
 * one with other partitions, is unknown.
 */
export const encodeCursor = (log: string, vector: Vector): string =>
  Buffer.from(`${log}.${vector.map((position) => position.toString(36)).join(",")}`).toString("base64url")

/** The vector of a cursor of this log; undefined when it is not one. */
export const decodeCursor = (log: string, partitions: number, cursor: string): Vector | undefined => {
  const text = Buffer.from(cursor, "base64url").toString("latin1")
  if (!text.startsWith(`${log}.`)) return undefined
  const vector = text
    .slice(log.length + 1)
    .split(",")
    .map((part) => (/^[0-9a-z]{1,11}$/.test(part) ? parseInt(part, 36) : NaN))
  return vector.length === partitions && vector.every(Number.isSafeInteger) ? vector : undefined
}
