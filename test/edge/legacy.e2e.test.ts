import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { WebSocket } from "ws"
import { type RunningServer, startServer } from "../support/server.ts"
import { greet } from "../support/ws.ts"

const DEADLINE_MS = 15_000

let server: RunningServer
beforeAll(async () => {
  server = await startServer({ env: { LIMIT_BODY_CHARS: "100", LIMIT_USER_CONNECTIONS: "2", LIMIT_BURST: "60" } })
})
afterAll(() => server.dispose())

interface Message {
  readonly id: string
  readonly conversation_id: string
  readonly sender: string
  readonly destination: string
  readonly content: string
  readonly timestamp: string
}

interface Frame {
  readonly type: string
  readonly event_id: string
  readonly timestamp: string
  readonly content: Message
}

/** A client as Darda-chat's page is one: it knows an id, sends, and shows what comes. */
interface Page {
  readonly frames: ReadonlyArray<Frame>
  readonly say: (destination: string, content: unknown, more?: object) => void
  readonly sendRaw: (text: string | Uint8Array) => void
  /** Everything up to the first message with this content. */
  readonly until: (content: string) => Promise<Frame>
  readonly closed: () => Promise<number>
  readonly close: () => void
}

const open = async (id: string, headers: Record<string, string> = { origin: "null" }): Promise<Page> => {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/api/v1/ws?id=${encodeURIComponent(id)}`, {
    headers
  })
  const frames: Array<Frame> = []
  let code: number | undefined
  let wake = () => {}
  socket.on("message", (data: Buffer) => {
    frames.push(JSON.parse(data.toString()) as Frame)
    wake()
  })
  socket.on("error", () => {})
  socket.on("close", (closedWith) => {
    code = closedWith
    wake()
  })
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve)
    socket.once("error", reject)
  })
  const until = async <A>(what: string, look: () => A | undefined): Promise<A> => {
    const deadline = Date.now() + DEADLINE_MS
    while (true) {
      const found = look()
      if (found !== undefined) return found
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`no ${what}; received ${JSON.stringify(frames)}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
  return {
    frames,
    say: (destination, content, more = {}) =>
      socket.send(JSON.stringify({ type: "Message", content: { sender: id, destination, content, ...more } })),
    sendRaw: (text) => socket.send(text),
    until: (content) => until(content, () => frames.find((frame) => frame.content.content === content)),
    closed: () => until("close", () => code),
    close: () => socket.close()
  }
}

interface History {
  readonly messages: ReadonlyArray<Message>
  readonly before: string
  readonly after: string
}

const history = async (other: string, query: string): Promise<History> => {
  const answer = await fetch(`${server.url}/api/v1/messages/${encodeURIComponent(other)}?${query}`)
  assert.strictEqual(answer.status, 200)
  return (await answer.json()) as History
}
const contents = (page: { readonly messages: ReadonlyArray<Message> }) =>
  page.messages.map((message) => message.content)

