import * as Effect from "effect/Effect"
export const doctor = (_: unknown) => Effect.void
