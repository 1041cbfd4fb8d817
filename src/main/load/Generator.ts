/**
 * Sends messages over many connections of the client and measures what comes of them.
 *
 * With a rate, a message's latency counts from when it should have gone out: a server that stalls also delays what would have been sent
 * meanwhile, and leaving that out would flatter it.
 */
import { randomBytes } from "node:crypto"
import { Connection } from "../../client/connection.ts"
import { dmConversation } from "../../domain/ids.ts"
import type { ServerFrame } from "../../domain/protocol/server-frames.ts"
import { Histogram } from "./Histogram.ts"
import { conversationsOf } from "./plan.ts"
import { loadEnvironment } from "./sockets.ts"
import type { LoadUser } from "./tokens.ts"

/** Connections that are being opened at a time. */
const OPENING = 200
const OPEN_TIMEOUT_MS = 30_000
/** Send times that are remembered; more messages than this cannot be under way. */
const REMEMBERED = 2 ** 20

/** What to send. */
export interface LoadPlan {
  readonly url: string
  readonly users: ReadonlyArray<LoadUser>
  readonly conversations: number
  readonly groupSize: number
  /** Messages a second; undefined for as many as the windows let through. */
  readonly rate: number | undefined
  /** Sends of a connection that are not answered yet, at most (and never more than the server allows). */
  readonly window: number
  readonly seconds: number
  /** How long what is still under way is waited for at the end, in seconds. */
  readonly settleSeconds: number
  readonly bodyChars: number
}

/** Counts so far. */
export interface LoadCounts {
  sent: number
  persisted: number
  delivered: number
  readonly errors: Record<string, number>
  /** Connections that broke after they were open. */
  lost: number
}

/** What a run has found. */
export interface LoadResult extends LoadCounts {
  /** From the first send to the last answer, in seconds. */
  readonly seconds: number
  /** Messages a second that were persisted and delivered while sending lasted. */
  readonly persistedPerSecond: number
  readonly deliveredPerSecond: number
  /** Sent and neither persisted nor refused in the end. */
  readonly unanswered: number
  /** Processor time of this process from the first send on, in seconds. */
  readonly cpuSeconds: number
  readonly toPersisted: Histogram
  readonly toDelivered: Histogram
}

interface Conversation {
  readonly conv: string
  /** Whose turn it is, as an index of `members`. */
  turn: number
  readonly members: ReadonlyArray<number>
}

interface Client {
  readonly connection: Connection
  conversations: Array<string>
  next: number
  inFlight: number
  window: number
}

export class Generator {
  readonly counts: LoadCounts = { sent: 0, persisted: 0, delivered: 0, errors: {}, lost: 0 }
  readonly #plan: LoadPlan
  readonly #run = randomBytes(6).toString("base64url")
  readonly #clients: Array<Client> = []
  #conversations: ReadonlyArray<Conversation> = []
  readonly #at = new Float64Array(REMEMBERED)
  readonly #toPersisted = new Histogram()
  readonly #toDelivered = new Histogram()
  readonly #replies = new Map<string, (frame: ServerFrame) => void>()
  #body: string
  #sending = false
  #answered = 0
  #lastAnswerAt = 0

  constructor(plan: LoadPlan) {
    this.#plan = plan
    this.#body = "x".repeat(plan.bodyChars)
  }

