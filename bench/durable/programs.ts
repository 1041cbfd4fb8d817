/** The three programs that are measured beside one another, each as processes `edge`, `write` and `read` on the same engines. */
import { fileURLToPath } from "node:url"
import { bin, type Server, startProcess, UNLIMITED } from "../support.ts"
import type { Engines } from "./engines.ts"

export type Role = "edge" | "write" | "read"

/** One of the programs, running. */
export interface Running {
  readonly url: string
  readonly pids: Readonly<Partial<Record<Role, number>>>
  readonly stop: () => Promise<void>
}

export interface Program {
  /** Its column in the table. */
  readonly name: string
  /** It delivers more slowly than it persists: what one load leaves behind would be measured with the next, so each has a start of its own. */
  readonly fallsBehind?: boolean
  /** Starts it on an empty database, queues and keys: `run` names them. */
  readonly start: (engines: Engines, run: string) => Promise<Running>
}

/** Starts one process for each role, one after the other in this order; the edge is last, since it needs the others. */
const startRoles = async (start: (role: Role, before: Readonly<Partial<Record<Role, Server>>>) => Promise<Server>) => {
  const servers: Partial<Record<Role, Server>> = {}
  const stop = async (): Promise<void> => {
    await Promise.all(Object.values(servers).map((server) => server.stop()))
  }
  try {
    for (const role of ["write", "read", "edge"] as const) servers[role] = await start(role, servers)
  } catch (cause) {
    await stop()
    throw cause
  }
  const { edge, read, write } = servers as Record<Role, Server>
  return { url: edge.url, pids: { edge: edge.pid, write: write.pid, read: read.pid }, stop }
}

/** A program of this folder, of one file for each role. */
const written = (name: string, files: string): Program => ({
  name,
  start: (engines, run) => {
    const { PATH, HOME } = process.env
    const { amqpUrl, mongoUrl, redisUrl } = engines
    const env = { PATH, HOME, MONGO_URL: mongoUrl, AMQP_URL: amqpUrl, REDIS_URL: redisUrl, BENCH_NAME: run }
    return startRoles((role) => {
      const file = `./${files}${role[0]!.toUpperCase()}${role.slice(1)}.ts`
      return startProcess([fileURLToPath(new URL(file, import.meta.url))], env)
    })
  }
})

/** Written by hand on the bare drivers and bare `ws`, with ours' hops and batches, and nothing else. */
export const limit = written("the limit", "limit")

/** The engines driven as Darda-chat drives them. */
export const chat: Program = { ...written("as Darda-chat", "chat"), fallsBehind: true }

/** What every process of ours is given. */
export const settings = ({ amqpUrl, mongoUrl, redisUrl }: Engines, run: string) => {
  const { PATH, HOME } = process.env
  const database = new URL(mongoUrl)
  database.pathname = `/${run}`
  return {
    PATH,
    HOME,
    ...UNLIMITED,
    PORT: "0",
    LOG_FORMAT: "pretty",
    CLUSTER_SECRET: "a secret that only this measurement knows",
    MONGO_URL: database.toString(),
    AMQP_URL: amqpUrl,
    REDIS_URL: redisUrl
  }
}

/** `darda serve`, a process for each role. */
export const ours: Program = {
  name: "ours",
  start: (engines, run) =>
    startRoles((role, { read }) =>
      startProcess([bin, "serve", "--roles", role], {
        ...settings(engines, run),
        ...(role === "edge" ? { READ_URL: read!.url } : {})
      })
    )
}
