/** The client: one user on one device, over as many connections as it takes. */
import type * as In from "../domain/protocol/client-frames.ts"
import type {
  Err,
  PresenceState,
  ReplyBody,
  ServerFrame,
  TimelineEvent,
  Welcome
} from "../domain/protocol/server-frames.ts"
import { Connection, type Status } from "./connection.ts"
import { Emitter } from "./emitter.ts"
import { type Environment, realEnvironment } from "./environment.ts"
import { DardaError } from "./errors.ts"
import {
  ANSWER_CHECK_MS,
  ANSWER_TIMEOUT_MS,
  PRESENCE_USERS,
  PROBE_AFTER_MS,
  TYPING_EVERY_MS,
  WATCHED_MAX
} from "./limits.ts"
import { Marks } from "./marks.ts"
import type { ClientEvents, ClientOptions, Fields, Persisted, SendInput } from "./options.ts"
import { type Command, type Entry, type OnAck, Outbox } from "./outbox.ts"
import { Requests } from "./requests.ts"
import { Sequencer } from "./sequencer.ts"
import { Stored } from "./stored.ts"
import { eventOf, ownEvent } from "./own.ts"
import { uuidv7 } from "./uuid.ts"

/** A chat client. Give it listeners, then `connect`. Nothing it takes is lost before the server has it. */
export class DardaClient {
  readonly device: string
  readonly #events = new Emitter<ClientEvents>()
  readonly #env: Environment
  readonly #connection: Connection
  readonly #outbox: Outbox
  readonly #requests: Requests
  readonly #sequencer: Sequencer
  readonly #marks: Marks
  readonly #stored: Stored
  readonly #typing = new Map<string, { readonly on: boolean; readonly at: number }>()
  readonly #watched = new Set<string>()
  #user: string | undefined
  #clockOffset = 0
  #rids = 0
  #cancelCheck: (() => void) | undefined
  #lastWelcome: Welcome | undefined

