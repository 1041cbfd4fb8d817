/** Other programs that are run to their end. */
import { execFile } from "node:child_process"
import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"

/** The executable of that name in PATH. */
export const inPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

export interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** In ms; a minute by default. */
  readonly timeout?: number
}

/** Runs it and gives what it printed; fails with the end of what it complained of. */
export const run = (command: string, args: ReadonlyArray<string>, options: RunOptions = {}): Promise<string> =>
  new Promise((resolve, reject) => {
    const settings = { timeout: 60_000, killSignal: "SIGKILL" as const, maxBuffer: 64 * 1024 * 1024, ...options }
    const child = execFile(command, args, settings, (cause, stdout, stderr) => {
      if (cause === null) return resolve(stdout)
      const what = [command, ...args].join(" ").slice(0, 200)
      const why =
        cause.killed === true ? `no end after ${settings.timeout / 1000} s` : (stderr || stdout).trim().slice(-2000)
      reject(new Error(`${what} failed: ${why || cause.message}`, { cause }))
    })
    child.stdin?.end()
  })

export const failure = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
