import { Effect } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"

/** A part of the keys that nobody else has; they are taken away when the scope closes. */
export const redisScope = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => randomUUID().slice(0, 8)),
    (scope) =>
      Effect.promise(async () => {
        const client = new Redis(url)
        for await (const keys of client.scanStream({ match: `darda:${scope}:*`, count: 1_000 })) {
          if ((keys as ReadonlyArray<string>).length > 0) await client.unlink(keys as Array<string>)
        }
        client.disconnect()
      })
  )
