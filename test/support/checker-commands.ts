import type { Entry, Fields, History, LogEvent } from "./checker.ts"
import { canonical, cidKey, type Evidence, short, type Timeline } from "./checker-timeline.ts"

/** What a send must be answered within. */
const ANSWER_WITHIN_MS = 30_000
/** Refusals after which the command may be sent again. */
const RETRYABLE: ReadonlySet<unknown> = new Set(["busy", "unavailable", "rate_limited"])
const COMMANDS: ReadonlySet<string> = new Set([
  "send",
  "edit",
  "delete",
  "react",
  "create",
  "members",
  "leave",
  "title"
])

/** One sending of a command on one connection. */
interface Copy {
  readonly session: number
  /** Counts what this connection sent. */
  readonly order: number
  readonly at: number
  readonly frame: Fields
  /** The answers to its cid, or rid, on the same connection after it. */
  readonly answers: ReadonlyArray<{ readonly at: number; readonly frame: Fields }>
}

interface Command {
  readonly user: string
  readonly conv: string | undefined
  readonly cid: string
  readonly copies: Array<Copy>
}

const isPersisted = ({ frame }: { readonly frame: Fields }): boolean =>
  (frame.t === "ack" && frame["state"] === "persisted") || frame.t === "reply"

/** What an event would hold that comes of this command; undefined where that depends on the conversation. */
const contentOf = (frame: Fields, user: string): { readonly type: string; readonly data: unknown } | undefined => {
  switch (frame.t) {
    case "send":
      return {
        type: "message",
        data: {
          kind: frame["kind"] ?? "text",
          body: frame["body"],
          ...(frame["replyTo"] === undefined ? {} : { replyTo: frame["replyTo"] })
        }
      }
    case "edit":
      return { type: "edited", data: { target: frame["target"], body: frame["body"] } }
    case "delete":
      return { type: "deleted", data: { target: frame["target"] } }
    case "react":
      return { type: "reaction", data: { target: frame["target"], emoji: frame["emoji"], on: frame["on"] } }
    case "leave":
      return { type: "members", data: { removed: [user] } }
    case "title":
      return { type: "title", data: { title: frame["title"] } }
    case "create": {
      const members = [...new Set([user, ...(frame["members"] as ReadonlyArray<string>)])].sort((a, b) =>
        a < b ? -1 : 1
      )
      return {
        type: "created",
        data: { kind: "group", ...(frame["title"] === undefined ? {} : { title: frame["title"] }), members }
      }
    }
    default:
      return undefined
  }
}

const isContent = (event: LogEvent, frame: Fields, user: string): boolean => {
  const content = contentOf(frame, user)
  if (content !== undefined) return event.type === content.type && canonical(event.data) === canonical(content.data)
  const within = (named: unknown, asked: unknown): boolean =>
    ((named ?? []) as ReadonlyArray<string>).every((one) => ((asked ?? []) as ReadonlyArray<string>).includes(one))
  return (
    event.type === "members" &&
    within(event.data["added"], frame["add"]) &&
    within(event.data["removed"], frame["remove"])
  )
}