  constructor(options: ClientOptions) {
    const env = options.environment ?? realEnvironment
    this.#env = env
    this.#user = options.user
    this.#stored = new Stored(options.storage, env.clock, () => this.#keep())
    this.device = this.#stored.device(options.device, () => uuidv7(env.clock.now()))
    this.#connection = new Connection(
      {
        url: options.url,
        token: options.token,
        device: this.device,
        probeAfterMs: options.probeAfterMs ?? PROBE_AFTER_MS,
        environment: env
      },
      {
        resume: () => this.#sequencer.position(),
        welcome: (welcome, resumed) => this.#welcome(welcome, resumed),
        frame: (frame) => this.#frame(frame),
        lost: () => this.#lost(),
        status: (status) => this.#events.emit("status", status)
      }
    )
    const write = (frame: object): boolean => this.#connection.send(frame)
    this.#outbox = new Outbox(env.clock, write, (entry) => this.#fail(entry, entry.error as DardaError))
    this.#requests = new Requests(env.clock, write)
    this.#marks = new Marks(env.clock, write)
    this.#sequencer = new Sequencer(env.clock, {
      surface: (event, own) => this.#events.emit("event", event, own),
      sync: (conv, after) => this.sync({ conv, after }),
      take: (event) => this.#event(event),
      reset: (conv, head) => this.#events.emit("reset", conv, head),
      gone: (conv) => this.#events.emit("gone", conv)
    })
    if (options.resume !== undefined) this.#sequencer.restore(options.resume)
    if (options.user !== undefined) this.#restore(options.user)
  }

  /** Listens until the returned function is called. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (...args: ClientEvents[Name]) => void): () => void {
    return this.#events.on(name, listener)
  }

  /** The user, once known. */
  get user(): string | undefined {
    return this.#user
  }

  get status(): Status {
    return this.#connection.status
  }

  /** Commands that are not persisted, in order. */
  get pending(): readonly Command[] {
    return [...this.#outbox.values()]
  }

  /** How many commands are not persisted; cheaper than `pending`. */
  get pendingCount(): number {
    return this.#outbox.size
  }

  /** The server's time, in milliseconds since 1970, as well as it is known. */
  serverNow(): number {
    return this.#env.clock.now() + this.#clockOffset
  }

  /** Where this client is, for `resume` of a later one; `undefined` before the first connection. */
  position(): In.Resume | undefined {
    return this.#sequencer.position()
  }

  /** The last seq given out in a conversation; 0 when nothing was. */
  lastSeq(conv: string): number {
    return this.#sequencer.last(conv)
  }

  /** Starts; resolves with the `welcome` of an open connection or the next one, fails when the client stops before (`unauthorized`, `closed`). */
  connect(): Promise<Welcome> {
    if (this.status.state === "open" && this.#lastWelcome !== undefined) return Promise.resolve(this.#lastWelcome)
    const welcomed = new Promise<Welcome>((resolve, reject) => {
      const done = [
        this.on("welcome", (welcome) => {
          for (const off of done) off()
          resolve(welcome)
        }),
        this.on("status", (status) => {
          if (status.state !== "stopped") return
          for (const off of done) off()
          reject(new DardaError(status.why === "login" ? "unauthorized" : "closed", status.reason))
        })
      ]
    })
    this.#connection.start()
    return welcomed
  }

  /** Stops. What is not persisted stays in `pending` (and in storage); `connect` goes on with it. */
  close(): void {
    this.#connection.close()
    this.#requests.close()
    this.#keep()
  }

  /** Sends a message. Returns at once with its cid; `onAck` and the event `command` tell what becomes of it. */
  send(message: SendInput, onAck?: OnAck): Command {
    return this.#command({ ...message, t: "send", cid: message.cid ?? this.#cid() }, onAck)
  }

  /** Replaces the body of one's own message. */
  edit(input: Fields<In.Edit, "cid">, onAck?: OnAck): Command {
    return this.#command({ ...input, t: "edit", cid: this.#cid() }, onAck)
  }

  /** Deletes a message. */
  delete(input: Fields<In.Delete, "cid">, onAck?: OnAck): Command {
    return this.#command({ ...input, t: "delete", cid: this.#cid() }, onAck)
  }

  /** Sets or takes back a reaction. */
  react(input: Fields<In.React, "cid">, onAck?: OnAck): Command {
    return this.#command({ ...input, t: "react", cid: this.#cid() }, onAck)
  }

  /** As `send`, but waits until the message is persisted; fails as a `DardaError` when it is refused for good. */
  sendAwait(message: SendInput): Promise<Persisted> {
    return this.#await({ ...message, t: "send", cid: message.cid ?? this.#cid() })
  }

  /** Makes a group of oneself and `members`. */
  create(input: Fields<In.Create, "cid">): Promise<Persisted> {
    return this.#await({ ...input, t: "create", rid: this.#rid(), cid: this.#cid() })
  }

  /** Adds and removes members of a group. */
  members(input: Fields<In.Members, "cid">): Promise<Persisted> {
    return this.#await({ ...input, t: "members", rid: this.#rid(), cid: this.#cid() })
  }

  /** Leaves a group. */
  leave(conv: string): Promise<Persisted> {
    return this.#await({ t: "leave", conv, rid: this.#rid(), cid: this.#cid() })
  }

  /** Sets the title of a group. */
  title(input: Fields<In.Title, "cid">): Promise<Persisted> {
    return this.#await({ ...input, t: "title", rid: this.#rid(), cid: this.#cid() })
  }

  /** Sends a command again as it was, with its cid: after a failure that time or a person has cured. */
  again(frame: In.CommandFrame, onAck?: OnAck): Command {
    return this.#command("rid" in frame ? { ...frame, rid: this.#rid() } : frame, onAck)
  }

  /** Marks what was delivered and seen, up to these seqs; merged, sent within a quarter of a second, only ever forward. */
  mark(conv: string, marks: { readonly delivered?: number; readonly seen?: number }): void {
    this.#marks.mark(conv, marks.delivered ?? 0, marks.seen ?? 0)
  }

  /** Tells that the user types, or stopped; may be called for every key. */
  typing(conv: string, on: boolean): void {
    const now = this.#env.clock.now()
    const before = this.#typing.get(conv)
    if (
      this.status.state !== "open" ||
      ((before?.on ?? false) === on && (!on || now - (before?.at ?? 0) < TYPING_EVERY_MS))
    )
      return
    if (this.#typing.size > 100) this.#typing.clear()
    if (on) this.#typing.set(conv, { on, at: now })
    else this.#typing.delete(conv)
    this.#connection.send({ t: "typing", conv, on })
  }

  history(input: Fields<In.History, never>): Promise<ReplyBody["history"]> {
    return this.#requests.ask({ ...input, t: "history", rid: this.#rid() })
  }

  sync(input: Fields<In.Sync, never>): Promise<ReplyBody["sync"]> {
    return this.#requests.ask({ ...input, t: "sync", rid: this.#rid() })
  }

  convs(input: Fields<In.Convs, never> = {}): Promise<ReplyBody["convs"]> {
    return this.#requests.ask({ ...input, t: "convs", rid: this.#rid() })
  }

  roster(input: Fields<In.Roster, never>): Promise<ReplyBody["roster"]> {
    return this.#requests.ask({ ...input, t: "roster", rid: this.#rid() })
  }

  /** Gives the server a new token before the old one expires; only for the connection that is open. */
  refresh(token: string): Promise<ReplyBody["refresh"]> {
    return this.#requests.ask({ t: "refresh", rid: this.#rid(), token })
  }

  /**
   * Whether users are online. With `watch: true` their changes come as `presence`, also after reconnects (then all are
   * given out anew); with `watch: false` no more. At most 200 users at once and 1,000 watched.
   */
  presence(users: readonly string[], watch?: boolean): Promise<ReplyBody["presence"]> {
    if (watch === false) for (const user of users) this.#watched.delete(user)
    if (watch === true) for (const user of users) if (this.#watched.size < WATCHED_MAX) this.#watched.add(user)
    return this.#requests.ask({ t: "presence", rid: this.#rid(), users, ...(watch === undefined ? {} : { watch }) })
  }

  #cid(): string {
    return uuidv7(this.#env.clock.now())
  }

  #rid(): string {
    return (++this.#rids).toString(36)
  }

  #command(frame: In.CommandFrame, onAck: OnAck | undefined): Command {
    const entry = this.#outbox.add(frame, this.#user, onAck)
    this.#armCheck()
    this.#events.emit("command", entry)
    this.#changed()
    return entry
  }

  #await(frame: In.CommandFrame): Promise<Persisted> {
    return new Promise((resolve, reject) => {
      this.#command(frame, ({ state, conv, seq = 0, at = 0, dup, error }) => {
        if (state === "persisted") resolve({ conv, seq, at, dup })
        else if (state === "failed") reject(error)
      })
    })
  }

  #welcome(welcome: Welcome, resumed: boolean): void {
    this.#user = welcome.user
    this.#lastWelcome = welcome
    this.#clockOffset = welcome.now - this.#env.clock.now()
    this.#sequencer.connected(welcome.cursor, resumed)
    this.#events.emit("welcome", welcome, resumed)
    this.#restore(welcome.user)
    const unnamed = [...this.#outbox.values()].filter((entry) => entry.conv === "")
    this.#outbox.connected(welcome.user, welcome.limits.inFlight)
    for (const entry of unnamed) if (entry.conv !== "") this.#events.emit("command", entry)
    this.#requests.connected()
    this.#marks.connected()
    this.#armCheck()
    const watched = [...this.#watched]
    for (let from = 0; from < watched.length; from += PRESENCE_USERS)
      this.#watchAgain(watched.slice(from, from + PRESENCE_USERS))
  }

  /** What an earlier client left goes before everything that was given to this one. */
  #restore(user: string): void {
    const frames = this.#stored.take(user).map((frame) => ("rid" in frame ? { ...frame, rid: this.#rid() } : frame))
    for (const entry of this.#outbox.restore(frames, user)) this.#events.emit("command", entry)
  }

  #watchAgain(users: readonly string[]): void {
    this.presence(users, true).then(
      (reply) => {
        for (const [user, state] of Object.entries<PresenceState>(reply.users)) {
          this.#events.emit("presence", { t: "presence", user, ...state })
        }
      },
      // The next connection asks again.
      () => {}
    )
  }

  #lost(): void {
    this.#sequencer.disconnected()
    this.#outbox.disconnected()
    this.#requests.disconnected()
    this.#marks.disconnected()
    this.#typing.clear()
    this.#cancelCheck?.()
    this.#cancelCheck = undefined
  }

  /** Looks once a second whether a command waits too long: then the connection is given up and all go again. */
  #armCheck(): void {
    if (this.#cancelCheck !== undefined || this.#outbox.size === 0 || this.#connection.limits === undefined) return
    this.#cancelCheck = this.#env.clock.after(ANSWER_CHECK_MS, () => {
      this.#cancelCheck = undefined
      const since = this.#outbox.unansweredSince
      if (since !== undefined && this.#env.clock.now() - since >= ANSWER_TIMEOUT_MS) this.#connection.replace()
      else this.#armCheck()
    })
  }

  #frame(frame: ServerFrame): void {
    switch (frame.t) {
      case "ack": {
        const entry = this.#outbox.get(frame.cid)
        if (entry === undefined) return
        if (frame.state === "persisted")
          return this.#persisted(entry, frame.conv, frame.seq, frame.at, frame.dup === true)
        entry.conv = frame.conv
        this.#outbox.sent(entry)
        return this.#tell(entry)
      }
      case "event":
        return this.#event(eventOf(frame))
      case "reply": {
        const { t: _, rid, ...body } = frame
        const entry = this.#outbox.byRid(rid)
        if (entry === undefined) return void this.#requests.answer(rid, body)
        const { conv = entry.conv, seq, at } = body as Partial<ReplyBody["create"]>
        if (seq !== undefined && at !== undefined) this.#persisted(entry, conv, seq, at, false)
        return
      }
      case "err":
        return this.#refused(frame)
      case "cursor":
        this.#sequencer.cursor(frame.cursor)
        return this.#events.emit("caughtUp")
      case "reset":
        return this.#sequencer.reset(frame.conv, frame.head)
      case "gone":
        this.#sequencer.forget(frame.conv)
        return this.#events.emit("gone", frame.conv)
      case "live":
        return this.#events.emit("live", frame)
      case "unlive":
        return this.#events.emit("unlive", frame)
      case "receipt":
        return this.#events.emit("receipt", frame)
      case "typing":
        return this.#events.emit("typing", frame)
      case "presence":
        return this.#events.emit("presence", frame)
    }
  }

  /** An event of one's own with the cid of a waiting command is that command's answer. */
  #event(event: TimelineEvent): void {
    const entry = event.by === this.#user ? this.#outbox.get(event.cid) : undefined
    const own = entry !== undefined && (entry.conv === event.conv || entry.frame.t === "create")
    if (own) this.#settle(entry, event.conv, event.seq, event.at, false)
    this.#sequencer.accept(event, own)
    if (own) this.#tell(entry)
  }

  #persisted(entry: Entry, conv: string, seq: number, at: number, dup: boolean): void {
    this.#settle(entry, conv, seq, at, dup)
    this.#sequencer.accept(ownEvent(entry, this.#user ?? ""), true)
    this.#tell(entry)
  }

  #settle(entry: Entry, conv: string, seq: number, at: number, dup: boolean): void {
    entry.conv = conv
    entry.state = "persisted"
    entry.seq = seq
    entry.at = at
    entry.dup = dup
    this.#outbox.settle(entry)
    this.#changed()
  }

  #refused(frame: Err): void {
    const error = DardaError.fromFrame(frame)
    const entry =
      (frame.rid === undefined ? undefined : this.#outbox.byRid(frame.rid)) ??
      (frame.cid === undefined ? undefined : this.#outbox.get(frame.cid))
    if (entry === undefined) {
      if (frame.rid === undefined || !this.#requests.refuse(frame.rid, error)) this.#events.emit("error", error)
    } else if (frame.retryable) this.#outbox.retry(entry, frame.retryAfterMs)
    else this.#fail(entry, error)
  }

  #fail(entry: Entry, error: DardaError): void {
    entry.state = "failed"
    entry.error = error
    this.#outbox.settle(entry)
    this.#changed()
    this.#tell(entry)
  }

  #tell(entry: Entry): void {
    entry.onAck?.(entry)
    this.#events.emit("command", entry)
  }

  #changed(): void {
    this.#stored.changed()
  }

  #keep(): void {
    if (this.#user !== undefined) this.#stored.write(this.#user, this.#outbox.values())
  }
}

/** Makes a client and connects it; fails when it is stopped before its first `welcome`. */
export const connect = async (options: ClientOptions): Promise<DardaClient> => {
  const client = new DardaClient(options)
  await client.connect()
  return client
}
