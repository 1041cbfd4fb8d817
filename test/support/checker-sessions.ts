import type { ClientHistory, Entry, Fields, History } from "./checker.ts"
import { addsUser, canonical, type Evidence, removesUser, short, type Timeline } from "./checker-timeline.ts"

/** How long a device may take to the head when nothing disturbs, and how long one who was removed may still read. */
export const WITHIN_MS = 5_000

/** What one connection was given of one conversation. */
interface Given {
  /** The last seq; undefined when it cannot be known. */
  last: number | undefined
  /** The user was not a member there, so the next event may be any that takes them in. */
  outside: boolean
  /** Nothing was given since the connection was opened. */
  untouched: boolean
  /** The removal was told. */
  told: boolean
  /** When the last one was given. */
  at: number
}

/** I1 (bytes), I10, I11, I12 and I17: what every connection was given, in the order in which it was. */
export const checkSessions = (history: History, timelines: ReadonlyMap<string, Timeline>, evidence: Evidence): void => {
  const firstSent = sendTimes(history)
  const byUser = new Map<string, Array<Timeline>>()
  for (const timeline of timelines.values()) {
    for (const user of timeline.everyone) {
      const known = byUser.get(user)
      if (known === undefined) byUser.set(user, [timeline])
      else known.push(timeline)
    }
  }
  for (const client of history.clients) {
    const own = byUser.get(client.user) ?? []
    client.sessions.forEach(({ entries }, index) => {
      new SessionCheck(history, timelines, own, evidence, firstSent, client, index).run(entries)
    })
  }
}

/** When a sender's cid was first sent, by anyone's clock the same. */
const sendTimes = (history: History): ReadonlyMap<string, number> => {
  const times = new Map<string, number>()
  for (const { sessions, user } of history.clients) {
    for (const { entries } of sessions) {
      for (const entry of entries) {
        if (entry.dir !== "sent" || typeof entry.frame["cid"] !== "string") continue
        const key = `${user} ${entry.frame["cid"]}`
        if (!times.has(key) || times.get(key)! > entry.at) times.set(key, entry.at)
      }
    }
  }
  return times
}

class SessionCheck {
  readonly #history: History
  readonly #timelines: ReadonlyMap<string, Timeline>
  /** Of the conversations that the user ever was a member of. */
  readonly #own: ReadonlyArray<Timeline>
  readonly #evidence: Evidence
  readonly #firstSent: ReadonlyMap<string, number>
  readonly #user: string
  readonly #where: string
  readonly #given = new Map<string, Given>()
  readonly #requests = new Map<string, Fields>()
  #resume: { readonly cursor: string; readonly seqs: Readonly<Record<string, number>> } | undefined
  /** What the cursor stands for from which this connection goes on; undefined when that cannot be known. */
  #base: Readonly<Record<string, number>> | undefined
  #recovered = true
  #welcomedAt: number | undefined
  #closed = false
  #stalled = false

  constructor(
    history: History,
    timelines: ReadonlyMap<string, Timeline>,
    own: ReadonlyArray<Timeline>,
    evidence: Evidence,
    firstSent: ReadonlyMap<string, number>,
    client: ClientHistory,
    index: number
  ) {
    this.#history = history
    this.#timelines = timelines
    this.#own = own
    this.#evidence = evidence
    this.#firstSent = firstSent
    this.#user = client.user
    this.#where = `${client.user}/${client.device}, connection ${index + 1}`
  }

  run(entries: ReadonlyArray<Entry>): void {
    for (const entry of entries) {
      if (entry.dir === "closed") this.#closed = true
      else if (entry.dir === "stalled") this.#stalled = true
      else if (entry.dir === "reading") this.#stalled = false
      else if (entry.dir === "sent") this.#sent(entry.frame)
      else if (entry.dir === "received") this.#received(entry.at, entry.frame)
    }
    if (!this.#closed && !this.#stalled && this.#history.quietFrom !== undefined)
      this.#atTheEnd(this.#history.quietFrom)
  }

  #sent(frame: Fields): void {
    if (typeof frame["rid"] === "string") this.#requests.set(frame["rid"], frame)
    if (frame.t !== "hello") return
    const resume = frame["resume"] as
      | { readonly cursor: string; readonly seqs?: Readonly<Record<string, number>> }
      | undefined
    if (resume !== undefined) this.#resume = { cursor: resume.cursor, seqs: resume.seqs ?? {} }
  }

