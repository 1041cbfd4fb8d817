/**
 * The members of one group, all online, in a process of their own: they count what they are given, and one of them sends on when what it has sent has
 * reached the others. The same program for every server. Told by messages of its parent what to do.
 */
import { devTokens } from "../../src/main/load/tokens.ts"
import { answerParent } from "./ask.ts"
import { eachOf, makeGroup, openDarda } from "./greet.ts"
import { LightSocket, MARK } from "./socket.ts"

/** What the parent says first. */
export interface Members {
  readonly url: string
  /** How to greet: Darda's protocol, which the bare servers understand as far as needed, or socket.io's. */
  readonly greet: "darda" | "socket.io"
  /** Make the group first; otherwise everybody who is connected is in it. */
  readonly makesGroup: boolean
  readonly members: number
  readonly bodyBytes: number
}

/** What the parent says then, again and again. */
export interface Run {
  readonly seconds: number
  /** Messages under way at most, from their sending until all have got them. */
  readonly underWay: number
}

/** What is answered: everything that was sent has been delivered to everybody by then. */
export interface Ran {
  readonly sent: number
  readonly delivered: number
  readonly seconds: number
  /** Seconds of CPU of this process. */
  readonly cpuSeconds: number
}

const OPENING = 100
const OBJECTS = 64
const DELIVERED_WITHIN_MS = 30_000

let sockets: ReadonlyArray<LightSocket> = []
let delivered = 0
let woken: () => void = () => {}
let lost: string | undefined

const handlers = {
  marks: (count: number): void => {
    delivered += count
    woken()
  },
  lost: (why: string): void => {
    lost ??= why
    woken()
  }
}

const openSocketIo = async (url: string): Promise<LightSocket> => {
  const socket = await LightSocket.open(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`, handlers)
  const connected = socket.next((text) => text.startsWith("40"))
  socket.send("40")
  await connected
  return socket
}

const openAll = async ({ greet, url }: Members, users: ReadonlyArray<string>): Promise<ReadonlyArray<LightSocket>> =>
  greet === "darda"
    ? await eachOf(await devTokens(url, users), OPENING, (user) => openDarda(url, user, handlers))
    : await eachOf(users, OPENING, () => openSocketIo(url))

let send: (count: number) => void = () => {}

const begin = async (members: Members): Promise<void> => {
  const users = Array.from({ length: members.members }, (_, i) => `member-${i}`)
  sockets = await openAll(members, users)
  const [sender] = sockets as [LightSocket]
  const conv = members.makesGroup ? await makeGroup(sender, users.slice(1), "group") : "g:everybody"
  const body = MARK.padEnd(members.bodyBytes, "x")
  let sent = 0
  send = (count) => {
    const frames = Array.from({ length: count }, () => {
      const frame = JSON.stringify({ t: "send", cid: `message-${++sent}`, conv, body })
      return members.greet === "darda" ? frame : `42["send",${frame}]`
    })
    if (members.greet === "socket.io") for (const frame of frames) sender.send(frame)
    else for (let i = 0; i < count; i += OBJECTS) sender.send(`[${frames.slice(i, i + OBJECTS).join(",")}]`)
  }
}

const run = async ({ seconds, underWay }: Run): Promise<Ran> => {
  const others = sockets.length - 1
  const cpu = process.cpuUsage()
  const start = performance.now()
  const end = start + seconds * 1000
  let sent = 0
  delivered = 0
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error(`Of ${sent} messages ${delivered} were delivered, not ${sent * others}`)),
      seconds * 1000 + DELIVERED_WITHIN_MS
    )
    woken = () => {
      if (lost !== undefined) return reject(new Error(`A member was lost: ${lost}`))
      const open = sent - Math.floor(delivered / others)
      const isOver = performance.now() >= end
      // Half a window at a time, as `darda load` does.
      if (!isOver && open <= underWay / 2) {
        sent += underWay - open
        send(underWay - open)
      } else if (isOver && open === 0) {
        clearTimeout(late)
        resolve()
      }
    }
    woken()
  })
  woken = () => {}
  const { system, user } = process.cpuUsage(cpu)
  return { sent, delivered, seconds: (performance.now() - start) / 1000, cpuSeconds: (system + user) / 1e6 }
}

answerParent((told: Members | Run) => ("url" in told ? begin(told).then(() => ({})) : run(told)))
