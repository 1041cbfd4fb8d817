import * as Result from "effect/Result"
import fc from "fast-check"
import { expect, it } from "vitest"
import { decodeBySchema, decodeClientFrame } from "../../src/domain/protocol/decode.ts"

const limits = { bodyChars: 50 }
const dm = "dm:alice:bob"

/** Mostly what belongs into a field, and often enough what does not. */
const value = (...right: readonly unknown[]) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...right) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(0, -1, 1.5, 2 ** 53, null, true, "", "a b", "\u0000", "\ud800", "dm:b:a", [], {})
    },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 80 }) },
    { weight: 1, arbitrary: fc.jsonValue() }
  )

const fields = {
  cid: value("c1", "0190-x"),
  conv: value(dm, "g:0f0e0d0c-0b0a-8908-8706-050403020100"),
  to: value("bob"),
  body: value("hi", "x".repeat(50), "x".repeat(51), "👋"),
  kind: value("text", "image"),
  replyTo: value(1, 77),
  delivered: value(1, 5),
  seen: value(1, 5),
  on: value(true, false),
  extra: value(1)
}
const own = {
  send: ["cid", "conv", "to", "body", "kind", "replyTo"],
  mark: ["conv", "delivered", "seen"],
  typing: ["conv", "on"],
  ping: []
} as const satisfies Record<string, readonly (keyof typeof fields)[]>

const frame = fc.constantFrom(...(Object.keys(own) as (keyof typeof own)[])).chain((t) => {
  const some = fc.subarray([...own[t], "extra"] as (keyof typeof fields)[])
  // Most of the fields most of the time, or hardly any frame would be right.
  const most = fc.constant([...own[t]].filter((field) => field !== "to") as (keyof typeof fields)[])
  return fc
    .oneof(some, most)
    .chain((names) => fc.record(Object.fromEntries(names.map((name) => [name, fields[name]]))))
    .map((rest) => ({ t, ...rest }))
})

it("the quick judges and the Schemas give the same answer to every frame", () => {
  let accepted = 0
  let refused = 0
  fc.assert(
    fc.property(frame, (generated) => {
      const parsed: unknown = JSON.parse(JSON.stringify(generated))
      const quick = decodeClientFrame(parsed, limits)
      const schema = decodeBySchema(parsed, limits)
      if (Result.isSuccess(schema)) accepted++
      else refused++
      expect(Result.isSuccess(quick)).toBe(Result.isSuccess(schema))
      expect(Result.isSuccess(quick) ? quick.success : quick.failure).toEqual(
        Result.isSuccess(schema) ? schema.success : schema.failure
      )
    }),
    { numRuns: 5_000 }
  )
  // Both sides must have been tried for the agreement to mean anything.
  expect(accepted).toBeGreaterThan(500)
  expect(refused).toBeGreaterThan(500)
})
