import { assert, describe, it } from "@effect/vitest"
import { Frame } from "../../src/edge/Frame.ts"
import { Outgoing, QUEUE_FRAMES } from "../../src/edge/Outgoing.ts"

const must = (seq: number) => new Frame({ t: "reset", conv: "g", head: seq })
const optional = () => new Frame({ t: "typing", conv: "g", user: "ann", on: true }, true)

/** A queue before a socket that takes nothing until it is told to. */
const queue = () => {
  let written: ReadonlyArray<Frame> = []
  let flow = (): void => {}
  const out = new Outgoing({
    write: (frames, done) => {
      written = [...written, ...frames]
      flow = done
    },
    ping: () => {},
    close: () => {},
    pause: () => {},
    resume: () => {}
  })
  return { out, written: () => written, flow: () => flow() }
}

describe("what a queue can do without", () => {
  it("takes what is optional only while it is less than half full", async () => {
    const { out, flow, written } = queue()
    out.push(must(0))
    await Promise.resolve()
    for (let i = 0; i < QUEUE_FRAMES; i++) assert.isTrue(out.push(optional()))
    flow()
    assert.lengthOf(written(), 1 + QUEUE_FRAMES / 2)
  })

  it("gives up what is optional before it is full for what is not, and keeps the order of the rest", async () => {
    const { out, flow, written } = queue()
    out.push(must(0))
    await Promise.resolve()
    for (let i = 0; i < 200; i++) out.push(optional())
    const seqs = Array.from({ length: QUEUE_FRAMES }, (_, i) => i + 1)
    for (const seq of seqs) assert.isTrue(out.push(must(seq)), `${seq}`)
    assert.isFalse(out.push(must(QUEUE_FRAMES + 1)))
    flow()
    assert.deepStrictEqual(
      written().map(({ payload }) => (JSON.parse(payload.toString()) as { readonly head: number }).head),
      [0, ...seqs]
    )
  })
})
