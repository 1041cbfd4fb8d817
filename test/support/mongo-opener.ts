/** A process that opens a log, appends one event to a conversation of its own, and prints the log's id. `node mongo-opener.ts URL NAME` */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { dmConversation } from "../../src/domain/ids.ts"
import { LogCommitter, say } from "./log-committer.ts"
import { openMongoLog } from "./mongo-log.ts"
import { partitionOf } from "../../src/domain/partition.ts"

const [url = "", name = ""] = process.argv.slice(2)
const conv = dmConversation("ann", name)

const program = Effect.gen(function* () {
  const log = yield* openMongoLog(url)
  const committer = yield* LogCommitter.claim(log, { partitions: [partitionOf(conv, log.partitions)] })
  yield* committer.commit([say(conv, "ann", "c1", "hi")]).pipe(Effect.ignore)
  console.log(log.id)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Logger.layer([]))))
