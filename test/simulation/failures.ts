import type { Failure } from "./explore.ts"

/** How many violations of one history are shown: the first ones tell the most. */
const SHOWN = 5

/** A failure as a person reads it: what does not hold, the shrunk plan, what happened in it, and how to see it again. */
export const describeFailure = (
  { history, invariant, path, plan, seed, violations }: Failure,
  options: ReadonlyArray<string>
): string =>
  [
    `${invariant} does not hold:`,
    ...violations.slice(0, SHOWN).map(({ message, where }) => `  ${where}: ${message}`),
    ...(violations.length > SHOWN ? [`  and ${violations.length - SHOWN} more`] : []),
    plan,
    history,
    `Again: node test/simulation/run.ts --seed ${seed} --path ${path} ${options.join(" ")}`.trimEnd()
  ].join("\n")
