/** What the checks of shared engines have in common. */
import * as Redacted from "effect/Redacted"
import { type EngineAddress, shownUrl } from "../../platform/EngineAddress.ts"
import { bad, type Finding, good, note } from "./finding.ts"

/** How long an engine may take to answer the doctor, in milliseconds. */
export const ANSWER_MS = 5_000
/** Clocks that differ by more than this many milliseconds are told of: tokens and times depend on them. */
const CLOCKS_MS = 5_000

/** What a driver says, without the address, which may hold a password. */
export const hidden = (address: EngineAddress, message: string): string =>
  message
    .replaceAll(Redacted.value(address.url), shownUrl(address))
    .replace(/\/\/[^@/\s]*@/g, "//")
    .replace(/\.+$/, "")

const isOlder = (version: string, [major, minor]: readonly [number, number]): boolean => {
  const [has = 0, hasMinor = 0] = version.split(".").map(Number)
  return has < major || (has === major && hasMinor < minor)
}

export const ofVersion = (shown: string, version: string, least: readonly [number, number]): Finding =>
  isOlder(version, least)
    ? bad(`${shown}: is version ${version}; at least ${least.join(".")} is needed: upgrade it`)
    : good(`${shown}: version ${version}`)

/** Compares the clock of an engine, in milliseconds, with that of this machine while the question was under way. */
export const ofClock = (shown: string, theirs: number, asked: number, answered: number): ReadonlyArray<Finding> => {
  const ahead = theirs < asked ? theirs - asked : Math.max(0, theirs - answered)
  if (Math.abs(ahead) <= CLOCKS_MS) return []
  const by = `${(Math.abs(ahead) / 1000).toFixed(0)} s ${ahead > 0 ? "ahead of" : "behind"}`
  return [note(`${shown}: its clock is ${by} the one here: set both by the same source`)]
}
