/** People who talk while a test breaks something, and the judgement of everything that they saw. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { groupConversation } from "../../src/domain/groupId.ts"
import { darda } from "../cli/darda.ts"
import { check, type Fields, type History, type Verdict } from "./checker.ts"
import { WITHIN_MS } from "./checker-sessions.ts"
import { Evidence } from "./checker-timeline.ts"
import type { Cluster } from "./cluster.ts"
import { Crowd, type CrowdOptions } from "./fault-crowd.ts"
import { cursorsOf, judgeLog, membersOf, readWholeLog, type WholeLog, type WithLog } from "./fault-log.ts"
import { until } from "./fault-tools.ts"
import { RealDevice } from "./real-device.ts"
import { devToken } from "./ws.ts"

/** Who talks: the first two have two devices, and the first one is the admin of the groups. */
const USERS = ["ann", "bob", "cid", "dan", "eve", "fay", "gus"]
/** More members of the largest group, who are never there: above the size at which lists of conversations are merged at read. */
const CROWD = Array.from({ length: 200 }, (_, i) => `ghost-${i}`)
const TICK_MS = 10
/** What a tick that is later than this would have said is not made up for. */
const LATE_MS = 200
/** Commands of one device without an answer; it says nothing more until some are answered. */
const UNANSWERED = 40
const UNASKED = 3
const CHURN_MS = 1_200
const EMOJIS = ["👍", "🎉"]

export interface LoadOptions {
  /** Commands a second of all together, 120 unless given. */
  readonly rate?: number
  /** Many more people, who only talk. */
  readonly crowd?: CrowdOptions
}

/** Of what is said, what the crowd says. */
const CROWD_SHARE = 0.7
/** Devices that are asked everything in the end. */
const ASKED = 100
const MEET_MS = 60_000

/** How often an invariant must have been judged, or more, for a test to say anything. */
export type Floors = Readonly<Record<string, number>>

const FLOORS: Floors = {
  I1: 300,
  I3: 200,
  I4: 150,
  I5: 150,
  I7: 100,
  I8: 100,
  I9: 1,
  I10: 200,
  I11: 30,
  I12: 5,
  I13: 20,
  I14: 50,
  I17: 1,
  I19: 100
}

export interface SettleOptions {
  /** How long the system may take, from the end of the fault, until everybody is connected and answered; 20 s unless given. */
  readonly recoverMs?: number
  /** Other floors than the usual ones. */
  readonly judged?: Floors
  /** What cannot hold after this fault, and is not looked at. */
  readonly except?: ReadonlyArray<string>
}

export interface Settled {
  readonly verdict: Verdict
  readonly log: WholeLog
  /** From the end of the load until everybody was connected and answered. */
  readonly recoveredMs: number
}

const pick = <A>(items: ReadonlyArray<A>): A => items[Math.floor(Math.random() * items.length)]!
const chance = (share: number): boolean => Math.random() < share

/** Users of one cluster, spread over its edges, who send, edit, react, mark, ask, come and go until they are told to stop. */
export class FaultLoad {
  readonly devices: ReadonlyArray<RealDevice>
  readonly #cluster: Cluster
  readonly #log: WithLog
  readonly #name: string
  readonly #rate: number
  /** Those who act in every way. */
  readonly #people: ReadonlyArray<RealDevice>
  readonly #crowd: Crowd | undefined
  #groups: ReadonlyArray<string> = []
  #churned = ""
  #lastChurn = 0
  #owed = 0
  #owedAt = 0
  #sent = 0
  #timer: NodeJS.Timeout | undefined

  private constructor(
    cluster: Cluster,
    log: WithLog,
    name: string,
    rate: number,
    people: ReadonlyArray<RealDevice>,
    crowd: Crowd | undefined
  ) {
    this.#cluster = cluster
    this.#log = log
    this.#name = name
    this.#rate = rate
    this.#people = people
    this.#crowd = crowd
    this.devices = [...people, ...(crowd?.devices ?? [])]
  }

