/**
 * Clients of a cluster whose edges are replaced, in a process of their own: the client that others use too, behind a balancer that knows which edges are ready. Told by messages of
 * its parent what to do.
 */
import { Connection } from "../../src/client/connection.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import type { ServerFrame } from "../../src/domain/protocol/server-frames.ts"
import { loadEnvironment } from "../../src/main/load/sockets.ts"
import { devTokens } from "../../src/main/load/tokens.ts"
import { answerParent } from "../fanout/ask.ts"
import { eachOf } from "../fanout/greet.ts"

/** Which edges new connections go to, in turns. */
export interface Ready {
  readonly urls: ReadonlyArray<string>
}

/** How many clients, and how many messages a second they begin to send. Pairs of neighbours talk. */
export interface Begin extends Ready {
  readonly clients: number
  readonly rate: number
}

/** Ends the talk, and answers when all is settled. */
export interface End {
  readonly end: true
}

export interface Ended {
  /** ms from the end of a connection to the next welcome of that client. */
  readonly longestAwayMs: number
  readonly p99AwayMs: number
  readonly reconnects: number
  /** Reconnects in the worst second. */
  readonly mostInASecond: number
  readonly sent: number
  /** Persisted, and not given to the other one. */
  readonly lost: number
  /** Sent, and nothing known of it in the end. */
  readonly unanswered: number
}

interface Client {
  readonly user: string
  readonly connection: Connection
  readonly pending: Map<string, object>
  readonly persisted: Set<string>
  readonly received: Set<string>
  cursor: string | undefined
  lostAt: number | undefined
}

const OPENING = 100
const TICK_MS = 10
const SETTLE_WITHIN_MS = 20_000

let ready: ReadonlyArray<string> = []
let turn = 0
const clients: Array<Client> = []
const aways: Array<number> = []
const seconds = new Map<number, number>()
let sent = 0
let talking: NodeJS.Timeout | undefined

/** As a balancer does: the next one of those that are ready. */
const environment: typeof loadEnvironment = {
  ...loadEnvironment,
  openSocket: (_, protocol, handlers) =>
    loadEnvironment.openSocket(`${ready[turn++ % ready.length]!.replace("http", "ws")}/v1/ws`, protocol, handlers)
}

const welcomed = (client: Client): void => {
  for (const frame of client.pending.values()) client.connection.send(frame)
  if (client.lostAt === undefined) return
  const now = performance.now()
  aways.push(now - client.lostAt)
  client.lostAt = undefined
  const second = Math.floor(now / 1000)
  seconds.set(second, (seconds.get(second) ?? 0) + 1)
}

const heard = (client: Client, frame: ServerFrame): void => {
  if (frame.t === "cursor") client.cursor = frame.cursor
  else if (frame.t === "event") client.received.add(frame.cid)
  else if (frame.t === "ack" && frame.state === "persisted") {
    client.pending.delete(frame.cid)
    client.persisted.add(frame.cid)
  }
}

const connect = (token: string, user: string): Promise<Client> =>
  new Promise((resolve, reject) => {
    const connection = new Connection(
      { url: ready[0]!, token, device: user, probeAfterMs: 0, environment },
      {
        resume: () => (client.cursor === undefined ? undefined : { cursor: client.cursor }),
        welcome: ({ cursor }) => {
          client.cursor ??= cursor
          welcomed(client)
          resolve(client)
        },
        frame: (frame) => heard(client, frame),
        lost: () => {
          client.lostAt ??= performance.now()
        },
        status: (status) => {
          if (status.state === "stopped" && status.why !== "closed") reject(new Error(status.reason))
        }
      }
    )
    const client: Client = {
      user,
      connection,
      pending: new Map(),
      persisted: new Set(),
      received: new Set(),
      cursor: undefined,
      lostAt: undefined
    }
    connection.start()
  })

const say = (): void => {
  const index = Math.floor(Math.random() * clients.length)
  const client = clients[index]!
  const cid = `said-${++sent}`
  const frame = { t: "send", cid, conv: dmConversation(client.user, clients[index ^ 1]!.user), body: "still there?" }
  client.pending.set(cid, frame)
  // Without a connection it is forgotten here, and sent after the next welcome.
  client.connection.send(frame)
}

const begin = async ({ clients: count, rate, urls }: Begin): Promise<object> => {
  ready = urls
  const names = Array.from({ length: count }, (_, i) => `client-${i}`)
  const users = await devTokens(urls[0]!, names)
  clients.push(...(await eachOf(users, OPENING, ({ token, user }) => connect(token, user))))
  const from = performance.now()
  talking = setInterval(() => {
    const due = ((performance.now() - from) / 1000) * rate
    while (sent < due) say()
  }, TICK_MS)
  return {}
}

/** What one's neighbour has sent and this one was not given. */
const missing = (client: Client, index: number): number =>
  clients[index ^ 1]!.persisted.difference(client.received).size

const end = async (): Promise<Ended> => {
  clearInterval(talking)
  const count = (of: (client: Client, index: number) => number): number =>
    clients.reduce((sum, client, index) => sum + of(client, index), 0)
  const unanswered = () => count(({ pending }) => pending.size)
  const lost = () => count(missing)
  for (const deadline = performance.now() + SETTLE_WITHIN_MS; performance.now() < deadline;) {
    if (unanswered() === 0 && lost() === 0 && clients.every(({ lostAt }) => lostAt === undefined)) break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const now = performance.now()
  for (const { lostAt } of clients) if (lostAt !== undefined) aways.push(now - lostAt)
  const sorted = aways.toSorted((a, b) => a - b)
  return {
    longestAwayMs: sorted.at(-1) ?? 0,
    p99AwayMs: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    reconnects: sorted.length,
    mostInASecond: Math.max(0, ...seconds.values()),
    sent,
    lost: lost(),
    unanswered: unanswered()
  }
}

const act = async (told: Begin | Ready | End): Promise<object> => {
  if ("clients" in told) return await begin(told)
  if ("end" in told) return await end()
  ready = told.urls
  return {}
}

answerParent(act)
