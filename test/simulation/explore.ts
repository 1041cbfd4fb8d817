import { hash } from "node:crypto"
import fc from "fast-check"
import type { Violation } from "../support/checker.ts"
import { describePlan, plan, type Plan } from "../support/sim-plan.ts"
import { describeHistory, type Outcome, simulate } from "../support/sim-run.ts"

/** How long one counterexample may be shrunk, in milliseconds. */
const SHRINK_MS = 20_000

/** What is explored. */
export interface Exploration {
  readonly runs: number
  readonly seed: number
  /** Replays one history: fast-check's path to it. */
  readonly path?: string | undefined
  /** Look for violations of these only. */
  readonly only?: ReadonlyArray<string> | undefined
  /** Shrink what is found. */
  readonly shrink: boolean
  /** Go no further than the first violation that was looked for. */
  readonly first?: boolean
}

/** A history in which an invariant does not hold. */
export interface Failure {
  readonly invariant: string
  readonly seed: number
  readonly path: string
  readonly plan: string
  readonly violations: ReadonlyArray<Violation>
  readonly history: string
}

export interface Report {
  readonly runs: number
  /** Of everything that happened in all of them: the same for the same seed and sources. */
  readonly digest: string
  readonly ms: number
  /** How many facts were judged, by invariant. */
  readonly judged: Readonly<Record<string, number>>
  /** Faults that took place. */
  readonly faults: number
  /** The first failure of each invariant. */
  readonly failures: ReadonlyArray<Failure>
}

/** A plan that the simulation itself cannot carry out is a failure too: it livelocks, or something throws where nothing may. */
const attempt = (one: Plan): Outcome | Violation => {
  try {
    return simulate(one)
  } catch (error) {
    return {
      invariant: "defect",
      where: "simulation",
      message: error instanceof Error ? (error.stack ?? error.message) : String(error)
    }
  }
}

const violationsOf = (outcome: Outcome | Violation): ReadonlyArray<Violation> =>
  "violations" in outcome ? outcome.violations : [outcome]

/** Carries out plans until there are enough, and shrinks the first one that violates each invariant. */
export const explore = ({ first = false, only, path, runs, seed, shrink }: Exploration): Report => {
  const began = performance.now()
  const judged = new Map<string, number>()
  const found = new Map<string, string>()
  let faults = 0
  let digest = ""
  let index = 0
  const look = (one: Plan): boolean => {
    const outcome = attempt(one)
    if ("violations" in outcome) {
      for (const [invariant, count] of outcome.judged) judged.set(invariant, (judged.get(invariant) ?? 0) + count)
      faults += outcome.fired.length
      digest = hash("sha256", digest + outcome.digest)
    }
    for (const { invariant } of violationsOf(outcome)) {
      if (!found.has(invariant) && only?.includes(invariant) !== false) found.set(invariant, path ?? String(index))
    }
    index++
    return !first || found.size === 0
  }
  fc.check(fc.property(plan, look), {
    seed,
    endOnFailure: true,
    ...(path === undefined ? { numRuns: runs } : { numRuns: 1, path })
  })

  const failures = [...found].map(([invariant, at]): Failure => {
    const violates = (one: Plan): boolean =>
      violationsOf(attempt(one)).some((violation) => violation.invariant === invariant)
    const details = fc.check(
      fc.property(plan, (one) => !violates(one)),
      { seed, path: at, numRuns: 1, endOnFailure: !shrink, interruptAfterTimeLimit: SHRINK_MS }
    )
    const smallest = details.counterexample?.[0]
    if (smallest === undefined || smallest === null) {
      return {
        invariant,
        seed,
        path: at,
        plan: "",
        history: "",
        violations: [{ invariant, where: "simulation", message: "was not found again" }]
      }
    }
    const outcome = attempt(smallest)
    return {
      invariant,
      seed,
      path: details.counterexamplePath ?? at,
      plan: describePlan(smallest),
      violations: violationsOf(outcome).filter((violation) => violation.invariant === invariant),
      history: "violations" in outcome ? describeHistory(outcome.history) : ""
    }
  })
  return {
    runs: index,
    digest,
    ms: Math.round(performance.now() - began),
    judged: Object.fromEntries(judged),
    faults,
    failures
  }
}
