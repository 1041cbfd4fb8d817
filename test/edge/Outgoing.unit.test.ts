import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import { buffersOf, Frame } from "../../src/edge/Frame.ts"
import { Outgoing, QUEUE_BYTES, QUEUE_FRAMES } from "../../src/edge/Outgoing.ts"

const frame = (number: number): Frame => new Frame(Buffer.from(`${number}`))
const numbers = (from: number, to: number): ReadonlyArray<Frame> =>
  Array.from({ length: to - from }, (_, i) => frame(from + i))

/** A queue, what its socket has got, and a way to let the socket take more. */
const scene = () => {
  const written: Array<ReadonlyArray<string>> = []
  const taken: Array<() => void> = []
  const out = new Outgoing({
    write: (frames, done) => {
      written.push(frames.map(({ payload }) => payload.toString()))
      taken.push(done)
    },
    ping: () => {},
    close: () => {},
    pause: () => {},
    resume: () => {}
  })
  return { out, written, taken }
}

describe("the queue before a socket", () => {
  it("shares an array of frames with other queues, and leaves it as it is", async () => {
    const shared = numbers(0, 3)
    const scenes = [scene(), scene()]
    for (const { out } of scenes) assert.isTrue(out.pushAll(shared, 3))
    scenes[0]!.out.push(frame(3))
    scenes[1]!.out.pushAll(numbers(7, 9), 2)
    await Promise.resolve()
    assert.deepStrictEqual(scenes[0]!.written, [["0", "1", "2", "3"]])
    assert.deepStrictEqual(scenes[1]!.written, [["0", "1", "2", "7", "8"]])
    assert.lengthOf(shared, 3)
  })

  it("takes all frames of a group, or none where they do not fit", async () => {
    const { out, taken, written } = scene()
    out.push(frame(0))
    await Promise.resolve()
    assert.isTrue(out.pushAll(numbers(0, QUEUE_FRAMES - 1), 0))
    assert.isFalse(out.pushAll(numbers(0, 2), 2))
    assert.isTrue(out.push(frame(1)))
    assert.isFalse(out.push(frame(2)))
    taken.shift()!()
    assert.lengthOf(written[1]!, QUEUE_FRAMES)
  })
})

describe("more than a queue holds, in one step", () => {
  const runs = [numbers(0, 1_000), numbers(1_000, 2_000), numbers(2_000, 2_500)]

  it("is written where the socket takes it, in order", async () => {
    const written: Array<string> = []
    const out = new Outgoing({
      write: (frames, done) => {
        for (const { payload } of frames) written.push(payload.toString())
        done()
      },
      ping: () => {},
      close: () => {},
      pause: () => {},
      resume: () => {}
    })
    for (const run of runs) assert.isTrue(out.pushAll(run, 600 * 1024))
    assert.isTrue(out.push(frame(2_500)))
    assert.isTrue(out.pushAll(numbers(2_501, 2_503), 3 * QUEUE_BYTES))
    await Promise.resolve()
    assert.deepStrictEqual(
      written,
      Array.from({ length: 2_503 }, (_, i) => `${i}`)
    )
  })

  it("is refused where the socket does not", async () => {
    const { out, taken, written } = scene()
    assert.isTrue(out.pushAll(runs[0]!, 600 * 1024))
    assert.isTrue(out.pushAll(runs[1]!, 600 * 1024))
    assert.isFalse(out.pushAll(runs[2]!, 600 * 1024))
    await Promise.resolve()
    assert.lengthOf(written, 1)
    assert.lengthOf(taken, 1)
  })
})

describe("the bytes of what is written", () => {
  const objects = (frames: ReadonlyArray<Frame>): string =>
    Buffer.concat(buffersOf(frames))
      .toString("latin1")
      .replace(/^[\x80-\xff]./, "")

  it("are made once for queues that hold the same, and anew for those that do not", () => {
    const [a, b, c] = numbers(1, 4) as [Frame, Frame, Frame]
    assert.strictEqual(buffersOf([a, b])[0], buffersOf([a, b])[0])
    assert.strictEqual(objects([a, b]), "[1,2]")
    assert.strictEqual(objects([a, c]), "[1,3]")
    assert.strictEqual(objects([a, b, c]), "[1,2,3]")
    assert.strictEqual(objects([b]), "2")
  })
})
