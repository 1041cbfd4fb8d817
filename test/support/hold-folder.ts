/** Holds the data folder that it is given until it is killed; says so once it does. */
import * as Effect from "effect/Effect"
import { openDataFolder } from "../../src/platform/DataFolder.ts"

Effect.runFork(
  Effect.scoped(
    openDataFolder(process.argv[2]!).pipe(
      Effect.tap(() => Effect.sync(() => console.log("held"))),
      Effect.andThen(Effect.never)
    )
  )
)
