/** One `darda` process of a test: on a free port that it keeps, started and ended as tests want. */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import { createServer } from "node:net"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const READY = /Darda is ready on (http:\/\/\S+)/
/** Long, because a first start builds the web app, and the machine may be busy with other tests. */
const READY_MS = 60_000
/** Longer than a draining server waits for its clients. */
const STOP_MS = 60_000
const OUTPUT_CHARS = 20_000

type Child = ChildProcessByStdio<null, Readable, Readable>
type Environment = Readonly<Record<string, string>>

const atExit = new Set<() => void>()
process.once("exit", () => {
  for (const run of atExit) run()
})

/** Runs this when the test process ends, unless it is taken back. */
export const onExit = (run: () => void): (() => void) => {
  atExit.add(run)
  return () => void atExit.delete(run)
}

/** A port that is free now. A process keeps it for its restarts, which `PORT=0` would not. */
const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port"))
      )
    })
  })

export class DardaProcess {
  readonly port: number
  /** `http://localhost:PORT`, without a slash at the end. */
  url: string
  readonly #args: ReadonlyArray<string>
  readonly #env: Environment
  readonly #forget: () => void
  #child: Child | undefined
  #ended: Promise<number | null> = Promise.resolve(null)
  #output = ""

  private constructor(args: ReadonlyArray<string>, env: Environment, port: number) {
    this.#args = args
    this.#env = env
    this.port = port
    this.url = `http://localhost:${port}`
    this.#forget = onExit(() => this.#child?.kill("SIGKILL"))
  }

  /** A process that does not run yet. Of the environment of the tests it is given PATH and HOME alone. */
  static async make(args: ReadonlyArray<string>, env: Environment): Promise<DardaProcess> {
    const port = env["PORT"] === undefined || env["PORT"] === "0" ? await freePort() : Number(env["PORT"])
    return new DardaProcess(args, env, port)
  }

  /** The id of the process that runs; undefined while none does. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** The last 20,000 characters of what it wrote, in all its lives. */
  get output(): string {
    return this.#output
  }

  /** Starts it with these settings on top of its own, and waits until it says that it is ready; fails with its output when it does not. */
  async start(more: Environment = {}): Promise<void> {
    const { PATH, HOME } = process.env
    const started: Child = spawn(process.execPath, [main, ...this.#args], {
      env: { PATH, HOME, LOG_FORMAT: "pretty", ...this.#env, ...more, PORT: String(this.port) },
      stdio: ["ignore", "pipe", "pipe"]
    })
    this.#child = started
    this.#ended = new Promise((resolve) => {
      started.once("close", (code) => {
        if (this.#child === started) this.#child = undefined
        resolve(code)
      })
    })
    await new Promise<void>((resolve, reject) => {
      let said = ""
      const fail = (why: string): void => {
        clearTimeout(timer)
        reject(new Error(`The server ${why}:\n${this.#output}`))
      }
      const timer = setTimeout(() => {
        started.kill("SIGKILL")
        fail(`was not ready after ${READY_MS / 1000} s`)
      }, READY_MS)
      const hear = (text: string): void => {
        this.#output = (this.#output + text).slice(-OUTPUT_CHARS)
        if (said.length > OUTPUT_CHARS) return
        said += text
        const match = READY.exec(said)
        if (match === null) return
        clearTimeout(timer)
        this.url = (match[1] as string).replace(/\/$/, "")
        resolve()
      }
      started.stdout.setEncoding("utf8").on("data", hear)
      started.stderr.setEncoding("utf8").on("data", hear)
      started.once("error", (cause) => fail(`could not be started: ${cause.message}`))
      void this.#ended.then((code) => fail(`ended with ${code} before it was ready`))
    })
  }

  /** Ends it by SIGKILL, at once and without mercy, and waits until it is gone. */
  async kill9(): Promise<void> {
    this.#child?.kill("SIGKILL")
    await this.#ended
  }

  /** Stops it where it is, as a pause of its machine would (SIGSTOP); {@link resume} lets it go on. */
  pause(): void {
    this.#child?.kill("SIGSTOP")
  }

  resume(): void {
    this.#child?.kill("SIGCONT")
  }

  /** Ends it by SIGTERM and waits for its end; gives its exit code. Fails when it has not ended after a minute. */
  async stop(): Promise<number | null> {
    const stopping = this.#child
    stopping?.kill("SIGTERM")
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        stopping?.kill("SIGKILL")
        reject(new Error(`The server did not stop within ${STOP_MS / 1000} s of SIGTERM:\n${this.#output}`))
      }, STOP_MS)
    })
    try {
      return await Promise.race([this.#ended, late])
    } finally {
      clearTimeout(timer)
    }
  }

  async dispose(): Promise<void> {
    await this.kill9()
    this.#forget()
  }
}
