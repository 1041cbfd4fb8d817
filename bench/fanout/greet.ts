/** Greeting a server of Darda's protocol, or one that understands enough of it. */
import { LightSocket, type LightSocketHandlers } from "./socket.ts"

/** Opens a connection and says hello; comes back when it is welcomed. */
export const openDarda = async (
  url: string,
  { token, user }: { readonly token: string; readonly user: string },
  handlers: LightSocketHandlers
): Promise<LightSocket> => {
  const socket = await LightSocket.open(`${url.replace("http", "ws")}/v1/ws`, handlers)
  const welcome = socket.next((text) => text.includes('"t":"welcome"'))
  socket.send(JSON.stringify({ t: "hello", v: 1, token, device: user }))
  await welcome
  return socket
}

interface Reply {
  readonly t: string
  readonly rid?: string
  readonly conv: string
}

/** Asks for something and gives its reply; fails where it is refused. */
const ask = async (socket: LightSocket, rid: string, frame: object): Promise<Reply> => {
  const answer = socket.next((text) => text.includes(`"rid":"${rid}"`))
  socket.send(JSON.stringify({ rid, cid: rid, ...frame }))
  const objects = [JSON.parse(await answer) as Reply | ReadonlyArray<Reply>].flat()
  const found = objects.find((one) => one.rid === rid)
  if (found?.t !== "reply") throw new Error(`The group was not made: ${JSON.stringify(found)}`)
  return found
}

/** Members that are named in one command, which holds 256 at most. */
const NAMED = 250

/** Makes a group of the socket's user and these others; answers its conversation. */
export const makeGroup = async (socket: LightSocket, others: ReadonlyArray<string>, name: string): Promise<string> => {
  const { conv } = await ask(socket, name, { t: "create", members: others.slice(0, NAMED) })
  for (let from = NAMED; from < others.length; from += NAMED)
    await ask(socket, `${name}-${from}`, { t: "members", conv, add: others.slice(from, from + NAMED) })
  return conv
}

/** Does something with each of these, so many at a time. */
export const eachOf = async <A, B>(
  items: ReadonlyArray<A>,
  atOnce: number,
  work: (item: A, index: number) => Promise<B>
): Promise<ReadonlyArray<B>> => {
  const done: Array<B> = []
  for (let from = 0; from < items.length; from += atOnce)
    done.push(...(await Promise.all(items.slice(from, from + atOnce).map((item, i) => work(item, from + i)))))
  return done
}
