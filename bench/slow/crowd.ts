/**
 * The people of the measurement of slow clients, in a process of their own: some read, and some of them speak; some stop reading when they are told to. Told by
 * messages of its parent what to do.
 */
import { Histogram } from "../../src/main/load/Histogram.ts"
import { devTokens, type LoadUser } from "../../src/main/load/tokens.ts"
import { answerParent } from "../fanout/ask.ts"
import { eachOf, makeGroup, openDarda } from "../fanout/greet.ts"
import { type LightSocket, MARK } from "../fanout/socket.ts"

/** What the parent says first. */
export interface Begin {
  readonly url: string
  /** Groups, and how many in each of them read and never read. */
  readonly groups: number
  readonly readers: number
  readonly never: number
  readonly bodyChars: number
}

/** What the parent says then: talk for so long, at this rate over all groups; `never` those who never read are there. */
export interface Talk {
  readonly seconds: number
  readonly rate: number
  readonly never: boolean
}

/** From a message's sending to its delivery to each of the readers. */
export interface Talked {
  readonly delivered: number
  readonly p50: number
  readonly p99: number
}

const OPENING = 50
const DIGITS = 12
const TICK_MS = 5

let begun: Begin
let speakers: ReadonlyArray<LightSocket> = []
let convs: ReadonlyArray<string> = []
let never: ReadonlyArray<LoadUser> = []
let histogram = new Histogram()
let sent = 0
let lost: string | undefined

const handlers = {
  marks: () => {},
  mark: (data: Buffer, at: number): void => {
    // One that is cut by the end of what was read is not measured.
    if (data.length < at + 1 + DIGITS) return
    histogram.record(performance.now() - Number(data.toString("latin1", at + 1, at + 1 + DIGITS)) / 1000)
  },
  lost: (why: string): void => {
    lost ??= why
  }
}

const begin = async (told: Begin): Promise<object> => {
  begun = told
  const { groups, url } = told
  const users = Array.from({ length: groups * (told.readers + told.never) }, (_, i) => `person-${i}`)
  const tokens = await devTokens(url, users)
  const readers = tokens.slice(0, groups * told.readers)
  never = tokens.slice(readers.length)
  const sockets = await eachOf(readers, OPENING, (user) => openDarda(url, user, handlers))
  const of = (group: number) => [
    ...readers.slice(group * told.readers, (group + 1) * told.readers),
    ...never.slice(group * told.never, (group + 1) * told.never)
  ]
  speakers = Array.from({ length: groups }, (_, group) => sockets[group * told.readers]!)
  convs = await eachOf(speakers, 10, (speaker, group) =>
    makeGroup(
      speaker,
      of(group)
        .slice(1)
        .map(({ user }) => user),
      `group-${group}`
    )
  )
  return {}
}

const say = (): void => {
  const group = sent++ % convs.length
  const at = String(Math.round(performance.now() * 1000)).padStart(DIGITS, "0")
  const body = `${MARK}${at}`.padEnd(begun.bodyChars, "x")
  speakers[group]!.send(JSON.stringify({ t: "send", cid: `said-${sent}`, conv: convs[group], body }))
}

const talk = async (told: Talk): Promise<Talked> => {
  if (told.never) {
    const sockets = await eachOf(never, OPENING, (user) =>
      openDarda(begun.url, user, { marks: () => {}, lost: () => {} })
    )
    for (const socket of sockets) socket.stall()
  }
  histogram = new Histogram()
  const from = performance.now()
  let said = 0
  while (performance.now() < from + told.seconds * 1000) {
    for (const due = ((performance.now() - from) / 1000) * told.rate; said < due; said++) say()
    if (lost !== undefined) throw new Error(`One who reads was lost: ${lost}`)
    await new Promise((resolve) => setTimeout(resolve, TICK_MS))
  }
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  return { delivered: histogram.count, p50: histogram.quantile(0.5), p99: histogram.quantile(0.99) }
}

answerParent((told: Begin | Talk) => ("url" in told ? begin(told) : talk(told)))