/** I1 (acks), I3, I5, I6 and I19: what was sent, what it was answered, and what the log holds of it. */
export const checkCommands = (history: History, timelines: ReadonlyMap<string, Timeline>, evidence: Evidence): void => {
  const commands = new Map<string, Command>()
  const groups = new Map<string, string>()
  for (const { conv, events } of timelines.values()) {
    if (events[0]?.type === "created") groups.set(cidKey(events[0].by, events[0].cid), conv)
  }
  let sessions = 0
  for (const client of history.clients) {
    client.sessions.forEach(({ entries }, index) => {
      const session = sessions++
      collect(client.user, session, entries, groups, commands)
      checkAnswered(entries, `${client.device}, connection ${index + 1}`, history.until, evidence)
    })
  }

  const firstSent = new Map<string, number>()
  for (const [key, { copies }] of commands) firstSent.set(key, Math.min(...copies.map((copy) => copy.at)))
  const bounds = makeBounds(timelines, commands, firstSent)
  for (const command of commands.values()) {
    const { cid, conv, copies, user } = command
    const where = `${user} ${cid}${conv === undefined ? "" : ` in ${conv}`}`
    const timeline = conv === undefined ? undefined : timelines.get(conv)
    const seq = timeline?.cids.get(cidKey(user, cid))
    const event = seq === undefined ? undefined : timeline!.events[seq - 1]
    const contents = new Set(copies.map((copy) => canonical({ ...copy.frame, rid: 0 })))
    for (const copy of copies) {
      for (const answer of copy.answers) {
        if (isPersisted(answer)) {
          const told = answer.frame
          const ok = event !== undefined && told["seq"] === event.seq && told["at"] === event.at
          evidence.expect(
            "I1",
            event !== undefined,
            where,
            () => `was acked by ${short(told)}, and the log does not have it`
          )
          if (event !== undefined) {
            evidence.expect(
              "I3",
              ok,
              where,
              () => `was acked by ${short(told)}, and the log has it at seq ${event.seq}, ${event.at}`
            )
          }
        }
      }
      // On a connection that sent but one content under this cid, its answers are about that content.
      const others = copies.filter(
        (other) =>
          other.session === copy.session &&
          canonical({ ...other.frame, rid: 0 }) !== canonical({ ...copy.frame, rid: 0 })
      )
      if (others.length > 0 || event === undefined) continue
      for (const { frame } of copy.answers) {
        if (isPersisted({ frame })) {
          evidence.expect(
            "I3",
            isContent(event, copy.frame, user),
            where,
            () => `was acked for ${short(copy.frame)}, but the log has ${JSON.stringify(event)}`
          )
        } else if (frame.t === "err" && frame["code"] === "conflict") {
          evidence.expect(
            "I3",
            !isContent(event, copy.frame, user),
            where,
            () => `conflicts with the event that came of it, ${JSON.stringify(event)}`
          )
        }
      }
    }
    if (event !== undefined) {
      evidence.expect(
        "I3",
        copies.some((copy) => isContent(event, copy.frame, user)),
        where,
        () => `the log has what nobody sent: ${JSON.stringify(event)}`
      )
    }
    checkRefusals(command, timeline, event, contents.size > 1, bounds, where, evidence)
  }
  checkOrder(commands, timelines, evidence)
}

/** Enters what a connection sent, with its answers. */
const collect = (
  user: string,
  session: number,
  entries: ReadonlyArray<Entry>,
  groups: ReadonlyMap<string, string>,
  commands: Map<string, Command>
): void => {
  const open = new Map<string, Array<{ at: number; frame: Fields }>>()
  let order = 0
  for (const entry of entries) {
    if (entry.dir === "sent" && COMMANDS.has(entry.frame.t)) {
      const { frame } = entry
      const cid = frame["cid"] as string
      const conv =
        frame.t === "create"
          ? groups.get(cidKey(user, cid))
          : typeof frame["conv"] === "string"
            ? frame["conv"]
            : `dm:${[user, frame["to"] as string].sort((a, b) => (a < b ? -1 : 1)).join(":")}`
      // Answers to an earlier copy and to this one cannot be told apart: both have them all.
      const about = typeof frame["rid"] === "string" ? `rid ${frame["rid"]}` : `cid ${cid}`
      const answers = open.get(about) ?? []
      open.set(about, answers)
      const key = `${conv ?? "?"} ${cidKey(user, cid)}`
      let command = commands.get(key)
      if (command === undefined) commands.set(key, (command = { user, conv, cid, copies: [] }))
      command.copies.push({ session, order: order++, at: entry.at, frame, answers })
    } else if (entry.dir === "received") {
      const { frame } = entry
      if (frame.t !== "ack" && frame.t !== "err" && frame.t !== "reply") continue
      const about = typeof frame["rid"] === "string" ? `rid ${frame["rid"]}` : `cid ${String(frame["cid"])}`
      open.get(about)?.push({ at: entry.at, frame })
    }
  }
}

