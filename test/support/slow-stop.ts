/** A process that takes a minute to stop in peace; says so once it runs. */
import * as Effect from "effect/Effect"
import { runProcess } from "../../src/main/run.ts"

runProcess(
  Effect.sync(() => console.log("running")).pipe(
    Effect.andThen(Effect.never),
    Effect.ensuring(Effect.sync(() => console.log("stopping")).pipe(Effect.andThen(Effect.sleep("1 minute"))))
  ),
  () => false
)
