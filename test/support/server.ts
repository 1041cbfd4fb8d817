/**
 * Starts the real server for tests: one process on the embedded engines, or, where `DARDA_TEST_CLUSTER` says so, three processes (edge, write, read) on
 * the real ones. What is asked of it is the same.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startCluster } from "./cluster.ts"
import { DardaProcess, onExit } from "./process.ts"

/** How a server is started. */
export interface ServerOptions {
  /** Settings; nothing else is passed on from the environment of the tests but PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>
}

/** A server that runs, or ran and may be started again on the same port and data. */
export interface RunningServer {
  /** `http://localhost:PORT`, without a slash at the end. */
  readonly url: string
  /** `ws://localhost:PORT/v1/ws`. */
  readonly wsUrl: string
  readonly port: number
  /** Where each process of it answers: the one of `url` and, in a cluster, those behind it. */
  readonly processes: () => ReadonlyArray<string>
  /** The id of the process that serves connections; `undefined` while none does. */
  readonly pid: number | undefined
  /** The last of what all processes of this server wrote. */
  readonly output: () => string
  /** Ends it by SIGTERM and waits for its end; gives its exit code, or the first that is not 0. Fails when it has not ended after a minute. */
  readonly stop: () => Promise<number | null>
  /** Ends it by SIGKILL, at once and without mercy, and waits until it is gone. */
  readonly kill9: () => Promise<void>
  /** Starts it again, after a `stop` where it runs, with these settings on top of the first ones, and waits until it is ready. */
  readonly restart: (env?: Readonly<Record<string, string>>) => Promise<void>
  /** Kills it and removes what it kept. */
  readonly dispose: () => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

/** Whether servers of tests are clusters. */
export const isCluster = process.env["DARDA_TEST_CLUSTER"] === "1"

/** Starts a server and waits until it says that it is ready; fails with its output when it ends before, or takes a minute. */
export const startServer = (options: ServerOptions = {}): Promise<RunningServer> =>
  isCluster ? startThree(options) : startOne(options)

const startOne = async ({ env = {} }: ServerOptions): Promise<RunningServer> => {
  const folder = mkdtempSync(join(tmpdir(), "darda-test-"))
  const remove = (): void => rmSync(folder, { recursive: true, force: true })
  const forget = onExit(remove)
  const one = await DardaProcess.make(["serve"], { ...env, DATA_DIR: folder })
  await one.start()
  return running(one, [one], async () => {
    await one.dispose()
    remove()
    forget()
  })
}

const startThree = async ({ env = {} }: ServerOptions): Promise<RunningServer> => {
  // What is asked is what one process answers: on a slow machine the log may take so long that a cluster would say `sent` first.
  const cluster = await startCluster({ env: { LIVE_HEDGE_MS: "60000", ...env } })
  // The edge leaves first, while others still answer what is under way.
  return running(cluster.edges[0]!, [...cluster.edges, ...cluster.writers, ...cluster.readers], cluster.dispose)
}

const running = (
  front: DardaProcess,
  all: ReadonlyArray<DardaProcess>,
  dispose: () => Promise<void>
): RunningServer => {
  const stop = async (): Promise<number | null> => {
    let code: number | null = 0
    for (const one of all) {
      const ended = await one.stop()
      if (code === 0) code = ended
    }
    return code
  }
  return {
    get url() {
      return front.url
    },
    get wsUrl() {
      return `${front.url.replace(/^http/, "ws")}/v1/ws`
    },
    port: front.port,
    processes: () => all.map(({ url }) => url),
    get pid() {
      return front.pid
    },
    output: () => all.map(({ output }) => output).join("\n"),
    stop,
    kill9: async () => {
      await Promise.all(all.map((one) => one.kill9()))
    },
    restart: async (more = {}) => {
      if (all.some(({ pid }) => pid !== undefined)) await stop()
      await Promise.all(all.map((one) => one.start(more)))
    },
    dispose,
    [Symbol.asyncDispose]: dispose
  }
}
