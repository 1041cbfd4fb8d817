/** A process of a test: what it wrote, and its end. */
import { type ChildProcess, spawn } from "node:child_process"
import { onExit } from "../support/process.ts"

const OUTPUT_CHARS = 20_000

export class Child {
  /** The last of what it wrote. */
  output = ""
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #forget: () => void

  /** Of the environment it is given PATH, and what is given here. */
  constructor(command: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}) {
    // It ends with the one that starts it, however that ends.
    this.#process = spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], {
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    this.#ended = new Promise((resolve) => this.#process.once("close", resolve))
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream
        ?.setEncoding("utf8")
        .on("data", (text: string) => (this.output = (this.output + text).slice(-OUTPUT_CHARS)))
    this.#forget = onExit(() => this.#process.kill("SIGKILL"))
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.running) this.#process.kill(signal)
    await this.#ended
  }

  async dispose(): Promise<void> {
    await this.end("SIGKILL")
    this.#forget()
  }
}
