import type { ClientHistory, Fields, History, LogEvent } from "./checker.ts"
import { WITHIN_MS } from "./checker-sessions.ts"
import { canonical, type Evidence, short, type Timeline } from "./checker-timeline.ts"

/** A message as it was from one event of its conversation on. */
interface Version {
  readonly from: number
  readonly text: string
}

/** One query and its answer. */
interface Asked {
  readonly request: Fields
  readonly at: number
  readonly answeredAt: number
  readonly reply: Fields
  /** By conversation, the last seq that this device had been given or acked before it asked. */
  readonly had: ReadonlyMap<string, number>
  readonly where: string
  readonly user: string
}

/** I13, I14 and I17: what was answered to queries. */
export const checkAnswers = (history: History, timelines: ReadonlyMap<string, Timeline>, evidence: Evidence): void => {
  const messages = new Map<string, Messages>()
  const messagesOf = (conv: string): Messages => {
    let known = messages.get(conv)
    if (known === undefined) messages.set(conv, (known = new Messages(conv, timelines.get(conv)?.events ?? [])))
    return known
  }
  const removed = removalTimes(history, timelines)
  for (const client of history.clients) {
    for (const asked of questions(client)) {
      const { request, reply, where } = asked
      const conv = request["conv"] as string | undefined
      if (conv !== undefined && request.t !== "convs") checkAccess(asked, conv, timelines.get(conv), removed, evidence)
      switch (request.t) {
        case "sync":
          checkSync(asked, timelines.get(conv!)?.events ?? [], evidence)
          break
        case "history":
          checkHistory(asked, messagesOf(conv!), timelines.get(conv!)?.head ?? 0, evidence)
          break
        case "convs":
          for (const item of reply["items"] as ReadonlyArray<Fields>) checkItem(asked, item, timelines, evidence)
          checkComplete(asked, timelines, evidence)
          break
        case "roster":
          checkRoster(asked, timelines.get(conv!), evidence)
      }
      evidence.expect("I14", true, where, () => "")
    }
  }
}

/** Every query that was answered with a reply. */
const questions = (client: ClientHistory): ReadonlyArray<Asked> => {
  const found: Array<Asked> = []
  const had = new Map<string, number>()
  client.sessions.forEach(({ entries }, index) => {
    const open = new Map<string, { request: Fields; at: number; had: ReadonlyMap<string, number> }>()
    for (const entry of entries) {
      if (entry.dir === "sent" && ["sync", "history", "convs", "roster"].includes(entry.frame.t)) {
        open.set(entry.frame["rid"] as string, { request: entry.frame, at: entry.at, had: new Map(had) })
      }
      if (entry.dir !== "received") continue
      const { frame } = entry
      const conv = frame["conv"] as string
      if (frame.t === "event" || (frame.t === "ack" && frame["state"] === "persisted")) {
        had.set(conv, Math.max(had.get(conv) ?? 0, frame["seq"] as number))
      }
      const asked = frame.t === "reply" ? open.get(frame["rid"] as string) : undefined
      if (asked === undefined) continue
      const where = `${client.user}/${client.device}, connection ${index + 1}, ${short(asked.request)}`
      found.push({ ...asked, answeredAt: entry.at, reply: frame, where, user: client.user })
    }
  })
  return found
}

/** When somebody was told that a removal is persisted, by conversation and seq. */
const removalTimes = (history: History, timelines: ReadonlyMap<string, Timeline>): ReadonlyMap<string, number> => {
  const times = new Map<string, number>()
  for (const { sessions } of history.clients) {
    for (const { entries } of sessions) {
      for (const entry of entries) {
        if (entry.dir !== "received") continue
        const conv = entry.frame["conv"] as string
        const seq = entry.frame["seq"] as number
        if (timelines.get(conv)?.events[seq - 1]?.type !== "members") continue
        const key = `${conv} ${seq}`
        if (!times.has(key) || times.get(key)! > entry.at) times.set(key, entry.at)
      }
    }
  }
  return times
}

/** I17: one who was removed reads nothing that came after, and nothing at all 5 s later. */
const checkAccess = (
  { answeredAt, at, reply, request, user, where }: Asked,
  conv: string,
  timeline: Timeline | undefined,
  removed: ReadonlyMap<string, number>,
  evidence: Evidence
): void => {
  if (timeline === undefined) return
  for (const removal of timeline.removals(user)) {
    const known = removed.get(`${conv} ${removal}`)
    const back = timeline.additions(user).find((seq) => seq > removal)
    // Whoever was taken in again may see everything from then on, and when that was is not known exactly.
    if (back !== undefined) continue
    if (known !== undefined && at > known + WITHIN_MS) {
      evidence.expect(
        "I17",
        false,
        where,
        () => `was answered ${at - known} ms after the removal at seq ${removal}: ${short(reply)}`
      )
    }
    const items = [
      ...((reply["events"] ?? []) as ReadonlyArray<Fields>),
      ...((reply["messages"] ?? []) as ReadonlyArray<Fields>)
    ]
    const beyond = items.find((item) => (item["seq"] as number) > removal)
    evidence.expect(
      "I17",
      beyond === undefined,
      where,
      () => `holds ${JSON.stringify(beyond)}, after the removal at seq ${removal}; answered at ${answeredAt}`
    )
  }
  if (timeline.removals(user).length === 0 && !timeline.isMember(user, timeline.head)) {
    evidence.expect("I17", false, where, () => `a stranger was answered ${short(reply)} to ${short(request)}`)
  }
}

