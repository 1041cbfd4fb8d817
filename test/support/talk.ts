import { randomBytes } from "node:crypto"
import { assert } from "@effect/vitest"
import { devToken, openRaw, type RawClient, type Received } from "./ws.ts"

/** What is asked and answered, as fields. */
export type Fields = Readonly<Record<string, unknown>>

/** Longer than a user is there after their last connection. */
const DEADLINE_MS = 25_000

/** A connection that has said hello: it asks, tells, and looks at everything that it was given so far. */
export interface Talk {
  readonly user: string
  readonly welcome: Received
  /** Everything that came after `welcome`, in order. */
  readonly frames: ReadonlyArray<Received>
  readonly tell: (frame: string | object) => void
  /** Sends a request or a command and waits for its `reply`, its `ack persisted` or its `err`. */
  readonly ask: (frame: Fields) => Promise<Received>
  /** Waits until `look` finds something in what came. */
  readonly until: <A>(what: string, look: (frames: ReadonlyArray<Received>) => A | undefined) => Promise<A>
  /** Waits for the first frame of this kind, whenever it came. */
  readonly got: (t: string, fits?: (frame: Received) => boolean) => Promise<Received>
  /** Events of a conversation, in the order in which they came. */
  readonly events: (conv: string) => ReadonlyArray<Received>
  readonly closed: RawClient["closed"]
  /** Closes the connection and waits until it is closed. */
  readonly leave: () => Promise<void>
  readonly socket: RawClient["socket"]
}

let names = 0
/** Files may share a log. */
const run = randomBytes(3).toString("hex")

/** A name that no other test has. */
export const unique = (name: string): string => `${name}-${run}-${++names}`

/** Hello as this user, on a connection of its own. `hello` adds fields, or takes the place of those that are usual. */
export const talk = async (url: string, user: string, hello: object = {}): Promise<Talk> => {
  const [raw, token] = await Promise.all([openRaw(url), devToken(url, user)])
  raw.send({ t: "hello", v: 1, ...("ticket" in hello ? {} : { token }), device: unique("d"), ...hello })
  return listen(raw, user)
}

/** Goes on with a connection that has been sent its hello. */
export const listen = async (raw: RawClient, user: string): Promise<Talk> => {
  const welcome = await raw.next("welcome", ({ t }) => t === "welcome")
  const first = raw.all.indexOf(welcome) + 1
  const frames = (): ReadonlyArray<Received> => raw.all.slice(first)
  const waiting = new Set<() => void>()
  const wake = (): void => waiting.forEach((look) => look())
  raw.socket.on("message", (data: Buffer) => {
    const value: unknown = JSON.parse(data.toString())
    if (Array.isArray(value)) assert.isTrue(value.length > 0 && value.length <= 64, `an array of ${value.length}`)
    wake()
  })
  raw.socket.on("close", wake)

  const until: Talk["until"] = (what, look) =>
    new Promise((resolve, reject) => {
      const end = (act: () => void): void => {
        clearTimeout(timer)
        waiting.delete(attempt)
        act()
      }
      const fail = (why: string): void =>
        end(() => reject(new Error(`${user}: ${why} ${what}; received ${JSON.stringify(frames()).slice(-4000)}`)))
      const timer = setTimeout(() => fail("waited in vain for"), DEADLINE_MS)
      const attempt = (): void => {
        const found = look(frames())
        if (found !== undefined) end(() => resolve(found))
        else if (raw.socket.readyState >= raw.socket.CLOSING) fail("closed before")
      }
      waiting.add(attempt)
      attempt()
    })
  const got: Talk["got"] = (t, fits = () => true) =>
    until(t, (all) => all.find((frame) => frame.t === t && fits(frame)))

  return {
    user,
    welcome,
    get frames() {
      return frames()
    },
    tell: raw.send,
    ask: async (frame) => {
      const given = "cid" in frame || "rid" in frame
      const name = given ? {} : COMMANDS.has(frame["t"] as string) ? { cid: unique("c") } : { rid: unique("r") }
      const full: Fields = {
        ...(BOTH.has(frame["t"] as string) ? { cid: unique("c"), rid: unique("r") } : name),
        ...frame
      }
      const from = raw.all.length
      raw.send(full)
      return until(`the answer to ${JSON.stringify(full).slice(0, 200)}`, () =>
        raw.all.slice(from).find((answer) => isAnswer(answer) && isAbout(answer, full))
      )
    },
    until,
    got,
    events: (conv) => frames().filter((frame) => frame.t === "event" && frame["conv"] === conv),
    closed: raw.closed,
    leave: async () => {
      raw.close()
      await raw.closed()
    },
    socket: raw.socket
  }
}

const COMMANDS: ReadonlySet<string> = new Set(["send", "edit", "delete", "react"])
const BOTH: ReadonlySet<string> = new Set(["create", "members", "leave", "title"])

const isAnswer = ({ state, t }: Received): boolean =>
  t === "reply" || t === "err" || (t === "ack" && state === "persisted")

const isAbout = (answer: Received, { cid, rid }: Fields): boolean =>
  rid === undefined ? answer["cid"] === cid : answer["rid"] === rid

/** Sends a message and answers its `ack`; fails on a refusal. */
export const say = async (
  from: Talk,
  to: { readonly conv: string } | { readonly to: string },
  body: string,
  more: Fields = {}
) => {
  const ack = await from.ask({ t: "send", body, ...to, ...more })
  assert.strictEqual(ack.t, "ack", JSON.stringify(ack))
  return ack as Received & { readonly conv: string; readonly seq: number; readonly at: number; readonly cid: string }
}

/** Makes a group and answers its conversation. */
export const makeGroup = async (creator: Talk, members: ReadonlyArray<string>, more: Fields = {}): Promise<string> => {
  const reply = await creator.ask({ t: "create", members, ...more })
  assert.strictEqual(reply.t, "reply", JSON.stringify(reply))
  return reply["conv"] as string
}

/** Asks over HTTP as this user. */
export const httpAs = async (url: string, user: string) => {
  const authorization = `Bearer ${await devToken(url, user)}`
  const read = async (answer: Response) => ({
    status: answer.status,
    body: (await answer.json()) as Record<string, unknown>
  })
  return {
    get: async (path: string) => read(await fetch(url + path, { headers: { authorization } })),
    post: async (path: string, body: object) =>
      read(
        await fetch(url + path, {
          method: "POST",
          headers: { authorization, "content-type": "application/json" },
          body: JSON.stringify(body)
        })
      )
  }
}
