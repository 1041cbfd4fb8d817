import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** How long the same trouble is not spoken of again. */
const QUIET_MS = 30_000

/** Log lines that repeat while something lasts: the first is written, then one in 30 s with how many were kept back. */
export interface QuietLog {
  readonly warn: (what: string, message: string) => Effect.Effect<void>
  /** The trouble is over, which is said if it was. */
  readonly over: (what: string) => Effect.Effect<void>
}

/** Knows as many troubles as the code names: `what` comes from a fixed set. */
export const makeQuietLog = (): QuietLog => {
  const said = new Map<string, { at: number; kept: number; lasts: boolean }>()
  return {
    warn: (what, message) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const last = said.get(what)
        if (last !== undefined && now - last.at < QUIET_MS) {
          last.kept++
          return Effect.void
        }
        said.set(what, { at: now, kept: 0, lasts: true })
        const kept = last === undefined || last.kept === 0 ? "" : ` (${last.kept} more since the last such line)`
        return Effect.logWarning(`${what}: ${message}${kept}`)
      }),
    over: (what) =>
      Effect.suspend(() => {
        const last = said.get(what)
        if (last === undefined || !last.lasts) return Effect.void
        last.lasts = false
        return Effect.logInfo(`${what}: works again.`)
      })
  }
}
