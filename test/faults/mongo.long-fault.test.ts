/** F7: commits that are not answered. */
import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import { Ways } from "../support/fault-mongo.ts"
import { scene } from "../support/fault-scene.ts"
import { type PrivateMongo, privateMongo } from "../support/privateEngines.ts"

let mongo: PrivateMongo
beforeAll(async () => {
  mongo = await privateMongo()
})
afterAll(() => mongo.dispose())

describe("a commit whose answer never comes (F7)", () => {
  it("is looked up before anybody is answered", async () => {
    await using ways = await Ways.open(mongo.port, 1)
    const { load } = await scene("F7", { engines: { mongoUrl: mongo.url }, start: ways.start })
    for (let round = 0; round < 3; round++) {
      await load.progress(100)
      await ways.commit((through) => through.replies("swallow"))
      await load.progress(200)
    }
    await load.settle()
  })
})
