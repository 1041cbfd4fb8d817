/** Ours with several edges: `darda serve`, a process for each role and each edge. */
import { bin, type Server, startProcess } from "../support.ts"
import type { Engines } from "./engines.ts"
import { settings } from "./programs.ts"

export interface ManyEdges {
  readonly write: Server
  readonly read: Server
  readonly edges: ReadonlyArray<Server>
  /** Another edge beside these. The one who starts it stops it. */
  readonly startEdge: () => Promise<Server>
  readonly stop: () => Promise<void>
}

/** Starts a writer, a reader and so many edges on an empty database: `run` names it. */
export const startManyEdges = async (
  engines: Engines,
  run: string,
  count: number,
  more: Readonly<Record<string, string>> = {}
): Promise<ManyEdges> => {
  const env = { ...settings(engines, run), ...more }
  const started: Array<Server> = []
  const start = async (role: string, also: Readonly<Record<string, string>> = {}): Promise<Server> => {
    const server = await startProcess([bin, "serve", "--roles", role], { ...env, ...also })
    started.push(server)
    return server
  }
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((server) => server.stop()))
  }
  try {
    const write = await start("write")
    const read = await start("read")
    const startEdge = () => startProcess([bin, "serve", "--roles", "edge"], { ...env, READ_URL: read.url })
    const edges: Array<Server> = []
    for (let i = 0; i < count; i++) edges.push(await start("edge", { READ_URL: read.url }))
    return { write, read, edges, startEdge, stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}
