/** F21: every read model is built anew while people talk, and whoever builds it dies. */
import { assert, describe, it } from "@effect/vitest"
import { darda } from "../cli/darda.ts"
import { isFull, scene } from "../support/fault-scene.ts"

describe("a replay under load (F21)", () => {
  it("that is killed in the middle changes nothing; one that ends is what everybody reads, and nobody is told anything", async () => {
    const { cluster, load } = await scene("F21", { edges: 2 })
    await load.progress(1_000, 60_000)
    for (let round = 0; round < (isFull ? 5 : 2); round++) {
      const killed = darda(["replay"], cluster.env)
      // Anywhere between its start and its end.
      await load.progress(20 + Math.random() * 200)
      killed.child.kill("SIGKILL")
      await killed.ended
      await load.progress(50)
      const whole = await darda(["replay"], cluster.env).ended
      assert.strictEqual(whole.code, 0, whole.stderr)
    }
    // A reader that dies while another process builds.
    const [reader] = cluster.readers as [(typeof cluster.readers)[0]]
    const running = darda(["replay"], cluster.env)
    await load.progress(30)
    await reader.kill9()
    await reader.start()
    assert.strictEqual((await running.ended).code, 0)
    await load.progress(100)
    await load.settle()
  })
})
