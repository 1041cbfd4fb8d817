/** What the measurements share: a real server on a fresh folder, the load tool beside it, and what the system says of a process. */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { resultJson } from "../src/main/load.ts"

/** One measured value. `ok` says whether it meets `target`; without a target it is for information. */
export interface Measured {
  readonly name: string
  /** What was measured, where several things are beside one another: a column of the table. */
  readonly of?: string
  readonly value: number
  readonly unit: string
  /** The value of each run, when `value` is their median. */
  readonly runs?: ReadonlyArray<number>
  readonly target?: string
  readonly ok?: boolean
}

/** What a run is told on the command line. */
export interface BenchOptions {
  /** How often each thing is measured; the median counts. */
  readonly rounds: number
  /** How long one measurement takes, where that is a matter of time. */
  readonly seconds: number
}

/** A measurement; `say` reports how far it is. */
export type Bench = (say: (line: string) => void, options: BenchOptions) => Promise<ReadonlyArray<Measured>>

/** What `darda load --json` prints. */
export type Load = ReturnType<typeof resultJson>

const project = fileURLToPath(new URL("..", import.meta.url))
const { scripts } = JSON.parse(fs.readFileSync(`${project}package.json`, "utf8")) as { scripts: { start: string } }

/** What `npm start` tells Node.js, and every server that is measured is started with. */
export const NODE_FLAGS = scripts.start.split(" ").filter((argument) => argument.startsWith("--"))

/** The `darda` command. */
export const bin = `${project}bin/darda.js`
const START_MS = 60_000

/** Limits that do not limit: what is measured is the server, not its manners. */
export const UNLIMITED = {
  LIMIT_PER_SECOND: "1000000",
  LIMIT_BURST: "1000000",
  LIMIT_IN_FLIGHT: "1000000",
  LIMIT_NEW_DMS_PER_HOUR: "1000000",
  LIMIT_CONNECTIONS: "1000000",
  LIMIT_CONNECTS_PER_SECOND: "1000000"
}

/** The server under measurement. */
export interface Server {
  readonly pid: number
  readonly url: string
  readonly stop: () => Promise<void>
}

/** How long a process may take to end before it is killed. */
const STOP_MS = 20_000

/** Starts a program of Node.js with exactly this environment and waits until it says where it is. */
export const startProcess = async (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string | undefined>>,
  flags = NODE_FLAGS
): Promise<Server> => {
  const child = spawn(process.execPath, [...flags, ...args], { env, stdio: ["ignore", "pipe", "inherit"] })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const kill = () => void child.kill("SIGKILL")
  process.once("exit", kill)
  const url = await new Promise<string>((resolve, reject) => {
    let output = ""
    const timer = setTimeout(() => {
      kill()
      reject(new Error(`It was not ready in time:\n${output}`))
    }, START_MS)
    child.once("exit", (code) => reject(new Error(`It ended with ${code}:\n${output}`)))
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-10_000)
      const match = /Darda is ready on (http:\/\/\S+)/.exec(output)
      if (match === null) return
      clearTimeout(timer)
      resolve(match[1]!)
    })
  })
  return {
    pid: child.pid!,
    url,
    stop: async () => {
      child.kill("SIGTERM")
      const timer = setTimeout(kill, STOP_MS)
      await ended
      clearTimeout(timer)
      process.off("exit", kill)
    }
  }
}

/** Starts a server of its own on a fresh folder and any free port. */
export const startServer = async (settings: Readonly<Record<string, string>>): Promise<Server> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "darda-bench-"))
  const { PATH, HOME } = process.env
  const env = { PATH, HOME, PORT: "0", DATA_DIR: folder, LOG_LEVEL: "info", LOG_FORMAT: "pretty", ...settings }
  const server = await startProcess([bin, "serve"], env)
  return {
    ...server,
    stop: async () => {
      await server.stop()
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** Runs a program of Node.js to its end, and answers what it printed. */
export const runProcess = async (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string | undefined>> = process.env
): Promise<string> => {
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] })
  const kill = () => void child.kill("SIGKILL")
  process.once("exit", kill)
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
  const code = await new Promise((resolve) => child.once("close", resolve))
  process.off("exit", kill)
  if (code !== 0) throw new Error(`${args.join(" ")} ended with ${String(code)}:\n${output}`)
  return output
}

/** Runs `darda load` in a process of its own. */
export const runLoad = async (url: string, flags: ReadonlyArray<string>): Promise<Load> =>
  JSON.parse(await runProcess([bin, "load", "--url", url, "--json", ...flags])) as Load

/** Clock ticks a second in /proc; 100 on every Linux there is. */
const TICKS = 100

/** Seconds of CPU that a process has used, in all its threads. */
export const cpuSeconds = (pid: number): number => {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** Seconds of CPU that the processes have used which this one started and which have ended. */
export const childrenCpuSeconds = (): number => {
  const stat = fs.readFileSync("/proc/self/stat", "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[13]) + Number(fields[14])) / TICKS
}

/** Bytes of memory that a process holds. */
export const residentBytes = (pid: number): number => {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
  return Number(kib) * 1024
}

/** The middle of some values. */
export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? 0

/** The machine that was measured on. */
export const machine = () => ({
  cpu: os.cpus()[0]?.model ?? "unknown",
  cores: os.availableParallelism(),
  memoryGiB: Math.round(os.totalmem() / 1024 ** 3),
  /** Processes that wanted to run in the last minute: this bench's own among them, and others' if it is much more than the cores. */
  load: Math.round((os.loadavg()[0] ?? 0) * 10) / 10,
  node: process.version
})

const shown = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString("en") : String(Math.round(value * 100) / 100)

const verdict = (ok: boolean | undefined): string => (ok === undefined ? "" : ok ? "✓" : "✗")

/** The values as a Markdown table: a line each, or, where several things are beside one another, a column for each of them. */
export const table = (measured: ReadonlyArray<Measured>): string => {
  const columns = [...new Set(measured.flatMap(({ of }) => of ?? []))]
  if (columns.length > 0) return comparison(measured, columns)
  return [
    "| what | median | runs | target | |",
    "|---|---:|---|---|---|",
    ...measured.map(
      ({ name, ok, runs, target, unit, value }) =>
        `| ${name} | ${shown(value)} ${unit} | ${(runs ?? []).map(shown).join(" · ")} | ${target ?? ""} | ${verdict(ok)} |`
    )
  ].join("\n")
}

const comparison = (measured: ReadonlyArray<Measured>, columns: ReadonlyArray<string>): string => {
  const names = [...new Set(measured.map(({ name }) => name))]
  const rows = names.map((name) => {
    const values = measured.filter((one) => one.name === name)
    const cells = columns.map((column) => values.find(({ of }) => of === column))
    const judged = values.filter(({ target }) => target !== undefined)
    return [
      `${name}${values[0]!.unit === "" ? "" : `, ${values[0]!.unit}`}`,
      ...cells.map((cell) =>
        cell === undefined
          ? ""
          : (cell.runs?.length ?? 0) > 1
            ? `${shown(cell.value)} (${cell.runs!.map(shown).join(" · ")})`
            : shown(cell.value)
      ),
      judged.map(({ target }) => target).join(", "),
      judged.map(({ ok }) => verdict(ok)).join(" ")
    ]
  })
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  return [
    line(["what", ...columns, "target", ""]),
    line(["---", ...columns.map(() => "---:"), "---", "---"]),
    ...rows.map(line)
  ].join("\n")
}
