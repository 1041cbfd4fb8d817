/**
 * Runs simulated histories in a process of its own, so that sources can be changed as they are loaded:
 *
 *     node test/simulation/run.ts --runs 500 --seed 1 [--tight] [--mutant NAME] [--path 12:3:0] [--only I10] [--first] [--no-shrink] [--json]
 */
import "effect/schema/SchemaJITCompiler/enable"
import { parseArgs } from "node:util"
import type { Report } from "./explore.ts"
import { describeFailure } from "./failures.ts"
import { mutants } from "./mutants.ts"
import { substitute } from "./substitutions.ts"
import { tight } from "./tight.ts"

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "200" },
    seed: { type: "string", default: "1" },
    path: { type: "string" },
    only: { type: "string", multiple: true },
    mutant: { type: "string" },
    tight: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    first: { type: "boolean", default: false },
    "no-shrink": { type: "boolean", default: false }
  }
})

const mutant = values.mutant === undefined ? undefined : mutants.find(({ name }) => name === values.mutant)
if (values.mutant !== undefined && mutant === undefined) {
  throw new Error(`There is no mutant ${values.mutant}; there are ${mutants.map(({ name }) => name).join(", ")}.`)
}
const loaded = substitute([...(values.tight ? tight : []), ...(mutant?.substitutions ?? [])])
const { explore } = await import("./explore.ts")
loaded()

const report = explore({
  runs: Number(values.runs),
  seed: Number(values.seed),
  path: values.path,
  only: values.only,
  first: values.first,
  shrink: !values["no-shrink"]
})

const options = [...(values.tight ? ["--tight"] : []), ...(mutant === undefined ? [] : ["--mutant", mutant.name])]
const summary = ({ faults, judged, ms, runs }: Report): string =>
  `${runs} histories, ${faults} faults, ${ms} ms; judged: ${Object.entries(judged)
    .sort(([a], [b]) => Number(a.slice(1)) - Number(b.slice(1)))
    .map(([invariant, count]) => `${invariant} ${count}`)
    .join(", ")}`

if (values.json) console.log(JSON.stringify(report))
else console.log([...report.failures.map((failure) => describeFailure(failure, options)), summary(report)].join("\n\n"))