describe("a socket", () => {
  it("gets what others send, as does every other of both people, and not what it sends itself", async () => {
    const [ann, again, bob] = await Promise.all([open("ann"), open("ann"), open("bob")])
    ann.say("bob", "hello", { id: "given-id" })
    const [frame, other] = await Promise.all([bob.until("hello"), again.until("hello")])
    assert.deepStrictEqual(Object.keys(frame).sort(), ["content", "event_id", "timestamp", "type"])
    const { timestamp, ...content } = frame.content
    assert.deepStrictEqual(content, {
      id: "given-id",
      conversation_id: "dm:ann:bob",
      sender: "ann",
      destination: "bob",
      content: "hello"
    })
    assert.strictEqual(frame.type, "Message")
    assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/)
    assert.strictEqual(frame.timestamp, timestamp)
    assert.notStrictEqual(frame.event_id, frame.content.id)
    assert.deepStrictEqual(other, frame)
    bob.say("ann", "hello back")
    const back = await ann.until("hello back")
    assert.match(back.content.id, /^[0-9a-f-]{36}$/)
    // Its page has shown "hello" itself.
    assert.deepStrictEqual(ann.frames, [back])
    for (const page of [ann, again, bob]) page.close()
  })

  it("gets what it sends to itself", async () => {
    const pat = await open("pat")
    pat.say("pat", "note to self")
    const frame = await pat.until("note to self")
    assert.strictEqual(frame.content.destination, "pat")
    pat.close()
  })

  it("sends in order, and one id once", async () => {
    const [ed, flo] = await Promise.all([open("ed"), open("flo")])
    for (let i = 0; i < 20; i++) ed.say("flo", `m${i}`, { id: `id-${i % 15}` })
    ed.say("flo", "end")
    await flo.until("end")
    // The last five had the ids of the first five and another content.
    assert.deepStrictEqual(
      flo.frames.map((frame) => frame.content.content),
      [...Array.from({ length: 15 }, (_, i) => `m${i}`), "end"]
    )
    ed.close()
    flo.close()
  })

  const unsent: ReadonlyArray<readonly [what: string, send: (page: Page) => void]> = [
    ["in the name of somebody else", (page) => page.say("gil", "no", { sender: "gil" })],
    ["to nobody", (page) => page.say("", "no")],
    ["to what is no user", (page) => page.say("a:b", "no")],
    ["an empty message", (page) => page.say("gil", "")],
    ["a number", (page) => page.say("gil", 5)],
    ["too long a message", (page) => page.say("gil", "x".repeat(101))],
    ["NUL", (page) => page.say("gil", "a\u0000b")],
    ["no JSON", (page) => page.sendRaw("{")],
    ["null", (page) => page.sendRaw("null")],
    ["nothing in it", (page) => page.sendRaw('{"type":"Message"}')],
    [
      "another type",
      (page) => page.sendRaw('{"type":"Ping","content":{"sender":"hal","destination":"gil","content":"no"}}')
    ]
  ]
  it.each(unsent)("sends nothing to anyone for %s, and stays open", async (_what, send) => {
    const [hal, gil] = await Promise.all([open("hal"), open("gil")])
    send(hal)
    hal.say("gil", "then")
    await gil.until("then")
    gil.say("hal", "done")
    await hal.until("done")
    assert.strictEqual(hal.frames.length, 1)
    assert.strictEqual(gil.frames.length, 1)
    hal.close()
    gil.close()
  })

  it("is one with the other protocol", async () => {
    const ike = await open("ike")
    const jo = await greet(server.url, "jo")
    jo.send({ t: "send", cid: "c1", to: "ike", body: "from new to old" })
    assert.strictEqual((await ike.until("from new to old")).content.sender, "jo")
    ike.say("jo", "from old to new")
    const event = await jo.next("event", (frame) => frame.t === "event")
    assert.deepStrictEqual((event["data"] as { readonly body: string }).body, "from old to new")
    // What these clients do not know is not sent to them.
    jo.send({ t: "react", cid: "c2", conv: "dm:ike:jo", target: 1, emoji: "+", on: true })
    jo.send({ t: "create", rid: "r", cid: "c3", members: ["ike"] })
    await jo.next("reply", (frame) => frame.t === "reply")
    jo.send({ t: "send", cid: "c4", to: "ike", body: "last" })
    await ike.until("last")
    assert.deepStrictEqual(
      ike.frames.map((frame) => frame.content.content),
      ["from new to old", "last"]
    )
    ike.close()
    jo.close()
  })

  it("makes room for a user's next one", async () => {
    const first = await open("kim")
    const others = [await open("kim"), await open("kim")]
    assert.strictEqual(await first.closed(), 4009)
    for (const page of others) page.close()
  })

  it("is closed for binary frames, and for frames over 64 KiB", async () => {
    const [leo, mia] = await Promise.all([open("leo"), open("mia")])
    leo.sendRaw(new Uint8Array(3))
    mia.sendRaw("x".repeat(70_000))
    assert.strictEqual(await leo.closed(), 1003)
    assert.strictEqual(await mia.closed(), 1009)
  })

  it.each([
    ["no id", "/api/v1/ws", "user ID is required"],
    ["an empty id", "/api/v1/ws?id=", "user ID is required"],
    ["what is no id", "/api/v1/ws?id=a:b", "user IDs are"]
  ])("is refused with %s", async (_what, path, says) => {
    const refusal = await new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}${path}`)
      socket.once("open", () => reject(new Error("It was accepted")))
      socket.once("error", () => {})
      socket.once("unexpected-response", (_request, response) => {
        let text = ""
        response.on("data", (data: Buffer) => (text += data.toString()))
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }))
      })
    })
    assert.strictEqual(refusal.status, 400)
    assert.include((JSON.parse(refusal.text) as { readonly error: string }).error, says)
  })
})

describe("the history", () => {
  const said = Array.from({ length: 45 }, (_, i) => `m${i}`)
  beforeAll(async () => {
    const [nan, oz] = await Promise.all([open("nan"), open("oz")])
    for (const content of said) nan.say("oz", content)
    await oz.until("m44")
    nan.close()
    oz.close()
  })

  it("goes back page by page, each oldest first", async () => {
    const newest = await history("nan", "id=oz")
    assert.deepStrictEqual(contents(newest), said.slice(25))
    const middle = await history("nan", `id=oz&before=${newest.before}&after=`)
    assert.deepStrictEqual(contents(middle), said.slice(5, 25))
    const oldest = await history("nan", `id=oz&before=${middle.before}`)
    assert.deepStrictEqual(contents(oldest), said.slice(0, 5))
    const nothing = await history("nan", `id=oz&before=${oldest.before}`)
    assert.deepStrictEqual([nothing.messages, nothing.before], [[], ""])
  })

  it("goes forward without skipping, and on when there is more later", async () => {
    const newest = await history("oz", "id=nan")
    const oldest = await history(
      "oz",
      `id=nan&before=${(await history("oz", `id=nan&before=${newest.before}`)).before}`
    )
    const walked: Array<string> = contents(oldest)
    let { after } = oldest
    for (let page = await history("oz", `id=nan&after=${after}`); page.messages.length > 0;) {
      walked.push(...contents(page))
      assert.isAtMost(page.messages.length, 20)
      ;({ after } = page)
      page = await history("oz", `id=nan&after=${after}`)
    }
    assert.deepStrictEqual(walked, said)
    const [nan, oz] = await Promise.all([open("nan"), open("oz")])
    nan.say("oz", "later")
    await oz.until("later")
    nan.close()
    oz.close()
    assert.deepStrictEqual(contents(await history("oz", `id=nan&after=${after}`)), ["later"])
  })

  it("has the same messages as the socket", async () => {
    const [sam, tia] = await Promise.all([open("sam"), open("tia")])
    sam.say("tia", "hello", { id: "one" })
    tia.say("sam", "hello back")
    const frames = [await tia.until("hello"), await sam.until("hello back")]
    sam.close()
    tia.close()
    const { messages } = await history("tia", "id=sam")
    const byId = (a: Message, b: Message) => (a.id < b.id ? -1 : 1)
    assert.deepStrictEqual([...messages].sort(byId), frames.map(({ content }) => content).sort(byId))
  })

  it("of people who never spoke is empty, and can be walked when they do", async () => {
    const nothing = await history("qi", "id=rex")
    assert.deepStrictEqual(nothing.messages, [])
    assert.strictEqual(nothing.before, "")
    const [rex, qi] = await Promise.all([open("rex"), open("qi")])
    rex.say("qi", "hello")
    await qi.until("hello")
    rex.close()
    qi.close()
    assert.deepStrictEqual(contents(await history("qi", `id=rex&after=${nothing.after}`)), ["hello"])
  })

  it("may be read from any page", async () => {
    const answer = await fetch(`${server.url}/api/v1/messages/oz?id=nan`, { headers: { origin: "null" } })
    assert.strictEqual(answer.headers.get("access-control-allow-origin"), "*")
  })

  const refused: ReadonlyArray<readonly [what: string, path: string, says: RegExp]> = [
    ["no id", "oz", /^user ID is required$/],
    ["an empty id", "oz?id=", /^user ID is required$/],
    ["two ids", "oz?id=nan&id=oz", /^user ID is required$/],
    ["what is no id", "oz?id=a:b", /user IDs are/],
    ["an other that is none", "a:b?id=nan", /user IDs are/],
    ["both cursors", "oz?id=nan&before=MQ&after=MQ", /not both/],
    ["what is no cursor", "oz?id=nan&before=x!", /no cursor/],
    ["a cursor that was not given out", `oz?id=nan&after=${Buffer.from("01").toString("base64url")}`, /no cursor/],
    ["a cursor of too many digits", `oz?id=nan&after=${Buffer.from("9".repeat(20)).toString("base64url")}`, /no cursor/]
  ]
  it.each(refused)("is refused with %s", async (_what, path, says) => {
    const answer = await fetch(`${server.url}/api/v1/messages/${path}`)
    assert.strictEqual(answer.status, 400)
    const body = (await answer.json()) as Record<string, string>
    assert.deepStrictEqual(Object.keys(body), ["error"])
    assert.match(body["error"]!, says)
  })
})
