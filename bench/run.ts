/**
 * `npm run bench -- NAME [--rounds N] [--seconds N] [--json FILE]`: runs one measurement, prints a table, and writes the same as JSON. Exits with 1 when
 * something measured is outside its target.
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { type Bench, machine, table } from "./support.ts"

const benches: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  durable: () => import("./durable.ts"),
  history: () => import("./history.ts"),
  replay: () => import("./replay.ts"),
  embedded: () => import("./embedded.ts"),
  idle: () => import("./idle.ts"),
  fanout: () => import("./fanout.ts"),
  slow: () => import("./slow.ts"),
  scale: () => import("./scale.ts"),
  deploy: () => import("./deploy.ts")
}

const usage = `Use: npm run bench -- NAME [--rounds N] [--seconds N] [--json FILE], where NAME is one of ${Object.keys(benches).join(", ")}`

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "6" }
  }
})
const name = positionals[0] ?? ""
const load = Object.hasOwn(benches, name) ? benches[name] : undefined
const options = { rounds: Number(values.rounds), seconds: Number(values.seconds) }
if (load === undefined || positionals.length > 1 || !(options.rounds >= 1) || !(options.seconds >= 1)) {
  console.error(usage)
  process.exit(1)
}

// What was started is ended on the way out, each process by a listener of its own.
process.setMaxListeners(0)
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => process.exit(1))

const { bench } = await load()
const before = machine()
if (before.load > before.cores / 2) {
  console.log(
    `This machine is busy (load ${before.load} on ${before.cores} cores): what is measured now is worse than it is`
  )
}
const measured = await bench((line) => console.log(line), options)
console.log(`\n${name} on ${before.cpu}, ${before.cores} cores, Node.js ${before.node}\n\n${table(measured)}`)
if (values.json !== undefined) {
  writeFileSync(
    values.json,
    `${JSON.stringify({ name, at: new Date().toISOString(), machine: before, measured }, null, 2)}\n`
  )
}
process.exit(measured.every(({ ok }) => ok !== false) ? 0 : 1)
