/** Starts the real server as a process, for tests: on a free port, with a data folder of its own that survives restarts. */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const READY = /Darda is ready on (http:\/\/\S+)/
/** Long, because a first start builds the web app, and the machine may be busy with other tests. */
const READY_MS = 60_000
/** Longer than a draining server waits for its clients. */
const STOP_MS = 60_000
const OUTPUT_CHARS = 20_000

/** How a server is started. */
export interface ServerOptions {
  /** Settings; nothing else is passed on from the environment of the tests but PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>
  /** A folder that is kept; without it one is made, and removed by `dispose` or at the end of the test process. */
  readonly dataDir?: string
  /** Arguments after `darda`; `serve` is the default. */
  readonly args?: readonly string[]
}

/** A server that runs, or ran and may be started again on the same port and data. */
export interface RunningServer {
  /** `http://localhost:PORT`, without a slash at the end. */
  readonly url: string
  /** `ws://localhost:PORT/v1/ws`. */
  readonly wsUrl: string
  readonly port: number
  readonly dataDir: string
  /** The id of the process that runs; `undefined` while none does. */
  readonly pid: number | undefined
  /** The last 20,000 characters of what all processes of this server wrote. */
  readonly output: () => string
  /** Ends it by SIGTERM and waits for its end; gives its exit code. Fails when it has not ended after a minute. */
  readonly stop: () => Promise<number | null>
  /** Ends it by SIGKILL, at once and without mercy, and waits until it is gone. */
  readonly kill9: () => Promise<void>
  /** Starts it again, after a `stop` where it runs, with these settings on top of the first ones, and waits until it is ready. */
  readonly restart: (env?: Readonly<Record<string, string>>) => Promise<void>
  /** Kills it and removes the data folder, unless that was given. */
  readonly dispose: () => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

type Child = ChildProcessByStdio<null, Readable, Readable>

const atExit = new Set<() => void>()
process.once("exit", () => {
  for (const run of atExit) run()
})

/** A port that is free now. The server keeps it for its restarts, which `PORT=0` would not. */
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

/** Starts a server and waits until it says that it is ready; fails with its output when it ends before, or takes a minute. */
export const startServer = async ({
  env = {},
  dataDir,
  args = ["serve"]
}: ServerOptions = {}): Promise<RunningServer> => {
  const folder = dataDir ?? mkdtempSync(join(tmpdir(), "darda-test-"))
  const { PATH, HOME } = process.env
  const port = env["PORT"] === undefined || env["PORT"] === "0" ? await freePort() : Number(env["PORT"])
  let url = `http://localhost:${port}`
  let child: Child | undefined
  let ended: Promise<number | null> = Promise.resolve(null)
  let output = ""

  const start = async (settings: Readonly<Record<string, string>>): Promise<void> => {
    const started: Child = spawn(process.execPath, [main, ...args], {
      env: { PATH, HOME, LOG_FORMAT: "pretty", ...settings, PORT: String(port), DATA_DIR: folder },
      stdio: ["ignore", "pipe", "pipe"]
    })
    child = started
    ended = new Promise((resolve) => {
      started.once("close", (code) => {
        if (child === started) child = undefined
        resolve(code)
      })
    })
    await new Promise<void>((resolve, reject) => {
      let said = ""
      const fail = (why: string): void => {
        clearTimeout(timer)
        reject(new Error(`The server ${why}:\n${output}`))
      }
      const timer = setTimeout(() => {
        started.kill("SIGKILL")
        fail(`was not ready after ${READY_MS / 1000} s`)
      }, READY_MS)
      const hear = (text: string): void => {
        output = (output + text).slice(-OUTPUT_CHARS)
        if (said.length > OUTPUT_CHARS) return
        said += text
        const match = READY.exec(said)
        if (match === null) return
        clearTimeout(timer)
        url = (match[1] as string).replace(/\/$/, "")
        resolve()
      }
      started.stdout.setEncoding("utf8").on("data", hear)
      started.stderr.setEncoding("utf8").on("data", hear)
      started.once("error", (cause) => fail(`could not be started: ${cause.message}`))
      void ended.then((code) => fail(`ended with ${code} before it was ready`))
    })
  }

  const kill9 = async (): Promise<void> => {
    child?.kill("SIGKILL")
    await ended
  }

  const stop = async (): Promise<number | null> => {
    const stopping = child
    stopping?.kill("SIGTERM")
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        stopping?.kill("SIGKILL")
        reject(new Error(`The server did not stop within ${STOP_MS / 1000} s of SIGTERM:\n${output}`))
      }, STOP_MS)
    })
    try {
      return await Promise.race([ended, late])
    } finally {
      clearTimeout(timer)
    }
  }

  const remove = (): void => {
    child?.kill("SIGKILL")
    if (dataDir === undefined) rmSync(folder, { recursive: true, force: true })
  }

  const dispose = async (): Promise<void> => {
    await kill9()
    remove()
    atExit.delete(remove)
  }

  atExit.add(remove)
  await start(env)
  return {
    get url() {
      return url
    },
    get wsUrl() {
      return `${url.replace(/^http/, "ws")}/v1/ws`
    },
    port,
    dataDir: folder,
    get pid() {
      return child?.pid
    },
    output: () => output,
    stop,
    kill9,
    restart: async (more = {}) => {
      if (child !== undefined) await stop()
      await start({ ...env, ...more })
    },
    dispose,
    [Symbol.asyncDispose]: dispose
  }
}
