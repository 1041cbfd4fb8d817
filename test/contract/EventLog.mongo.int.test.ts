import { Effect } from "effect"
import { freshMongoUrl } from "../support/engines.ts"
import { openMongoLog } from "../support/mongo-log.ts"
import { eventLogContract } from "./EventLog.contract.ts"

eventLogContract(
  "EventLog in MongoDB",
  Effect.sync(() => {
    const url = freshMongoUrl()
    return { open: openMongoLog(url) }
  })
)