  #received(at: number, frame: Fields): void {
    switch (frame.t) {
      case "welcome": {
        this.#welcomedAt = at
        this.#recovered = this.#resume === undefined || frame["recovered"] === true
        const known = this.#resume !== undefined && this.#history.cursors?.[this.#resume.cursor] !== undefined
        this.#expect(
          "I12",
          this.#resume === undefined || this.#recovered === known || this.#history.cursors === undefined,
          () => `the cursor is ${known ? "" : "not "}of this log, and recovered is ${String(frame["recovered"])}`
        )
        const cursor = this.#resume === undefined ? (frame["cursor"] as string) : this.#resume.cursor
        this.#base = this.#recovered ? this.#history.cursors?.[cursor] : undefined
        return
      }
      case "cursor":
        return this.#cursor(frame["cursor"] as string)
      case "event": {
        const { t: _, conv, ...event } = frame
        const known = this.#timelines.get(conv as string)?.events[(frame["seq"] as number) - 1]
        this.#expect(
          "I1",
          known !== undefined && canonical(known) === canonical(event),
          () =>
            `was given ${short(frame)}, and the log has ${known === undefined ? "nothing there" : JSON.stringify(known)}`
        )
        return this.#event(at, frame)
      }
      case "ack":
        if (frame["state"] === "persisted" && frame["dup"] !== true) this.#event(at, frame)
        return
      case "reply":
        if (this.#isCommand(frame) && frame["dup"] !== true) this.#event(at, frame)
        return
      case "reset": {
        const given = this.#of(frame["conv"] as string)
        const head = frame["head"] as number
        this.#expect(
          "I12",
          given.last === undefined || head >= given.last || given.untouched,
          () => `${short(frame)} goes back behind ${given.last}`
        )
        this.#given.set(frame["conv"] as string, { last: head, outside: false, untouched: false, told: false, at })
        return
      }
      case "gone": {
        const conv = frame["conv"] as string
        const given = this.#of(conv)
        given.outside = true
        given.told = true
        const timeline = this.#timelines.get(conv)
        const out =
          timeline === undefined ||
          !timeline.isMember(this.#user, timeline.head) ||
          timeline.removals(this.#user).length > 0
        this.#expect("I17", out, () => `was told to be gone from ${conv}, and was never removed`)
        return
      }
      case "receipt":
        return this.#receipt(frame)
      case "err":
        this.#expect("I6", frame["code"] !== "internal", () => `the server failed: ${short(frame)}`)
        return
    }
  }

  #isCommand(frame: Fields): boolean {
    const asked = this.#requests.get(frame["rid"] as string)
    return asked !== undefined && ["create", "members", "leave", "title"].includes(asked.t)
  }

  #of(conv: string): Given {
    let given = this.#given.get(conv)
    if (given === undefined) {
      const timeline = this.#timelines.get(conv)
      let last = this.#base === undefined ? undefined : (this.#base[conv] ?? 0)
      const outside = last !== undefined && timeline !== undefined && !timeline.isMember(this.#user, last)
      const said = this.#resume?.seqs[conv]
      if (this.#recovered && said !== undefined && last !== undefined && said < last) last = said
      given = { last, outside, untouched: true, told: false, at: this.#welcomedAt ?? 0 }
      this.#given.set(conv, given)
    }
    return given
  }

  /** An event, or the answer that stands for it. */
  #event(at: number, frame: Fields): void {
    const conv = frame["conv"] as string
    const seq = frame["seq"] as number
    const timeline = this.#timelines.get(conv)
    const event = timeline?.events[seq - 1]
    if (timeline === undefined || event === undefined) return
    const given = this.#of(conv)
    const follows = given.last !== undefined && seq === given.last + 1
    const takesIn = addsUser(event, this.#user) && (given.last === undefined || seq > given.last)
    if (given.last === undefined) {
      // Nothing is known of where this connection began: not before what was sent after its welcome, at least.
      const missed = this.#recovered ? this.#sentSince(timeline, seq) : seq > 1
      this.#expect("I10", !missed || takesIn, () => `${short(frame)} is the first of ${conv}, and there was one before`)
    } else if (!follows && !(given.outside && takesIn)) {
      const invariant = given.untouched && this.#resume !== undefined && seq > given.last ? "I12" : "I10"
      this.#expect(invariant, false, () => `${short(frame)} came after seq ${given.last}`)
    } else {
      this.#expect("I10", true, () => "")
      if (given.untouched && this.#resume !== undefined) this.#expect("I12", true, () => "")
    }
    this.#allowed(at, timeline, seq)
    const out = removesUser(event, this.#user)
    const last = Math.max(seq, given.last ?? 0)
    this.#given.set(conv, {
      last,
      outside: out || (given.outside && !takesIn && !follows),
      untouched: false,
      told: out,
      at
    })
  }

  /** Whether something before `seq` was sent for the first time after this connection was welcomed. */
  #sentSince(timeline: Timeline, seq: number): boolean {
    return timeline.events
      .slice(0, seq - 1)
      .some((event) => (this.#firstSent.get(`${event.by} ${event.cid}`) ?? 0) > this.#welcomedAt!)
  }

  /** I17: nothing that was appended after the user's removal, unless they were taken in again since. */
  #allowed(at: number, timeline: Timeline, seq: number): void {
    const removal = timeline
      .removals(this.#user)
      .filter((one) => one < seq)
      .at(-1)
    if (removal === undefined) return
    if (timeline.isMember(this.#user, seq) || timeline.isMember(this.#user, seq - 1))
      return this.#expect("I17", true, () => "")
    const back = timeline.additions(this.#user).find((one) => one > seq)
    const event = back === undefined ? undefined : timeline.events[back - 1]!
    const since = event === undefined ? Infinity : (this.#firstSent.get(`${event.by} ${event.cid}`) ?? 0)
    this.#expect("I17", since <= at, () => `was given seq ${seq} of ${timeline.conv} after being removed at ${removal}`)
  }

  /** I12: a cursor says that everything up to it was given here. */
  #cursor(cursor: string): void {
    const heads = this.#history.cursors?.[cursor]
    if (heads === undefined) return
    for (const timeline of this.#own) {
      const { conv } = timeline
      const head = heads[conv]
      if (head === undefined || !timeline.isMember(this.#user, head)) continue
      const given = this.#of(conv)
      // Who was told to be gone is owed nothing more, whatever came before.
      if (given.told) continue
      this.#expect(
        "I12",
        given.last !== undefined && given.last >= head,
        () => `a cursor covers seq ${head} of ${conv}, and ${given.last ?? "nothing"} was given`
      )
    }
  }

  #receipt(frame: Fields): void {
    const timeline = this.#timelines.get(frame["conv"] as string)
    const head = timeline?.head ?? 0
    const seen = (frame["seen"] ?? 0) as number
    const delivered = (frame["delivered"] ?? 0) as number
    this.#expect("I13", seen <= head && delivered <= head, () => `${short(frame)} is past the head, ${head}`)
  }

  /** I11: who is connected when nothing disturbs any more is at the head soon. */
  #atTheEnd(quietFrom: number): void {
    if (this.#welcomedAt === undefined) return
    for (const timeline of this.#own) {
      const { conv, head } = timeline
      const deadline = Math.max(quietFrom, this.#welcomedAt) + WITHIN_MS
      if (deadline > this.#history.until) continue
      const given = this.#of(conv)
      if (timeline.isMember(this.#user, head)) {
        const unknown = given.last === undefined && !this.#sentSince(timeline, head + 1)
        if (unknown) continue
        this.#expect(
          "I11",
          given.last === head && given.at <= deadline,
          () =>
            `${conv} is at seq ${head}, and ${given.last ?? "nothing"} was given${given.last === head ? ", too late" : ""}`
        )
      } else if (
        given.last !== undefined &&
        timeline.isMember(this.#user, given.last) &&
        timeline.removals(this.#user).length > 0
      ) {
        this.#expect("I17", given.told, () => `was removed from ${conv} after seq ${given.last} and never told`)
      }
    }
  }

  #expect(invariant: string, holds: boolean, message: () => string): void {
    this.#evidence.expect(invariant, holds, this.#where, message)
  }
}
