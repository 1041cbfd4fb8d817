import { WebSocket } from "ws"

/** Any object of a server frame. */
export interface Received {
  readonly t: string
  readonly [field: string]: unknown
}

/** A bare WebSocket client: says exactly what a test tells it to, and waits for facts with a deadline. */
export interface RawClient {
  /** Sends a text as it is, or an object as JSON. */
  readonly send: (frame: string | object) => void
  readonly sendBinary: (bytes: Uint8Array) => void
  /** The next object that fits, in the order of arrival; what comes before it is skipped. */
  readonly next: (what: string, fits: (frame: Received) => boolean) => Promise<Received>
  /** The next object of whatever kind, except cursors. */
  readonly any: () => Promise<Received>
  /** The code and reason with which the connection was closed. */
  readonly closed: () => Promise<{ readonly code: number; readonly reason: string }>
  readonly close: () => void
  readonly socket: WebSocket
  /** Everything that was received, in order. */
  readonly all: ReadonlyArray<Received>
}

const DEADLINE_MS = 15_000

/** Opens a connection to `/v1/ws`, without saying hello. */
export const openRaw = async (
  url: string,
  options: { readonly headers?: Record<string, string> } = {}
): Promise<RawClient> => {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/v1/ws`, ["darda.v1"], { headers: options.headers ?? {} })
  const all: Array<Received> = []
  let taken = 0
  let wake = () => {}
  let end: { readonly code: number; readonly reason: string } | undefined
  socket.on("message", (data: Buffer) => {
    const value = JSON.parse(data.toString()) as Received | ReadonlyArray<Received>
    for (const frame of Array.isArray(value) ? value : [value]) all.push(frame as Received)
    wake()
  })
  socket.on("error", () => {})
  socket.on("close", (code, reason) => {
    end = { code, reason: reason.toString() }
    wake()
  })
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve)
    socket.once("error", reject)
  })

  const until = async <A>(what: string, look: () => A | undefined, endIsAnswer: boolean): Promise<A> => {
    const deadline = Date.now() + DEADLINE_MS
    while (true) {
      const found = look()
      if (found !== undefined) return found
      if (end !== undefined && !endIsAnswer) {
        throw new Error(
          `closed with ${end.code} (${end.reason}) while waiting for ${what}; received ${JSON.stringify(all)}`
        )
      }
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`no ${what} within ${DEADLINE_MS} ms; received ${JSON.stringify(all)}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
  const next = (what: string, fits: (frame: Received) => boolean): Promise<Received> =>
    until(
      what,
      () => {
        while (taken < all.length) {
          const frame = all[taken++]!
          if (fits(frame)) return frame
        }
        return undefined
      },
      false
    )
  return {
    send: (frame) => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame)),
    sendBinary: (bytes) => socket.send(bytes),
    next,
    any: () => next("frame", (frame) => frame.t !== "cursor"),
    closed: () => until("close", () => end, true),
    close: () => socket.close(),
    socket,
    all
  }
}

/** A token of `AUTH=dev`. */
export const devToken = async (url: string, user: string): Promise<string> => {
  const response = await fetch(`${url}/v1/auth/dev`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user })
  })
  if (!response.ok) throw new Error(`no token for ${user}: ${response.status} ${await response.text()}`)
  return ((await response.json()) as { readonly token: string }).token
}

/** Opens a connection and says hello. */
export const greet = async (
  url: string,
  user: string,
  hello: object = {}
): Promise<RawClient & { readonly welcome: Received }> => {
  const [client, token] = await Promise.all([openRaw(url), devToken(url, user)])
  client.send({ t: "hello", v: 1, token, device: "d1", ...hello })
  const welcome = await client.next("welcome", (frame) => frame.t === "welcome")
  return { ...client, welcome }
}