/** I19: every command is answered within 30 s on a connection that lasts and reads for so long. */
const checkAnswered = (entries: ReadonlyArray<Entry>, where: string, until: number, evidence: Evidence): void => {
  entries.forEach((entry, index) => {
    if (entry.dir !== "sent" || !COMMANDS.has(entry.frame.t)) return
    const { frame } = entry
    const deadline = entry.at + ANSWER_WITHIN_MS
    let disturbed = deadline > until || isStalled(entries, index)
    for (let i = index + 1; i < entries.length && entries[i]!.at <= deadline; i++) {
      const later = entries[i]!
      if (later.dir === "closed" || later.dir === "stalled") disturbed = true
      if (later.dir !== "received") continue
      const { frame: answer } = later
      const about = typeof frame["rid"] === "string" ? answer["rid"] === frame["rid"] : answer["cid"] === frame["cid"]
      if (about && (answer.t === "ack" || answer.t === "err" || answer.t === "reply")) {
        evidence.expect("I19", true, where, () => "")
        return
      }
    }
    if (!disturbed) evidence.expect("I19", false, where, () => `no answer within 30 s to ${short(frame)}`)
  })
}

const isStalled = (entries: ReadonlyArray<Entry>, before: number): boolean => {
  for (let i = before; i >= 0; i--) {
    const { dir } = entries[i]!
    if (dir === "reading" || dir === "opened") return false
    if (dir === "stalled") return true
  }
  return false
}

/** Where a conversation's head can have been at a moment. */
interface Bounds {
  /** At least: what was acked to somebody before. */
  readonly lower: (conv: string, at: number) => number
  /** At most: the last of what had been sent by then. */
  readonly upper: (conv: string, at: number) => number
}

const makeBounds = (
  timelines: ReadonlyMap<string, Timeline>,
  commands: ReadonlyMap<string, Command>,
  firstSent: ReadonlyMap<string, number>
): Bounds => {
  const acked = new Map<string, Array<{ readonly at: number; readonly seq: number }>>()
  for (const { conv, copies } of commands.values()) {
    if (conv === undefined) continue
    for (const copy of copies) {
      for (const answer of copy.answers) {
        if (!isPersisted(answer)) continue
        const known = acked.get(conv) ?? []
        known.push({ at: answer.at, seq: answer.frame["seq"] as number })
        acked.set(conv, known)
      }
    }
  }
  return {
    lower: (conv, at) => {
      let lower = 0
      for (const one of acked.get(conv) ?? []) if (one.at < at && one.seq > lower) lower = one.seq
      return lower
    },
    upper: (conv, at) => {
      const events = timelines.get(conv)?.events ?? []
      let upper = 0
      for (const event of events) {
        const sent = firstSent.get(`${conv} ${cidKey(event.by, event.cid)}`)
        if (sent === undefined || sent <= at) upper = event.seq
      }
      return upper
    }
  }
}

/** I6: what was refused for good is not in the log, and was refused for a reason that the conversation gives. */
const checkRefusals = (
  { cid, conv, copies, user }: Command,
  timeline: Timeline | undefined,
  event: LogEvent | undefined,
  severalContents: boolean,
  bounds: Bounds,
  where: string,
  evidence: Evidence
): void => {
  for (const copy of copies) {
    for (const { at, frame } of copy.answers) {
      if (frame.t !== "err" || RETRYABLE.has(frame["code"])) continue
      const code = frame["code"] as string
      if (!severalContents && copies.length === 1) {
        evidence.expect(
          "I6",
          event === undefined,
          where,
          () => `was refused by ${short(frame)} and is in the log at seq ${event?.seq}`
        )
      }
      if (copy.answers.some(isPersisted) || conv === undefined) continue
      // Which of the copies on this connection it answers is not known: it may be any, and the first one's time counts. A loss may have taken the answers of
      // the others along.
      const mine = copies.filter((other) => other.session === copy.session)
      const sent = Math.min(...mine.map((other) => other.at))
      const from = bounds.lower(conv, sent)
      const to = bounds.upper(conv, at)
      let justified = code === "bad_request" || code === "too_large"
      for (let seq = from; seq <= to && !justified; seq++)
        justified = mine.some((one) => refusals(timeline, seq, one.frame, user, cid).has(code))
      evidence.expect(
        "I6",
        justified,
        where,
        () =>
          `${short(copy.frame)} was refused by ${short(frame)}, which nothing between seq ${from} and ${to} explains`
      )
    }
  }
}

