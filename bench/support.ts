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
  readonly value: number
  readonly unit: string
  /** The value of each run, when `value` is their median. */
  readonly runs?: ReadonlyArray<number>
  readonly target?: string
  readonly ok?: boolean
}

/** A measurement; `say` reports how far it is. */
export type Bench = (say: (line: string) => void) => Promise<ReadonlyArray<Measured>>

/** What `darda load --json` prints. */
export type Load = ReturnType<typeof resultJson>

const bin = fileURLToPath(new URL("../bin/darda.js", import.meta.url))
const START_MS = 60_000

/** Limits that do not limit: what is measured is the server, not its manners. */
export const UNLIMITED = {
  LIMIT_PER_SECOND: "1000000",
  LIMIT_BURST: "1000000",
  LIMIT_IN_FLIGHT: "1000000",
  LIMIT_NEW_DMS_PER_HOUR: "1000000"
}

/** The server under measurement. */
export interface Server {
  readonly pid: number
  readonly url: string
  readonly stop: () => Promise<void>
}

/** Starts a server of its own on a fresh folder and any free port. */
export const startServer = async (settings: Readonly<Record<string, string>>): Promise<Server> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "darda-bench-"))
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, [bin, "serve"], {
    env: { PATH, HOME, PORT: "0", DATA_DIR: folder, LOG_LEVEL: "info", LOG_FORMAT: "pretty", ...settings },
    stdio: ["ignore", "pipe", "inherit"]
  })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    let output = ""
    const timer = setTimeout(() => reject(new Error(`The server was not ready in time:\n${output}`)), START_MS)
    child.once("exit", (code) => reject(new Error(`The server ended with ${code}:\n${output}`)))
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
      await ended
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** Runs `darda load` in a process of its own. */
export const runLoad = async (url: string, flags: ReadonlyArray<string>): Promise<Load> => {
  const child = spawn(process.execPath, [bin, "load", "--url", url, "--json", ...flags], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
  const code = await new Promise((resolve) => child.once("close", resolve))
  if (code !== 0) throw new Error(`darda load ended with ${String(code)}`)
  return JSON.parse(output) as Load
}

/** Clock ticks a second in /proc; 100 on every Linux there is. */
const TICKS = 100

/** Seconds of CPU that a process has used, in all its threads. */
export const cpuSeconds = (pid: number): number => {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / TICKS
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

/** The values as a Markdown table. */
export const table = (measured: ReadonlyArray<Measured>): string => {
  const number = (value: number) =>
    value >= 1000 ? Math.round(value).toLocaleString("en") : String(Math.round(value * 100) / 100)
  return [
    "| what | median | runs | target | |",
    "|---|---:|---|---|---|",
    ...measured.map(
      ({ name, ok, runs, target, unit, value }) =>
        `| ${name} | ${number(value)} ${unit} | ${(runs ?? []).map(number).join(" · ")} | ${target ?? ""} | ${ok === undefined ? "" : ok ? "✓" : "✗"} |`
    )
  ].join("\n")
}