const checkSync = ({ had, reply, request, where }: Asked, log: ReadonlyArray<LogEvent>, evidence: Evidence): void => {
  const conv = request["conv"] as string
  const after = request["after"] as number
  const limit = (request["limit"] ?? 200) as number
  const events = reply["events"] as ReadonlyArray<Fields>
  const head = reply["head"] as number
  events.forEach((event, index) => {
    const { conv: _, ...rest } = event
    const known = log[after + index]
    evidence.expect(
      "I14",
      known !== undefined && canonical(rest) === canonical(known),
      where,
      () => `has ${JSON.stringify(event)} where the log has ${JSON.stringify(known)}`
    )
  })
  const end = after + events.length
  const own = had.get(conv) ?? 0
  evidence.expect("I14", head >= own, where, () => `the head is ${head}, and seq ${own} was known to the asker`)
  evidence.expect(
    "I14",
    head <= log.length && events.length <= limit,
    where,
    () => `the head is ${head} of ${log.length}, ${events.length} events`
  )
  evidence.expect(
    "I14",
    reply["more"] === true ? events.length > 0 && end < log.length : end >= head || after >= head,
    where,
    () => `ends at seq ${end} of ${head}, and more is ${String(reply["more"])}`
  )
}

/** The messages of one conversation in all the forms that they ever had. */
class Messages {
  readonly conv: string
  readonly seqs: ReadonlyArray<number>
  readonly #versions = new Map<number, Array<Version>>()

  constructor(conv: string, events: ReadonlyArray<LogEvent>) {
    this.conv = conv
    const seqs: Array<number> = []
    const states = new Map<number, Record<string, unknown>>()
    const reactions = new Map<number, Map<string, Set<string>>>()
    for (const event of events) {
      if (event.type === "message") {
        seqs.push(event.seq)
        const { by, at, cid, data, seq } = event
        states.set(seq, { conv, seq, by, at, cid, ...data })
        this.#versions.set(seq, [{ from: seq, text: canonical(states.get(seq)) }])
        continue
      }
      const target = event.data["target"] as number | undefined
      const state = target === undefined ? undefined : states.get(target)
      if (target === undefined || state === undefined || state["deleted"] === true) continue
      if (event.type === "edited") Object.assign(state, { body: event.data["body"], editedAt: event.at })
      if (event.type === "deleted") {
        delete state["body"]
        delete state["reactions"]
        state["deleted"] = true
      }
      if (event.type === "reaction") {
        const all = reactions.get(target) ?? new Map<string, Set<string>>()
        reactions.set(target, all)
        const users = all.get(event.data["emoji"] as string) ?? new Set<string>()
        if (event.data["on"] === true) users.add(event.by)
        else users.delete(event.by)
        all.set(event.data["emoji"] as string, users)
        const shown = [...all]
          .filter(([, by]) => by.size > 0)
          .map(([emoji, by]) => [emoji, [...by].sort((a, b) => (a < b ? -1 : 1))])
        if (shown.length === 0) delete state["reactions"]
        else state["reactions"] = Object.fromEntries(shown) as unknown
      }
      this.#versions.get(target)!.push({ from: event.seq, text: canonical(state) })
    }
    this.seqs = seqs
  }

  /** Whether a message had this form at any time from when the conversation was at `seq` on. */
  had(message: Fields, seq: number): boolean {
    const versions = this.#versions.get(message["seq"] as number)
    if (versions === undefined) return false
    const text = canonical(message)
    return versions.some((version, index) => version.text === text && (versions[index + 1]?.from ?? Infinity) > seq)
  }
}

