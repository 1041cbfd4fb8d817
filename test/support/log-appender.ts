/**
 * A process that appends to a log until it is killed, and prints what was acked: a line `conv seq cid` for each event, after its append
 * answered. `node log-appender.ts FILE RUN`
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { writeSync } from "node:fs"
import { dmConversation } from "../../src/domain/ids.ts"
import { EventLog } from "../../src/write-side/EventLog.ts"
import { layerSqlite } from "../../src/write-side/EventLogSqlite.ts"
import { LogCommitter, mark, say } from "./log-committer.ts"

const [file = "", run = ""] = process.argv.slice(2)

const program = Effect.gen(function* () {
  const log = yield* EventLog
  const committer = yield* LogCommitter.claim(log, { edge: run })
  writeSync(1, "ready\n")
  for (let n = 0; ; n++) {
    const wishes = Array.from({ length: 1 + (n % 40) }, (_, i) => {
      const conv = dmConversation("ann", `u${(n * 7 + i) % 50}`)
      return i % 5 === 4
        ? mark(conv, "ann", 1)
        : say(conv, "ann", `${run}-${n}-${i}`, "x".repeat((n * 31 + i * 97) % 2000))
    })
    const relayed = n % 3 === 0 ? yield* log.outbox({ until: Date.now(), limit: 50 }) : []
    const events = yield* committer.commit(wishes, { relayed })
    // Synchronously, so that what was printed was acked, and what was acked is printed at most one commit later.
    writeSync(1, events.map(({ cid, conv, seq }) => `${conv} ${seq} ${cid}\n`).join(""))
  }
})

await Effect.runPromise(Effect.provide(program, Layer.fresh(layerSqlite({ file, partitions: 16 }))))
