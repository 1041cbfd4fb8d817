/** People spread over the edges of a cluster, in a process of their own, who count what they are given. Told by messages of its parent what to do. */
import { dmConversation } from "../../src/domain/ids.ts"
import { conversationsOf } from "../../src/main/load/plan.ts"
import { devTokens } from "../../src/main/load/tokens.ts"
import { answerParent } from "../fanout/ask.ts"
import { eachOf, makeGroup, openDarda } from "../fanout/greet.ts"
import { type LightSocket, MARK } from "../fanout/socket.ts"

/** What the parent says first: who there is, and where they connect, in turns. */
export interface Begin {
  readonly urls: ReadonlyArray<string>
  readonly users: number
  /** Members of each conversation: 2 are direct ones. */
  readonly members: number
  readonly conversations: number
}

/** One message to each conversation up to this number that has none yet. */
export interface Fill {
  readonly fill: number
}

/** Messages to the first so many conversations, at a rate. */
export interface Talk {
  readonly conversations: number
  readonly seconds: number
  readonly rate: number
}

/** All that was sent is delivered by then. */
export interface Talked {
  readonly sent: number
  readonly delivered: number
}

const OPENING = 50
const TICK_MS = 5
const UNDER_WAY = 2_000
const DELIVERED_WITHIN_MS = 30_000
const BODY = MARK.padEnd(64, "x")

let members = 2
let speaking: ReadonlyArray<{ readonly conv: string; readonly speaker: LightSocket }> = []
let filled = 0
let delivered = 0
let sent = 0
let expected = 0
let lost: string | undefined

const handlers = {
  marks: (count: number): void => {
    delivered += count
  },
  lost: (why: string): void => {
    lost ??= why
  }
}

const begin = async (told: Begin): Promise<object> => {
  members = told.members
  const names = Array.from({ length: told.users }, (_, i) => `person-${i}`)
  const tokens = await devTokens(told.urls[0]!, names)
  const sockets = await eachOf(tokens, OPENING, (user, index) =>
    openDarda(told.urls[index % told.urls.length]!, user, handlers)
  )
  const groups = conversationsOf(told.users, told.conversations, members)
  if (members === 2) {
    speaking = groups.map(([a, b]) => ({ conv: dmConversation(names[a!]!, names[b!]!), speaker: sockets[a!]! }))
    return {}
  }
  const made: Array<(typeof speaking)[number]> = []
  for (const [index, [first, ...others]] of groups.entries()) {
    const speaker = sockets[first!]!
    const conv = await makeGroup(
      speaker,
      others.map((other) => names[other]!),
      `group-${index}`
    )
    made.push({ conv, speaker })
  }
  speaking = made
  return {}
}

const say = (index: number): void => {
  const { conv, speaker } = speaking[index]!
  speaker.send(JSON.stringify({ t: "send", cid: `said-${++sent}`, conv, body: BODY }))
  expected += members - 1
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const settled = async (): Promise<void> => {
  const deadline = performance.now() + DELIVERED_WITHIN_MS
  while (delivered < expected) {
    if (lost !== undefined) throw new Error(`A person was lost: ${lost}`)
    if (performance.now() > deadline) throw new Error(`${delivered} of ${expected} were delivered`)
    await pause(TICK_MS)
  }
}

const fill = async ({ fill: to }: Fill): Promise<object> => {
  for (; filled < to; filled++) {
    if (expected - delivered >= UNDER_WAY * (members - 1)) await pause(1)
    if (lost !== undefined) throw new Error(`A person was lost: ${lost}`)
    if (expected - delivered >= UNDER_WAY * (members - 1)) filled--
    else say(filled)
  }
  await settled()
  return {}
}

const talk = async ({ conversations, rate, seconds }: Talk): Promise<Talked> => {
  const before = { sent, delivered }
  const from = performance.now()
  for (let said = 0; performance.now() < from + seconds * 1000; await pause(TICK_MS)) {
    // A stride that meets every conversation, and not in the order in which they were made.
    for (const due = ((performance.now() - from) / 1000) * rate; said < due; said++)
      say((said * 37_579) % conversations)
  }
  await settled()
  return { sent: sent - before.sent, delivered: delivered - before.delivered }
}

answerParent((told: Begin | Fill | Talk) => ("urls" in told ? begin(told) : "fill" in told ? fill(told) : talk(told)))
