/** A process that takes a minute to stop in peace; says so once it runs. With an argument: so many seconds are allowed for it. */
import * as Effect from "effect/Effect"
import { runProcess, stopWithin } from "../../src/main/run.ts"

const allowed = process.argv[2]

runProcess(
  Effect.gen(function* () {
    if (allowed !== undefined) yield* stopWithin(Number(allowed))
    console.log("running")
    return yield* Effect.never
  }).pipe(
    Effect.ensuring(Effect.sync(() => console.log("stopping")).pipe(Effect.andThen(Effect.sleep("1 minute")))),
    Effect.scoped
  ),
  () => false
)
