import { Effect, type Scope } from "effect"
import * as Redacted from "effect/Redacted"
import type { EngineAddress } from "../../src/platform/EngineAddress.ts"
import { privateRedis } from "./privateEngines.ts"

/** A Redis of a test's own, which may be stopped, killed and emptied. */
export interface RedisServer {
  readonly address: EngineAddress
  readonly port: number
  /** SIGSTOP: it holds its connections and answers nothing. */
  readonly pause: () => void
  readonly resume: () => void
  /** `kill -9`; nothing of what it held is kept. */
  readonly kill: Effect.Effect<void>
  /** Starts it again, empty, on the same port. */
  readonly start: Effect.Effect<void>
}

export const redisAddress = (url: string): EngineAddress => ({ url: Redacted.make(url), tls: { verify: true } })

/** A redis-server without persistence, with these further arguments of its command line. */
export const redisServer = (...args: ReadonlyArray<string>): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => privateRedis({ args })),
    ({ dispose }) => Effect.promise(dispose)
  ).pipe(
    Effect.map(({ cont, kill9, port, restart, stop }) => ({
      port,
      address: redisAddress(`redis://127.0.0.1:${port}`),
      pause: stop,
      resume: cont,
      kill: Effect.promise(kill9),
      start: Effect.promise(restart)
    }))
  )
