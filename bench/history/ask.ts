/** Asks over HTTP/1.1 on bare sockets, one request at a time on each, so that what is measured is the server. */
import { connect, type Socket } from "node:net"
import { Histogram } from "../../src/main/load/Histogram.ts"

/** One request. */
export interface Asking {
  readonly path: string
  readonly token: string
}

export interface Asked {
  readonly reads: number
  readonly seconds: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Answers other than 200. */
  readonly refused: number
  /** Messages in all answers together. */
  readonly messages: number
  /** Processor time of this process. */
  readonly cpuSeconds: number
}

const HEAD_END = Buffer.from("\r\n\r\n")
/** What each message of a page has once. */
const MESSAGE = Buffer.from('"seq":')

const occurrences = (text: Buffer, part: Buffer): number => {
  let count = 0
  for (let at = text.indexOf(part); at !== -1; at = text.indexOf(part, at + part.length)) count++
  return count
}

/** Keeps a request under way on each of these connections for so long. */
export const ask = async (options: {
  readonly url: string
  readonly connections: number
  readonly seconds: number
  readonly next: () => Asking
}): Promise<Asked> => {
  const { connections, next, seconds, url } = options
  const { host, hostname, port } = new URL(url)
  const latencies = new Histogram()
  const count = { refused: 0, messages: 0 }
  const cpu = process.cpuUsage()
  const start = performance.now()
  const end = start + seconds * 1000

  const run = (socket: Socket): Promise<void> =>
    new Promise((resolve, reject) => {
      let parts: Array<Buffer> = []
      let length = 0
      /** Bytes of the whole answer, as soon as they are known. */
      let whole = 0
      let at = 0
      let head: Buffer = Buffer.alloc(0)
      const send = (): void => {
        parts = []
        length = whole = 0
        at = performance.now()
        const { path, token } = next()
        socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`)
      }
      const answered = (): void => {
        const now = performance.now()
        latencies.record(now - at)
        if (head.indexOf(" 200 ") === 8) count.messages += occurrences(Buffer.concat(parts), MESSAGE)
        else count.refused++
        if (now < end) return send()
        socket.end()
        resolve()
      }
      socket.on("data", (part: Buffer) => {
        parts.push(part)
        length += part.length
        if (whole === 0) {
          head = parts.length === 1 ? part : Buffer.concat(parts)
          const headEnd = head.indexOf(HEAD_END)
          if (headEnd === -1) return
          const found = /content-length: (\d+)/i.exec(head.toString("latin1", 0, headEnd))
          if (found === null) return reject(new Error("An answer does not say how long it is"))
          whole = headEnd + HEAD_END.length + Number(found[1])
        }
        if (length >= whole) answered()
      })
      socket.once("error", reject)
      socket.once("close", () => reject(new Error("The server closed a connection")))
      send()
    })

  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true })
      await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject))
      await run(socket)
    })
  )
  const { system, user } = process.cpuUsage(cpu)
  return {
    reads: latencies.count,
    seconds: (performance.now() - start) / 1000,
    p50: latencies.quantile(0.5),
    p99: latencies.quantile(0.99),
    ...count,
    cpuSeconds: (system + user) / 1e6
  }
}
