import * as Effect from "effect/Effect"
export const replay = Effect.void
export const verify = Effect.void
