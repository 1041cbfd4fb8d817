/** Holds the data folder that it is given until it is killed; says so once it does, and nothing unused is left in memory. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"
import { openDataFolder } from "../../src/platform/DataFolder.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

Effect.runFork(Effect.scoped(openDataFolder(process.argv[2]!).pipe(Effect.andThen(Effect.never))))
// A second turn of the event loop: what the first left unreachable is closed by then.
setTimeout(() => {
  collectGarbage()
  setTimeout(() => console.log("held"), 50)
}, 50)
setInterval(() => {}, 60_000)