const checkHistory = (
  { had, reply, request, where }: Asked,
  messages: Messages,
  length: number,
  evidence: Evidence
): void => {
  const found = reply["messages"] as ReadonlyArray<Fields>
  const head = reply["head"] as number
  const limit = (request["limit"] ?? 50) as number
  const own = had.get(messages.conv) ?? 0
  const expect = (holds: boolean, message: () => string): boolean => evidence.expect("I14", holds, where, message)
  expect(head >= own && head <= length, () => `the head is ${head} of ${length}, and seq ${own} was known to the asker`)
  for (const message of found) {
    expect(
      messages.had(message, own),
      () => `${JSON.stringify(message)} is nothing that this message was since seq ${own}`
    )
  }
  const seqs = found.map((message) => message["seq"] as number)
  const { after, around, before } = request as {
    readonly after?: number
    readonly around?: number
    readonly before?: number
  }
  const first = seqs[0] ?? Infinity
  const last = seqs.at(-1) ?? 0
  const between = messages.seqs.filter((seq) => seq >= first && seq <= last)
  expect(canonical(seqs) === canonical(between), () => `has ${seqs.join()}, and there are ${between.join()}`)
  expect(found.length <= limit, () => `${found.length} messages, ${limit} were asked for`)
  const older = messages.seqs.some((seq) => seq < (seqs.length === 0 ? (before ?? around ?? 0) : first))
  // What may have come after the answer was made does not count against it.
  const newer = messages.seqs.filter((seq) => seq > Math.max(last, after ?? 0) && seq <= Math.max(own, head))
  if (after !== undefined) {
    expect(
      first > after && !messages.seqs.some((seq) => seq > after && seq < first && seq <= head),
      () => `begins at ${first}, after ${after}`
    )
    expect(
      reply["more"] === true || newer.length === 0,
      () => `says that nothing more comes, and there are ${newer.join()}`
    )
  } else {
    expect(
      (reply["more"] === true) === (older && found.length > 0) || found.length === 0,
      () => `more is ${String(reply["more"])}, older ones: ${older}`
    )
    if (around === undefined) {
      const end = before ?? Infinity
      const left = messages.seqs.filter((seq) => seq > last && seq < end && seq <= Math.max(own, head))
      expect(last < end && left.length === 0, () => `ends at ${last}, and there are ${left.join()}`)
    }
  }
  const receipts = (reply["receipts"] ?? {}) as Readonly<
    Record<string, { readonly seen: number; readonly delivered: number }>
  >
  for (const [user, { delivered, seen }] of Object.entries(receipts)) {
    evidence.expect(
      "I13",
      seen <= delivered && delivered <= length,
      where,
      () => `${user} has seen ${seen}, was given ${delivered}, of ${length}`
    )
  }
}

/** I13: a line of the list of conversations counts what the log counts. */
const checkItem = (
  { had, user, where }: Asked,
  item: Fields,
  timelines: ReadonlyMap<string, Timeline>,
  evidence: Evidence
): void => {
  const { conv, head, seen, unread } = item as unknown as { conv: string; head: number; seen: number; unread: number }
  const events = timelines.get(conv)?.events ?? []
  const own = had.get(conv) ?? 0
  evidence.expect(
    "I14",
    head >= own && head <= events.length,
    where,
    () => `${conv} is at ${head} of ${events.length}, and seq ${own} was known to the asker`
  )
  evidence.expect("I13", seen <= head, where, () => `${conv}: seen ${seen} is past the head, ${head}`)
  const counted = events.filter(
    (event) => event.type === "message" && event.by !== user && event.seq > seen && event.seq <= head
  ).length
  evidence.expect(
    "I13",
    unread === counted,
    where,
    () => `${conv}: ${unread} unread after ${seen} up to ${head}, and the log has ${counted}`
  )
}

/** I14: a list that says that it is whole has every conversation that the asker was told of. */
const checkComplete = (
  { had, reply, request, user, where }: Asked,
  timelines: ReadonlyMap<string, Timeline>,
  evidence: Evidence
): void => {
  if (request["after"] !== undefined || reply["next"] !== undefined) return
  const listed = new Set((reply["items"] as ReadonlyArray<Fields>).map((item) => item["conv"]))
  for (const [conv, seq] of had) {
    const timeline = timelines.get(conv)
    if (timeline === undefined || timeline.removals(user).length > 0 || !timeline.isMember(user, seq)) continue
    evidence.expect(
      "I14",
      listed.has(conv),
      where,
      () => `${conv} is not listed, and seq ${seq} of it was known to the asker`
    )
  }
}

/** I14: the members are those of some moment not before what the asker knew. */
const checkRoster = (
  { had, reply, request, where }: Asked,
  timeline: Timeline | undefined,
  evidence: Evidence
): void => {
  if (timeline === undefined || request["after"] !== undefined || reply["next"] !== undefined) return
  const members = (reply["members"] as ReadonlyArray<{ readonly user: string; readonly admin: boolean }>)
    .map((member) => `${member.user}${member.admin ? "*" : ""}`)
    .sort()
    .join()
  const own = had.get(timeline.conv) ?? 0
  const possible = timeline.memberships
    .filter((_, index) => (timeline.memberships[index + 1]?.seq ?? Infinity) > own)
    .map(({ members }) =>
      [...members]
        .map(([user, { admin }]) => `${user}${admin ? "*" : ""}`)
        .sort()
        .join()
    )
  evidence.expect(
    "I14",
    possible.includes(members),
    where,
    () => `the members are ${members}, which they were not since seq ${own}: ${possible.join(" | ")}`
  )
}
