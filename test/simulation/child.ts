import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Report } from "./explore.ts"

const script = fileURLToPath(new URL("run.ts", import.meta.url))

/** Explores in a process of its own. Fails with what that process said when it cannot. */
export const exploreInChild = (options: ReadonlyArray<string>): Promise<Report> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, ...options, "--json"], { stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    let err = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => void (out += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => void (err += text))
    child.once("error", reject)
    child.once("close", (code) => {
      if (code === 0) resolve(JSON.parse(out) as Report)
      else reject(new Error(`node test/simulation/run.ts ${options.join(" ")} ended with ${code}:\n${err}`))
    })
  })
