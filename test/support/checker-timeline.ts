import type { Fields, LogEvent, Violation } from "./checker.ts"

/** Violations found so far, and how many facts were looked at. */
export class Evidence {
  readonly violations: Array<Violation> = []
  readonly judged = new Map<string, number>()

  /** Judges one fact; `message` is only made when it does not hold. */
  expect(invariant: string, holds: boolean, where: string, message: () => string): boolean {
    this.judged.set(invariant, (this.judged.get(invariant) ?? 0) + 1)
    if (!holds) this.violations.push({ invariant, where, message: message() })
    return holds
  }
}

/** Members after an event. */
export interface Membership {
  /** The event from which on this holds. */
  readonly seq: number
  readonly members: ReadonlyMap<string, { readonly admin: boolean; readonly since: number }>
}

/** One conversation of the log, folded in what is needed to judge others. Independent of the code that is judged. */
export interface Timeline {
  readonly conv: string
  readonly events: ReadonlyArray<LogEvent>
  readonly head: number
  /** Seq by sender and cid. */
  readonly cids: ReadonlyMap<string, number>
  readonly memberships: ReadonlyArray<Membership>
  /** Everybody who ever was a member. */
  readonly everyone: ReadonlySet<string>
  readonly membersAt: (seq: number) => Membership["members"]
  readonly isMember: (user: string, seq: number) => boolean
  /** Seqs at which this user was taken out, and in. */
  readonly removals: (user: string) => ReadonlyArray<number>
  readonly additions: (user: string) => ReadonlyArray<number>
}

export const cidKey = (by: string, cid: string): string => `${by} ${cid}`

const list = (value: unknown): ReadonlyArray<string> => (Array.isArray(value) ? (value as ReadonlyArray<string>) : [])

/** Whether an event takes this user in, or out. */
export const addsUser = (event: LogEvent, user: string): boolean =>
  event.type === "created"
    ? list(event.data["members"]).includes(user)
    : event.type === "members" && list(event.data["added"]).includes(user)
export const removesUser = (event: LogEvent, user: string): boolean =>
  event.type === "members" && list(event.data["removed"]).includes(user)

/** Folds a conversation, and judges its numbering. */
export const makeTimeline = (conv: string, events: ReadonlyArray<LogEvent>, evidence: Evidence): Timeline => {
  const cids = new Map<string, number>()
  events.forEach((event, index) => {
    evidence.expect("I4", event.seq === index + 1, conv, () => `event ${index + 1} of the log has the seq ${event.seq}`)
    const key = cidKey(event.by, event.cid)
    const known = cids.get(key)
    evidence.expect(
      "I3",
      known === undefined,
      conv,
      () => `the cid ${event.cid} of ${event.by} is at seq ${known} and at ${event.seq}`
    )
    if (known === undefined) cids.set(key, event.seq)
    const before = events[index - 1]
    evidence.expect(
      "I4",
      before === undefined || before.at <= event.at,
      conv,
      () => `the time falls at seq ${event.seq}`
    )
  })

  const pair = conv.startsWith("dm:") ? conv.slice(3).split(":") : []
  const memberships: Array<Membership> = [
    { seq: 0, members: new Map(pair.map((user) => [user, { admin: false, since: 0 }])) }
  ]
  for (const event of events) {
    const members = new Map(memberships[memberships.length - 1]!.members)
    if (event.type === "created") {
      for (const user of list(event.data["members"])) members.set(user, { admin: user === event.by, since: event.at })
    } else if (event.type === "members") {
      for (const user of list(event.data["added"]))
        if (!members.has(user)) members.set(user, { admin: false, since: event.at })
      const anAdminLeft = list(event.data["removed"]).filter((user) => members.get(user)?.admin === true).length > 0
      for (const user of list(event.data["removed"])) members.delete(user)
      if (anAdminLeft && ![...members.values()].some((member) => member.admin)) {
        const [heir] = [...members].sort(([a, one], [b, other]) => one.since - other.since || (a < b ? -1 : 1))
        if (heir !== undefined) members.set(heir[0], { ...heir[1], admin: true })
      }
    } else continue
    memberships.push({ seq: event.seq, members })
  }
  const membersAt = (seq: number): Membership["members"] => {
    let at = memberships.length - 1
    while (at > 0 && memberships[at]!.seq > seq) at--
    return memberships[at]!.members
  }
  return {
    conv,
    events,
    head: events.length,
    cids,
    memberships,
    everyone: new Set(memberships.flatMap(({ members }) => [...members.keys()])),
    membersAt,
    isMember: (user, seq) => membersAt(seq).has(user),
    removals: (user) => events.filter((event) => removesUser(event, user)).map((event) => event.seq),
    additions: (user) => events.filter((event) => addsUser(event, user)).map((event) => event.seq)
  }
}

/** JSON with sorted keys: equal values have equal texts. */
export const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner
  )

/** A frame in one line, without what is only long. */
export const short = (frame: Fields): string => {
  const text = JSON.stringify(frame)
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
