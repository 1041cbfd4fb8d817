/**
 * A process that claims all partitions of a log and appends to one conversation until it cannot: prints each cid when it is acked, and in the end why it
 * stopped. `node mongo-appender.ts URL`
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { writeSync } from "node:fs"
import { dmConversation } from "../../src/domain/ids.ts"
import { LogCommitter, say } from "./log-committer.ts"
import { openMongoLog } from "./mongo-log.ts"

const [url = ""] = process.argv.slice(2)

const program = Effect.gen(function* () {
  const committer = yield* LogCommitter.claim(yield* openMongoLog(url))
  for (let n = 1; ; n++) {
    const result = yield* Effect.result(committer.commit([say(dmConversation("ann", "bob"), "ann", `p${n}`, "x")]))
    // Synchronously, so that what was acked is printed, and the reader of it knows what came before.
    writeSync(1, `${result._tag === "Success" ? `p${n}` : result.failure._tag}\n`)
    if (result._tag === "Failure") return
  }
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Logger.layer([]))))