  /** Connects everybody, makes the groups, and begins to talk. `name`: under which a history that was found wrong is kept. */
  static async start(name: string, cluster: Cluster, log: WithLog, options: LoadOptions = {}): Promise<FaultLoad> {
    const urls = cluster.edges.map(({ url }) => `${url.replace(/^http/, "ws")}/v1/ws`)
    const people: Array<RealDevice> = []
    for (const [index, user] of USERS.entries()) {
      const token = await devToken(cluster.edges[0]!.url, user)
      for (const device of index < 2 ? ["phone", "laptop"] : ["phone"])
        people.push(new RealDevice(urls, user, `${user}-${device}`, token, people.length))
    }
    const crowd = options.crowd === undefined ? undefined : await Crowd.make(cluster.edges[0]!.url, urls, options.crowd)
    const load = new FaultLoad(cluster, log, name, options.rate ?? 120, people, crowd)
    load.devices.forEach((device) => device.connect())
    await load.#meet()
    load.go()
    return load
  }

  async #meet(): Promise<void> {
    await this.until("everybody is welcomed", MEET_MS, () => this.devices.every((device) => device.welcomed))
    const [admin] = this.#people as [RealDevice]
    const groups = [["ann", "bob", "cid"], ["ann", "dan", "eve"], USERS, [...USERS, ...CROWD]]
    const cids = admin.commands(groups.map((members, index) => ({ t: "create", rid: `group ${index}`, members })))
    this.#groups = cids.map((cid) => groupConversation(admin.user, cid))
    this.#churned = this.#groups[2]!
    await this.until("everybody knows their groups", 30_000, () =>
      this.#people.every(({ have, user }) => have.size === groups.filter((members) => members.includes(user)).length)
    )
    this.#crowd?.gather()
    await this.until("all of the crowd know their groups", MEET_MS, () => this.#crowd?.isGathered !== false)
  }

  /** Begins to talk, or goes on. */
  go(): void {
    this.#owedAt = performance.now()
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
  }