/** The refusals that a command may meet when the conversation is at this seq. */
const refusals = (
  timeline: Timeline | undefined,
  seq: number,
  frame: Fields,
  user: string,
  cid: string
): ReadonlySet<string> => {
  const found = new Set<string>()
  const prior = timeline?.cids.get(cidKey(user, cid))
  if (prior !== undefined && prior <= seq && !isContent(timeline!.events[prior - 1]!, frame, user))
    found.add("conflict")
  if (frame.t === "create") {
    if (seq > 0) found.add("conflict")
    return found
  }
  const conv = typeof frame["conv"] === "string" ? frame["conv"] : undefined
  const members = timeline?.membersAt(seq)
  const isMember =
    members === undefined ? conv === undefined || conv.slice(3).split(":").includes(user) : members.has(user)
  if (!isMember) return found.add("not_found")
  const target = (frame["target"] ?? frame["replyTo"]) as number | undefined
  if (target !== undefined) {
    const aimed = target <= seq ? timeline?.events[target - 1] : undefined
    if (aimed?.type !== "message") found.add("not_found")
    else if (frame.t === "edit" && aimed.by !== user) found.add("forbidden")
    else if (frame.t === "delete" && aimed.by !== user && members?.get(user)?.admin !== true) found.add("forbidden")
  }
  const isDm = conv?.startsWith("dm:") === true
  if ((frame.t === "members" || frame.t === "leave" || frame.t === "title") && isDm) found.add("forbidden")
  if (frame.t === "members" && members?.get(user)?.admin !== true) {
    if (((frame["remove"] ?? []) as ReadonlyArray<string>).some((one) => one !== user)) found.add("forbidden")
  }
  return found
}

/** I5: what one connection sent keeps its order, and what was acked comes before what was sent afterwards. */
const checkOrder = (
  commands: ReadonlyMap<string, Command>,
  timelines: ReadonlyMap<string, Timeline>,
  evidence: Evidence
): void => {
  interface Placed {
    readonly command: Command
    readonly seq: number
    readonly sent: number
    readonly acked: number
  }
  const byConv = new Map<string, Array<Placed>>()
  for (const command of commands.values()) {
    const { cid, conv, copies, user } = command
    const seq = conv === undefined ? undefined : timelines.get(conv)?.cids.get(cidKey(user, cid))
    if (conv === undefined || seq === undefined) continue
    const acked = Math.min(...copies.flatMap((copy) => copy.answers.filter(isPersisted).map((answer) => answer.at)))
    const placed = byConv.get(conv) ?? []
    placed.push({ command, seq, sent: Math.min(...copies.map((copy) => copy.at)), acked })
    byConv.set(conv, placed)
  }
  for (const [conv, placed] of byConv) {
    placed.sort((a, b) => a.seq - b.seq)
    // In the order of the log, nothing may have been acked before something further on… was sent.
    let latest: Placed | undefined
    for (const one of placed) {
      const before = latest
      if (before !== undefined) {
        evidence.expect(
          "I5",
          one.acked >= before.sent,
          conv,
          () =>
            `${one.command.cid} (seq ${one.seq}) was acked before ${before.command.cid} (seq ${before.seq}) was sent`
        )
      }
      if (latest === undefined || one.sent > latest.sent) latest = one
    }
    const timeline = timelines.get(conv)!
    const byUser = Map.groupBy(placed, ({ command }) => command.user)
    for (const [user, own] of byUser) {
      // One who was out for a while may have been refused meanwhile, unheard, and taken when it was sent again.
      const always =
        !conv.startsWith("g:") || (timeline.additions(user)[0] === 1 && timeline.removals(user).length === 0)
      if (!always) continue
      own.forEach((first, index) => {
        for (const second of own.slice(index + 1, index + 1 + NEIGHBOURS)) {
          if (!second.command.copies.every(({ frame }) => frame.t === "send" && frame["replyTo"] === undefined))
            continue
          const turned = first.command.copies.every((copy) =>
            second.command.copies.some((other) => precedes(other, copy))
          )
          evidence.expect(
            "I5",
            !turned,
            conv,
            () =>
              `${second.command.cid} was sent before ${first.command.cid} on every connection, but has seq ${second.seq} after ${first.seq}`
          )
        }
      })
    }
  }
}

/** How many of a sender's later events each one is compared with. */
const NEIGHBOURS = 50

/** Whether a copy was sent on the same connection before another, and not refused there. */
const precedes = (first: Copy, second: Copy): boolean =>
  first.session === second.session &&
  first.order < second.order &&
  !first.answers.some(({ frame }) => frame.t === "err")
