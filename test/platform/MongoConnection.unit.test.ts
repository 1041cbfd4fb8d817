import { assert, it } from "@effect/vitest"
import { MongoServerError } from "mongodb"
import { mongoCode, mongoReason } from "../../src/platform/MongoConnection.ts"

it("what went wrong is said without the password, and without what was to be written", () => {
  const refused = new MongoServerError({
    code: 13,
    errmsg:
      'not authorized on admin to execute command { bulkWrite: 1, ops: [ { insert: 1, document: { event: "my secret" } } ] }'
  })
  assert.strictEqual(mongoReason(refused), "not authorized on admin")
  assert.strictEqual(mongoCode(refused), 13)
  const parsed = new Error("Invalid URL mongodb://me:password@host/.")
  assert.strictEqual(mongoReason(parsed), "Invalid URL mongodb://host/")
  assert.isAtMost(mongoReason(new Error("x".repeat(10_000))).length, 300)
})