  /** Says nothing more; what was said is still sent until it is answered. */
  hush(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Commands whose fate is known. */
  get answered(): number {
    return this.#sent - this.devices.reduce((sum, { pending }) => sum + pending.length, 0)
  }

  /** Waits until this many more commands are answered: that the system works, and a moment that nobody chose. */
  async progress(commands: number, ms = 30_000): Promise<void> {
    const from = this.answered
    await this.until(`${commands} more commands are answered`, ms, () => this.answered >= from + commands)
  }

  /** Waits for a fact, and says what all processes wrote when it does not come. */
  async until(what: string, ms: number, holds: () => boolean | Promise<boolean>): Promise<void> {
    await until(what, ms, holds, () => `${this.#state()}\n${this.#cluster.output().slice(-6_000)}`)
  }

  /** A small group of the first device's user. */
  get trio(): string {
    return this.#groups[0]!
  }

  /** Whether everybody is connected and knows the fate of all that they sent. */
  get isAnswered(): boolean {
    return this.devices.every((device) => device.welcomed && device.pending.length === 0)
  }

  /** Says nothing more, and waits until nothing is under way: everybody is answered, and all of it is told. */
  async quiet(): Promise<void> {
    this.hush()
    await this.until("everybody is answered", 20_000, () => this.isAnswered)
    await this.until("the outbox is empty", 10_000, () => this.outboxIs((count) => count === 0))
  }

  /** Whether this many commits, 10 at most, are in the outbox. */
  outboxIs(fits: (count: number) => boolean): Promise<boolean> {
    return this.#log((log) =>
      Effect.map(log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: 10 }), (entries) => fits(entries.length))
    )
  }

  /** How many objects like this all devices were given from one moment to another. */
  heard(from: number, to: number, fits: (frame: Fields) => boolean): number {
    let count = 0
    for (const { sessions } of this.devices) {
      for (const { entries } of sessions)
        for (const one of entries)
          if (one.dir === "received" && one.at >= from && one.at <= to && fits(one.frame)) count++
    }
    return count
  }

  /** Replies to queries of this kind that anybody has had. */
  repliesTo(t: string): number {
    let count = 0
    for (const { sessions } of this.devices) {
      for (const { entries } of sessions) {
        const asked = new Set<unknown>()
        for (const entry of entries) {
          if (entry.dir === "sent" && entry.frame.t === t) asked.add(entry.frame["rid"])
          if (entry.dir === "received" && entry.frame.t === "reply" && asked.has(entry.frame["rid"])) count++
        }
      }
    }
    return count
  }

  /** Says something in the group that everyone is in, and waits until each device has it: nobody is cut off. Meanwhile the others go on. */
  async everybodyHears(ms: number): Promise<void> {
    const [group] = this.#groups.slice(-1) as [string]
    const [speaker] = this.devices as [RealDevice]
    const [cid] = speaker.commands([{ t: "send", conv: group, body: "does everybody hear me?" }]) as [string]
    this.#sent++
    let seq = 0
    await this.until("everybody hears what is said now", ms, async () => {
      if (seq === 0 && !speaker.pending.some(({ frame }) => frame["cid"] === cid)) {
        const found = await this.#log((log) =>
          log.prepare({
            conversations: [],
            cids: [{ conv: group, by: speaker.user, cid }],
            targets: [],
            openers: [],
            openedSince: 0
          })
        )
        seq = found.priors[0]!.seq
      }
      return seq > 0 && this.devices.every((device) => (device.have.get(group) ?? 0) >= seq)
    })
  }

  /** Waits until something new is committed in every partition. */
  async everyPartitionMoves(ms: number): Promise<void> {
    const heads = (): Promise<ReadonlyArray<number>> => this.#log((log) => log.heads)
    const from = await heads()
    await this.until("every partition commits", ms, async () => (await heads()).every((head, i) => head > from[i]!))
  }

  #state(): string {
    return this.devices
      .filter(({ pending, welcomed }, index) => index < this.#people.length || !welcomed || pending.length > 0)
      .slice(0, ASKED)
      .map(
        ({ device, pending, server, welcomed }) =>
          `${device}: ${welcomed ? "on" : "not on"} edge ${server}, ${pending.length} commands without an answer`
      )
      .join("\n")
  }

  #tick(): void {
    // Ticks are late, and fewer, when there is much to do.
    const now = performance.now()
    this.#owed += (Math.min(now - this.#owedAt, LATE_MS) * this.#rate) / 1000
    this.#owedAt = now
    for (; this.#owed >= 1; this.#owed--) {
      if (this.#crowd !== undefined && chance(CROWD_SHARE)) {
        this.#talk(this.#crowd)
        continue
      }
      const device = pick(this.#people)
      if (device.pending.length < UNANSWERED) this.#act(device)
    }
    this.#churn()
  }

  #talk(crowd: Crowd): void {
    const { conv, device } = crowd.speaker()
    if (device.pending.length >= UNANSWERED) return
    device.command({ t: "send", conv, body: `message ${++this.#sent} of ${device.device}` })
    this.#mark(device, conv)
  }

  #act(device: RealDevice): void {
    const known = [...device.have.keys()]
    const conv =
      chance(0.5) && known.length > 0 ? pick(known) : pick(this.#groups.filter((group) => device.have.has(group)))
    const roll = Math.random()
    if (roll < 0.72 || conv === undefined) return this.#send(device, conv)
    if (roll < 0.82) return this.#amend(device, conv)
    if (roll < 0.92) return this.#mark(device, conv)
    return this.#ask(device, conv)
  }

  #send(device: RealDevice, conv: string | undefined): void {
    const body = `message ${++this.#sent} of ${device.device}`
    if (chance(0.4) || conv === undefined) return device.command({ t: "send", to: pick(USERS), body })
    const target = chance(0.1) ? device.messages.get(conv)?.at(-1) : undefined
    device.command({ t: "send", conv, body, ...(target === undefined ? {} : { replyTo: target }) })
  }

  #amend(device: RealDevice, conv: string): void {
    const own = device.own.get(conv)
    const all = device.messages.get(conv)
    if (all === undefined) return
    this.#sent++
    if (own !== undefined && chance(0.5)) {
      const target = pick(own)
      return device.command(
        chance(0.8) ? { t: "edit", conv, target, body: `edit ${this.#sent}` } : { t: "delete", conv, target }
      )
    }
    device.command({ t: "react", conv, target: pick(all), emoji: pick(EMOJIS), on: chance(0.8) })
  }

  #mark(device: RealDevice, conv: string): void {
    const seq = device.have.get(conv)
    if (seq !== undefined && seq > 0) device.say({ t: "mark", conv, [chance(0.7) ? "seen" : "delivered"]: seq })
  }

  #ask(device: RealDevice, conv: string): void {
    if (device.asked.size >= UNASKED) return
    const seq = device.have.get(conv) ?? 0
    device.ask(
      pick<Fields>([
        { t: "convs" },
        { t: "history", conv, limit: 30 },
        { t: "history", conv, before: seq + 1, limit: 10 },
        { t: "sync", conv, after: Math.max(0, seq - 10) },
        { t: "roster", conv }
      ])
    )
  }

  /** Takes people out of one group, and in again, one at a time. */
  #churn(): void {
    const [admin] = this.devices as [RealDevice]
    const now = Date.now()
    if (now < this.#lastChurn + CHURN_MS || admin.pending.some(({ frame }) => frame.t === "members")) return
    this.#lastChurn = now
    const others = this.#people.filter(({ user }) => user !== admin.user)
    const out = others.filter(({ out: left }) => left.has(this.#churned))
    this.#sent++
    const change = out.length > 0 && chance(0.6) ? { add: [pick(out).user] } : { remove: [pick(others).user] }
    admin.command({ t: "members", rid: `churn ${this.#sent}`, conv: this.#churned, ...change })
  }

  /**
   * Ends the load, waits until everybody is answered and has everything, asks all that can be asked, reads the log, and judges. Faults must have ended.
   */
  async settle({ except = [], judged = {}, recoverMs = 20_000 }: SettleOptions = {}): Promise<Settled> {
    this.hush()
    const began = Date.now()
    await this.until("everybody is connected and answered", recoverMs, () => this.isAnswered)
    const quietFrom = Date.now()
    const recoveredMs = quietFrom - began
    const heads = await this.#log(readWholeLog)
    await this.until("everybody is at the head", WITHIN_MS, () => this.#behind(heads) === undefined).catch((cause) => {
      throw new Error(`${this.#behind(heads)}`, { cause })
    })
    await this.#askEverything()
    await this.until("the outbox is empty", 10_000, () => this.outboxIs((count) => count === 0))
    await this.#verify()
    const evidence = new Evidence()
    const log = await this.#log((one) => Effect.tap(readWholeLog(one), (whole) => judgeLog(one, whole, evidence)))
    const clients = this.devices.map(({ history }) => history)
    const history: History = {
      clients,
      log: log.timelines,
      cursors: cursorsOf(log, clients),
      quietFrom,
      until: Math.max(Date.now(), quietFrom + WITHIN_MS)
    }
    const seen = check(history)
    const counts: Record<string, number> = { ...seen.judged }
    for (const [invariant, count] of evidence.judged) counts[invariant] = (counts[invariant] ?? 0) + count
    const violations = [...evidence.violations, ...seen.violations].filter(
      ({ invariant }) => !except.includes(invariant)
    )
    const verdict: Verdict = { violations, judged: counts }
    if (violations.length > 0) this.#keep(history)
    assert.deepStrictEqual(violations.slice(0, 5), [], this.#state())
    for (const [invariant, floor] of Object.entries({ ...FLOORS, ...judged }))
      assert.isAtLeast(counts[invariant] ?? 0, floor, `${invariant} was judged: ${JSON.stringify(counts)}`)
    return { verdict, log, recoveredMs }
  }

  /** I15: what is read is what the log makes, byte for byte. */
  async #verify(): Promise<void> {
    const { code, stderr, stdout } = await darda(["verify"], this.#cluster.env).ended
    assert.strictEqual(code, 0, `darda verify: ${stdout}${stderr}`)
  }

  /** Whoever does not have all that the log held for them. */
  #behind(log: WholeLog): string | undefined {
    for (const [conv, events] of Object.entries(log.timelines)) {
      const members = membersOf(log, conv)
      for (const device of this.devices) {
        const have = device.have.get(conv) ?? 0
        if (members.has(device.user) && have < events.length)
          return `${device.device} has ${have} of ${events.length} in ${conv}`
        if (!members.has(device.user) && have > 0) return `${device.device} does not know that it is out of ${conv}`
      }
    }
    return undefined
  }

  /** What a person would look at afterwards; those who were taken out of a group try it there too. */
  async #askEverything(): Promise<void> {
    for (const device of this.devices.slice(0, ASKED)) {
      device.ask({ t: "convs", limit: 200 })
      for (const conv of [...device.have.keys(), ...device.out]) {
        const seq = device.have.get(conv) ?? 0
        device.ask({ t: "history", conv, limit: 200 })
        device.ask({ t: "sync", conv, after: Math.max(0, seq - 150) })
        device.ask({ t: "roster", conv })
      }
      await this.until(`all questions of ${device.device} are answered`, 10_000, () => device.asked.size === 0)
    }
  }

  /** Writes a history that was found wrong where it can be looked at. */
  #keep(history: History): void {
    mkdirSync("artifacts/faults", { recursive: true })
    writeFileSync(`artifacts/faults/${this.#name}.json`, JSON.stringify(history))
    writeFileSync(`artifacts/faults/${this.#name}.log`, this.#cluster.output())
  }

  end(): void {
    this.hush()
    this.devices.forEach((device) => device.end())
  }
}
