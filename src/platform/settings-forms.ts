/** The forms that a setting can have. `parse` answers undefined for what is not allowed. */
import * as Redacted from "effect/Redacted"

/** One setting: what the table of settings consists of. */
export interface Setting<A> {
  readonly name: string
  readonly group: "Server" | "Engines" | "Identity" | "Limits" | "Logs"
  /** One line, without a full stop. */
  readonly doc: string
  /** What is allowed, for a person. */
  readonly allowed: string
  readonly unit?: string
  readonly secret: boolean
  /** The value when nothing is given. */
  readonly fallback: A
  /** The same for a person. */
  readonly fallbackText: string
  readonly parse: (given: string) => A | undefined
}

interface Common {
  readonly name: string
  readonly group: Setting<unknown>["group"]
  readonly doc: string
  readonly unit?: string
}

const common = ({ name, group, doc, unit }: Common) =>
  unit === undefined ? { name, group, doc, secret: false } : { name, group, doc, unit, secret: false }

const NONE = "none"

/** A whole number between two bounds, both included. */
export const integer = (
  options: Common & { readonly fallback: number; readonly min: number; readonly max: number }
): Setting<number> => ({
  ...common(options),
  allowed: `a whole number from ${options.min} to ${options.max}`,
  fallback: options.fallback,
  fallbackText: String(options.fallback),
  parse: (given) => {
    // Number() would take " 1 ", "0x10" and "1e3" too, which nobody means.
    if (!/^\d{1,15}$/.test(given)) return undefined
    const value = Number(given)
    return value >= options.min && value <= options.max ? value : undefined
  }
})

/** One of a few words. Without `fallback` it is undefined when not given, and `fallbackText` says what happens then. */
export function choice<const V extends string>(
  options: Common & { readonly values: ReadonlyArray<V>; readonly fallback: V }
): Setting<V>
export function choice<const V extends string>(
  options: Common & { readonly values: ReadonlyArray<V>; readonly fallbackText: string }
): Setting<V | undefined>
export function choice<V extends string>(
  options: Common & { readonly values: ReadonlyArray<V>; readonly fallback?: V; readonly fallbackText?: string }
): Setting<V | undefined> {
  return {
    ...common(options),
    allowed: options.values.join(", "),
    fallback: options.fallback,
    fallbackText: options.fallbackText ?? options.fallback ?? NONE,
    parse: (given) => options.values.find((value) => value === given)
  }
}

/** On or off; off when not given. */
export const flag = (options: Common): Setting<boolean> => ({
  ...common(options),
  allowed: "0, 1",
  fallback: false,
  fallbackText: "0",
  parse: (given) => (given === "1" ? true : given === "0" ? false : undefined)
})

/** True unless it is said to be false. */
export const unlessFalse = (options: Common): Setting<boolean> => ({
  ...common(options),
  allowed: "true, false",
  fallback: true,
  fallbackText: "true",
  parse: (given) => (given === "true" ? true : given === "false" ? false : undefined)
})

/** A text that `accepts` accepts. Without `fallback` it is undefined when not given. */
export function text(
  options: Common & {
    readonly allowed: string
    readonly accepts: (value: string) => boolean
    readonly fallback: string
  }
): Setting<string>
export function text(
  options: Common & { readonly allowed: string; readonly accepts: (value: string) => boolean }
): Setting<string | undefined>
export function text(
  options: Common & {
    readonly allowed: string
    readonly accepts: (value: string) => boolean
    readonly fallback?: string
  }
): Setting<string | undefined> {
  return {
    ...common(options),
    allowed: options.allowed,
    fallback: options.fallback,
    fallbackText: options.fallback ?? NONE,
    parse: (given) => (options.accepts(given) ? given : undefined)
  }
}

/** Texts separated by commas; blanks around them do not count, and one that is not accepted refuses all. */
export const list = (
  options: Common & {
    readonly allowed: string
    readonly accepts: (value: string) => boolean
    readonly fallback: ReadonlyArray<string>
  }
): Setting<ReadonlyArray<string>> => ({
  ...common(options),
  allowed: options.allowed,
  fallback: options.fallback,
  fallbackText: options.fallback.length === 0 ? NONE : options.fallback.join(","),
  parse: (given) => {
    const values = given.split(",").map((value) => value.trim())
    return values.every(options.accepts) ? values : undefined
  }
})

/** A text that is never shown. */
export const secret = (
  options: Common & { readonly minChars: number }
): Setting<Redacted.Redacted<string> | undefined> => ({
  ...common(options),
  secret: true,
  allowed: `a random text of at least ${options.minChars} characters`,
  fallback: undefined,
  fallbackText: NONE,
  parse: (given) => (given.length >= options.minChars ? Redacted.make(given) : undefined)
})

/** An address of an engine with one of these schemes; never shown, since it may hold a password. */
export const engineUrl = (
  options: Common & { readonly schemes: ReadonlyArray<string> }
): Setting<Redacted.Redacted<string> | undefined> => ({
  ...common(options),
  secret: true,
  allowed: `a URL that begins with ${options.schemes.map((scheme) => `${scheme}://`).join(" or ")}`,
  fallback: undefined,
  fallbackText: NONE,
  parse: (given) => {
    const scheme = options.schemes.find((one) => given.startsWith(`${one}://`) && given.length > one.length + 3)
    if (scheme === undefined || /\s/.test(given)) return undefined
    // Several hosts separated by commas are no URL by the standard, and MongoDB's has them.
    const isWhole = scheme === "mongodb" || (URL.parse(given)?.hostname ?? "") !== ""
    return isWhole ? Redacted.make(given) : undefined
  }
})
