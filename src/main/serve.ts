import * as Effect from "effect/Effect"
import { Settings } from "../platform/Settings.ts"
export const serve = Effect.flatMap(Settings, (s) => Effect.logInfo(s)).pipe(Effect.andThen(Effect.never))