  /** Opens the connections and makes the conversations. Fails when that takes too long. */
  async open(): Promise<void> {
    const { users, conversations, groupSize } = this.#plan
    for (let from = 0; from < users.length; from += OPENING) {
      await Promise.all(users.slice(from, from + OPENING).map((user, index) => this.#connect(user, from + index)))
    }
    const groups = conversationsOf(users.length, conversations, groupSize)
    const made: Array<Conversation> = []
    for (let from = 0; from < groups.length; from += OPENING) {
      const some = groups.slice(from, from + OPENING)
      made.push(
        ...(await Promise.all(
          some.map(async (members) => ({ conv: await this.#conversation(members), members, turn: 0 }))
        ))
      )
    }
    this.#conversations = made
    for (const { conv, members } of made) for (const member of members) this.#clients[member]!.conversations.push(conv)
  }

  /** Sends for the planned time, or until `signal`, then waits for the last answers. */
  async run(signal: AbortSignal): Promise<LoadResult> {
    const { seconds, settleSeconds, rate, groupSize } = this.#plan
    const cpu = process.cpuUsage()
    const start = performance.now()
    const end = start + seconds * 1000
    this.#sending = true
    if (rate === undefined) await this.#sendMax(end, signal)
    else await this.#sendAtRate(start, end, rate, signal)
    this.#sending = false
    const sendingSeconds = (performance.now() - start) / 1000
    const { persisted, delivered } = this.counts
    const settled = () =>
      this.#answered >= this.counts.sent && this.counts.delivered >= this.counts.persisted * (groupSize - 1)
    await this.#until(settled, settleSeconds * 1000)
    const { system, user } = process.cpuUsage(cpu)
    return {
      ...this.counts,
      seconds: (Math.max(this.#lastAnswerAt, end) - start) / 1000,
      persistedPerSecond: persisted / sendingSeconds,
      deliveredPerSecond: delivered / sendingSeconds,
      unanswered: this.counts.sent - this.#answered,
      cpuSeconds: (system + user) / 1e6,
      toPersisted: this.#toPersisted,
      toDelivered: this.#toDelivered
    }
  }

  close(): void {
    for (const { connection } of this.#clients) connection.close()
  }

  async #connect({ token }: LoadUser, index: number): Promise<void> {
    const url = new URL("/v1/ws", this.#plan.url)
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:"
    await new Promise<void>((resolve, reject) => {
      const failed = (reason: string) =>
        reject(new Error(`Connection ${index + 1} of ${this.#plan.users.length} was not opened: ${reason}`))
      const timer = setTimeout(() => failed("no welcome in time"), OPEN_TIMEOUT_MS)
      const connection = new Connection(
        { url: url.href, token, device: `load-${index}`, probeAfterMs: 0, environment: loadEnvironment },
        {
          resume: () => undefined,
          welcome: (welcome) => {
            clearTimeout(timer)
            client.window = Math.min(this.#plan.window, welcome.limits.inFlight)
            resolve()
          },
          frame: (frame) => this.#frame(client, frame),
          lost: () => {
            this.counts.lost++
            client.inFlight = 0
          },
          status: (status) => {
            if (status.state === "stopped") failed(`${status.reason} (${status.code})`)
          }
        }
      )
      const client: Client = { connection, conversations: [], next: 0, inFlight: 0, window: 1 }
      this.#clients[index] = client
      connection.start()
    })
  }

  async #conversation(members: ReadonlyArray<number>): Promise<string> {
    const names = members.map((member) => this.#plan.users[member]!.user)
    if (names.length === 2) return dmConversation(names[0]!, names[1]!)
    const rid = randomBytes(12).toString("base64url")
    return await new Promise<string>((resolve, reject) => {
      this.#replies.set(rid, (frame) => {
        this.#replies.delete(rid)
        if (frame.t === "reply" && "conv" in frame) resolve(frame.conv)
        else reject(new Error(`A group was refused: ${"message" in frame ? frame.message : JSON.stringify(frame)}`))
      })
      this.#clients[members[0]!]!.connection.send({ t: "create", rid, cid: rid, members: names.slice(1) })
    })
  }

  /** Keeps every window full: an answer makes room for the next send. */
  async #sendMax(end: number, signal: AbortSignal): Promise<void> {
    for (const client of this.#clients) this.#fill(client)
    const over = () => performance.now() >= end || signal.aborted
    await this.#until(over, end - performance.now())
  }

  #fill(client: Client): void {
    if (client.conversations.length === 0) return
    const now = performance.now()
    while (client.inFlight < client.window) {
      const conv = client.conversations[client.next++ % client.conversations.length]!
      this.#send(client, conv, now)
    }
  }

  /** Sends what is due at every turn of the clock, stamped with when it was due. */
  async #sendAtRate(start: number, end: number, rate: number, signal: AbortSignal): Promise<void> {
    const all = Math.round(((end - start) / 1000) * rate)
    let sent = 0
    while (sent < all && !signal.aborted) {
      const due = Math.min(all, Math.floor(((performance.now() - start) / 1000) * rate) + 1)
      for (; sent < due; sent++) {
        const conversation = this.#conversations[sent % this.#conversations.length]!
        const member = conversation.members[conversation.turn++ % conversation.members.length]!
        this.#send(this.#clients[member]!, conversation.conv, start + (sent * 1000) / rate)
      }
      if (this.counts.sent - this.#answered > REMEMBERED / 2) {
        throw new Error(
          `The server does not keep up with ${rate} messages/s: ${this.counts.sent - this.#answered} are unanswered`
        )
      }
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  #send(client: Client, conv: string, at: number): void {
    const index = this.counts.sent++
    this.#at[index % REMEMBERED] = at
    client.inFlight++
    client.connection.send({ t: "send", cid: `${this.#run}-${index.toString(36)}`, conv, body: this.#body })
  }

  /** When the message with this cid was due; undefined when it is not one of this run's. */
  #dueOf(cid: string): number | undefined {
    if (!cid.startsWith(this.#run)) return undefined
    return this.#at[Number.parseInt(cid.slice(this.#run.length + 1), 36) % REMEMBERED]
  }

  #frame(client: Client, frame: ServerFrame): void {
    switch (frame.t) {
      case "event": {
        const due = frame.type === "message" ? this.#dueOf(frame.cid) : undefined
        if (due === undefined) return
        this.counts.delivered++
        this.#toDelivered.record(performance.now() - due)
        return
      }
      case "ack": {
        const due = frame.state === "persisted" ? this.#dueOf(frame.cid) : undefined
        if (due === undefined) return
        this.counts.persisted++
        this.#toPersisted.record(performance.now() - due)
        return this.#settle(client)
      }
      case "reply":
        return this.#replies.get(frame.rid)?.(frame)
      case "err":
        if (frame.rid !== undefined) this.#replies.get(frame.rid)?.(frame)
        this.counts.errors[frame.code] = (this.counts.errors[frame.code] ?? 0) + 1
        if (frame.cid !== undefined) this.#settle(client)
    }
  }

  #settle(client: Client): void {
    this.#answered++
    this.#lastAnswerAt = performance.now()
    client.inFlight = Math.max(0, client.inFlight - 1)
    // Not for every answer: half a window at a time makes full frames.
    if (this.#sending && this.#plan.rate === undefined && client.inFlight <= client.window / 2) this.#fill(client)
  }

  async #until(done: () => boolean, ms: number): Promise<void> {
    const deadline = performance.now() + ms
    while (!done() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
