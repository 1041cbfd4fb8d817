import * as Effect from "effect/Effect"
export const load = (_: unknown) => Effect.void
