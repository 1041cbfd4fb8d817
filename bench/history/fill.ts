/** Conversations with messages, written by way of the server itself. */
import { Connection } from "../../src/client/connection.ts"
import { dmConversation } from "../../src/domain/ids.ts"
import { conversationsOf } from "../../src/main/load/plan.ts"
import { loadEnvironment } from "../../src/main/load/sockets.ts"
import { devTokens } from "../../src/main/load/tokens.ts"

/** Sends under way at a time on one connection. */
const WINDOW = 200

export interface Filled {
  /** `reader`: a member, as an index of `tokens`. */
  readonly conversations: ReadonlyArray<{ readonly conv: string; readonly reader: number }>
  readonly tokens: ReadonlyArray<string>
}

/** Writes so many messages of 64 characters to each of the direct conversations; comes back when all are persisted. */
export const fill = async (
  url: string,
  plan: { readonly users: number; readonly conversations: number; readonly messages: number }
): Promise<Filled> => {
  const users = await devTokens(
    url,
    Array.from({ length: plan.users }, (_, i) => `reader-${i}`)
  )
  const groups = conversationsOf(plan.users, plan.conversations, 2)
  const conversations = groups.map(([a, b]) => ({
    conv: dmConversation(users[a!]!.user, users[b!]!.user),
    reader: b!,
    writer: a!
  }))
  await Promise.all(
    users.map(({ token }, index) =>
      write(
        url,
        token,
        conversations.filter(({ writer }) => writer === index).map(({ conv }) => conv),
        plan.messages
      )
    )
  )
  return { conversations, tokens: users.map(({ token }) => token) }
}

/** Writes round by round, so that the conversations grow beside one another. */
const write = (url: string, token: string, convs: ReadonlyArray<string>, messages: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const all = convs.length * messages
    let sent = 0
    let persisted = 0
    const body = "x".repeat(64)
    const send = (): void => {
      while (sent < all && sent - persisted < WINDOW) {
        connection.send({ t: "send", cid: `fill-${sent}`, conv: convs[sent % convs.length]!, body })
        sent++
      }
    }
    const done = (): void => {
      connection.close()
      resolve()
    }
    const connection = new Connection(
      {
        url: `${url.replace("http", "ws")}/v1/ws`,
        token,
        device: "fill",
        probeAfterMs: 0,
        environment: loadEnvironment
      },
      {
        resume: () => undefined,
        welcome: () => (all === 0 ? done() : send()),
        frame: (frame) => {
          if (frame.t === "err") reject(new Error(`A message was refused: ${frame.message}`))
          if (frame.t !== "ack" || frame.state !== "persisted") return
          if (++persisted === all) done()
          else if (sent - persisted <= WINDOW / 2) send()
        },
        lost: () => {},
        status: (status) => {
          if (status.state === "waiting") reject(new Error(`A connection broke: ${status.reason} (${status.code})`))
        }
      }
    )
    connection.start()
  })
