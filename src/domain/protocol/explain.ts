/** Turns what a Schema found into one sentence for a person: which field, what is allowed, what was given. */
import * as SchemaIssue from "effect/SchemaIssue"

/** Fields whose values never appear in messages, because messages end up in logs. */
const SECRETS: ReadonlySet<PropertyKey> = new Set(["token", "ticket"])
const SHOWN_CHARS = 60

/** A value as it may stand in a message: short, and on one line. */
export const show = (value: unknown): string => {
  if (value === undefined) return "nothing"
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === "object" && value !== null) return "an object"
  if (typeof value !== "string" || value.length <= SHOWN_CHARS) return JSON.stringify(value)
  return `${JSON.stringify(value.slice(0, SHOWN_CHARS).toWellFormed())}... (${value.length} characters)`
}

/**
 * The first thing that is wrong with `input`. `what` names the kind of thing (the `t` of a frame, an HTTP body) and
 * `known` its fields, for the message about a field that it does not have.
 */
export const explainIssue = (
  what: string,
  known: readonly string[],
  input: unknown,
  issue: SchemaIssue.Issue
): string => {
  const first = format(issue).issues[0]
  const path = (first?.path ?? []) as readonly PropertyKey[]
  const problem = first?.message ?? "expected a valid value"
  const where = path.map((key) => showKey(key)).join(".")
  if (problem === MISSING) return `${where}: is missing in ${what}`
  if (problem === UNEXPECTED) {
    return path.length === 1
      ? `${where}: is no field of ${what}, which has ${known.join(", ")}`
      : `${where}: is no field of ${path.slice(0, -1).map(String).join(".")} in ${what}`
  }
  const expected = problem.charAt(0).toLowerCase() + problem.slice(1)
  if (where === "") return `${what}: ${expected}`
  return path.some((key) => SECRETS.has(key))
    ? `${where}: ${expected}`
    : `${where}: ${expected}, got ${show(at(input, path))}`
}

const MISSING = "\u0000missing"
const UNEXPECTED = "\u0000unexpected"

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (leaf) =>
    leaf._tag === "MissingKey"
      ? MISSING
      : leaf._tag === "UnexpectedKey"
        ? UNEXPECTED
        : SchemaIssue.defaultLeafHook(leaf)
})

const at = (input: unknown, path: readonly PropertyKey[]): unknown => {
  let value = input
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key]
  return value
}

/** A key as it stands in a path: shortened, because a client may send any key. */
const showKey = (key: PropertyKey): string => {
  const text = String(key)
  return /^[A-Za-z0-9_:.@|+=~-]{1,270}$/.test(text) ? text : show(text)
}
