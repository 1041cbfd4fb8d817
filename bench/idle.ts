/** Memory of idle connections: the same server with none and with 5,000 that have said hello and been welcomed. */
import { Connection } from "../src/client/connection.ts"
import { loadEnvironment } from "../src/main/load/sockets.ts"
import { devTokens, type LoadUser } from "../src/main/load/tokens.ts"
import { type Bench, median, residentBytes, startServer } from "./support.ts"

const CONNECTIONS = 5_000
const WARM_CONNECTIONS = 200
const AT_ONCE = 100
const RUNS = 3
const SETTLE_SECONDS = 60
const TARGET_KB = 20

const open = (url: string, { token }: LoadUser, index: number): Promise<Connection> =>
  new Promise((resolve, reject) => {
    const connection = new Connection(
      {
        url: `${url.replace("http", "ws")}/v1/ws`,
        token,
        device: `idle-${index}`,
        probeAfterMs: 0,
        environment: loadEnvironment
      },
      {
        resume: () => undefined,
        welcome: () => resolve(connection),
        frame: () => {},
        lost: () => {},
        status: (status) => {
          if (status.state === "waiting" || (status.state === "stopped" && status.why !== "closed")) {
            reject(new Error(`Connection ${index} was not opened: ${status.reason} (${status.code}); see ulimit -n`))
          }
        }
      }
    )
    connection.start()
  })

const openAll = async (url: string, users: ReadonlyArray<LoadUser>): Promise<ReadonlyArray<Connection>> => {
  const opened: Array<Connection> = []
  for (let from = 0; from < users.length; from += AT_ONCE) {
    opened.push(...(await Promise.all(users.slice(from, from + AT_ONCE).map((user, i) => open(url, user, from + i)))))
  }
  return opened
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The memory once it has stopped moving: within 1 % for five seconds, or the last after a minute. */
const settled = async (pid: number): Promise<number> => {
  let still = 0
  let last = residentBytes(pid)
  for (let second = 0; second < SETTLE_SECONDS && still < 5; second++) {
    await pause(1_000)
    const now = residentBytes(pid)
    still = Math.abs(now - last) < last / 100 ? still + 1 : 0
    last = now
  }
  return last
}

export const bench: Bench = async (say) => {
  const without: Array<number> = []
  const each: Array<number> = []
  for (let run = 1; run <= RUNS; run++) {
    const server = await startServer({})
    try {
      const names = Array.from({ length: CONNECTIONS }, (_, i) => `idle-${i}`)
      // Tokens and a first round of connections beforehand, so that code that is only loaded once is not counted as theirs.
      const users = await devTokens(server.url, names)
      for (const connection of await openAll(server.url, users.slice(0, WARM_CONNECTIONS))) connection.close()
      const none = await settled(server.pid)
      const connections = await openAll(server.url, users)
      const all = await settled(server.pid)
      const broken = connections.filter(({ status }) => status.state !== "open").length
      if (broken > 0) throw new Error(`${broken} of ${CONNECTIONS} connections were lost`)
      without.push(none / 1e6)
      each.push((all - none) / CONNECTIONS / 1e3)
      say(
        `Run ${run} of ${RUNS}: ${without.at(-1)!.toFixed(1)} MB without, ${each.at(-1)!.toFixed(2)} kB each of ${CONNECTIONS}`
      )
      for (const connection of connections) connection.close()
    } finally {
      await server.stop()
    }
  }
  return [
    { name: "server without connections", unit: "MB", value: median(without), runs: without },
    {
      name: `each of ${CONNECTIONS} idle connections`,
      unit: "kB",
      value: median(each),
      runs: each,
      target: `≤ ${TARGET_KB}`,
      ok: median(each) <= TARGET_KB
    }
  ]
}
