import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Command, Intent } from "../domain/commands.ts"
import type { TimelineEvent } from "../domain/events.ts"
import type { ClientId, ConversationId, UserId } from "../domain/ids.ts"
import { partitionOf, type Vector } from "../domain/partition.ts"
import { CLOSE, type CloseCode } from "../domain/protocol/close-codes.ts"
import type { Hello } from "../domain/protocol/client-frames.ts"
import { FRAME_BYTES } from "../domain/protocol/limits.ts"
import type { Limits } from "../domain/protocol/server-frames.ts"
import type { Rejection } from "../domain/rejections.ts"
import type { MetricsWriter } from "../platform/Metrics.ts"
import { makeQuietLog } from "../platform/quietLog.ts"
import type { TracingOn } from "../platform/Tracing.ts"
import { Traces } from "./Traces.ts"
import { addToList, remove, removeFromList } from "./sets.ts"
import { Traffic } from "./Traffic.ts"
import { Typing } from "./Typing.ts"
import type { Answer, NodeItem, Router, RouterUnavailable, Signal } from "../platform/Router.ts"
import type { Queries, QueryRefused } from "../read-side/Queries.ts"
import type { CommandBatch, CommandBus } from "../write-side/CommandBus.ts"
import type { LogHeads, LogUnavailable } from "../write-side/EventLog.ts"
import type { Auth, Identity, Unauthorized } from "./auth/Auth.ts"
import { Audiences } from "./Audiences.ts"
import { makeBarrier } from "./barrier.ts"
import { BigConversations } from "./BigConversations.ts"
import type { Connection } from "./Connection.ts"
import { encodeCursor } from "./cursor.ts"
import { eventFrame, Frame, signalFrame } from "./Frame.ts"
import { Hedge, type Pending } from "./Hedge.ts"
import { DueQueues } from "./Outgoing.ts"
import { Presence } from "./Presence.ts"
import { reattachAll } from "./reattach.ts"
import { Receipts } from "./Receipts.ts"
import { deliver, type Run, runAt } from "./Run.ts"

/** Requests over HTTP that wait for their command at once; the next is `busy`. */
const REQUESTS = 10_000

/** How long a user is there after their last connection, in milliseconds: those who come back within that time were never gone. */
const GRACE_MS = 15_000
/** Users within that time; beyond it those who left first are gone at once. */
const GRACE_USERS = 100_000

/** Milliseconds from one tick to the next, which is due after a second, from which on time itself is not trusted. */
const LATE_MS = 5_000

/** The limits of one edge, as the settings give them. */
export interface EdgeLimits {
  readonly perSecond: number
  readonly burst: number
  readonly inFlight: number
  readonly bodyChars: number
  readonly userConnections: number
}

export interface NodeOptions {
  readonly limits: EdgeLimits
  /** Milliseconds after which a command without an answer is said to be sent; undefined where the bus is not durable by itself. */
  readonly hedgeMs?: number | undefined
  /** The clock, in milliseconds since 1970 UTC. */
  readonly now: () => number
  readonly log: LogHeads["Service"]
  readonly bus: CommandBus["Service"]
  readonly router: Router["Service"]
  readonly queries: Queries["Service"]
  readonly auth: Auth["Service"]
  readonly metrics: MetricsWriter
  readonly tracing: TracingOn | undefined
  /** Runs something in the background, as long as the node lives. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

/** Whoever waits for the answer to a command: a connection, or a request over HTTP. */
export interface Waiting {
  /** The event that the command became. */
  readonly persisted: (event: TimelineEvent) => void
  readonly answer: (answer: Answer) => void
  /** Its answer may have been lost. */
  readonly unknown: () => void
}

/** Whoever is told of a user's events. */
export interface Listener {
  readonly event: (event: TimelineEvent) => void
  /** Some events may have been lost. */
  readonly lost: () => void
}

/** One edge: its connections, and what comes for them on the node's stream. */
export class Node {
  readonly limits: EdgeLimits
  readonly now: () => number
  readonly log: LogHeads["Service"]
  readonly queries: Queries["Service"]
  readonly fork: (effect: Effect.Effect<void>) => void
  /** What `welcome` tells of the limits. */
  readonly told: Limits
  /** Shared by all who attach: the heads of all partitions, read after the call. */
  readonly barrier: Effect.Effect<Vector, LogUnavailable>
  /** Everything up to here came by this node's stream. */
  readonly progress: Array<number>
  /** How often a part of the stream was lost. */
  losses = 0
  readonly metrics: MetricsWriter
  /** What happens to all connections at once is one line. */
  readonly quiet = makeQuietLog()
  readonly traffic = new Traffic()
  readonly due = new DueQueues()

  readonly #bus: CommandBus["Service"]
  readonly #router: Router["Service"]
  readonly #auth: Auth["Service"]
  readonly #seen: Array<number>
  readonly #sessions = new Map<string, Connection>()
  readonly #requests = new Map<string, Waiting>()
  readonly #users = new Map<UserId, ReadonlyArray<Connection>>()
  readonly #listeners = new Map<UserId, Set<Listener>>()
  /** Users whose last connection ended a short while ago, and when, in this order. They are held as before. */
  readonly #left = new Map<UserId, number>()
  /** Users whose route is being taken away. */
  readonly #leaving = new Map<UserId, Latch.Latch>()
  readonly presence: Presence
  readonly typing: Typing
  readonly receipts: Receipts
  readonly big: BigConversations
  readonly #audiences: Audiences
  readonly #hedge: Hedge | undefined
  readonly #traces: Traces | undefined
  #tickedAt = 0

  constructor(options: NodeOptions) {
    const { limits } = options
    this.limits = limits
    this.told = {
      frameBytes: FRAME_BYTES,
      bodyChars: limits.bodyChars,
      inFlight: limits.inFlight,
      perSecond: limits.perSecond
    }
    this.now = options.now
    this.log = options.log
    this.queries = options.queries
    this.fork = options.fork
    this.barrier = makeBarrier(options.log.heads)
    this.#bus = options.bus
    this.#router = options.router
    this.#auth = options.auth
    this.metrics = options.metrics
    this.#traces = options.tracing === undefined ? undefined : new Traces(options.tracing)
    this.progress = new Array<number>(options.log.partitions).fill(0)
    this.#seen = new Array<number>(options.log.partitions).fill(0)
    this.big = new BigConversations({
      router: options.router,
      queries: options.queries,
      barrier: this.barrier,
      partitions: options.log.partitions,
      isHere: (user) => this.#isHere(user),
      give: (user, event) => {
        for (const { feed } of this.#users.get(user) ?? none) feed?.event(event, () => eventFrame(event))
      },
      fork: options.fork,
      progress: this.progress
    })
    this.presence = new Presence({
      router: options.router,
      queries: options.queries,
      seen: () => this.#seen,
      fork: options.fork
    })
    this.#audiences = new Audiences(options.queries, options.now, () => this.#seen)
    this.receipts = new Receipts(options.now, ({ receipt, session, users }) =>
      this.#give(users, session, receipt.conv, new Frame({ t: "receipt", ...receipt }))
    )
    const audience = (user: UserId, conv: ConversationId) => this.#audiences.of(user, conv)
    this.typing = new Typing({ now: options.now, router: options.router, audience, give: this.#give })
    if (options.hedgeMs !== undefined) {
      this.#hedge = new Hedge({
        afterMs: options.hedgeMs,
        partitions: options.log.partitions,
        now: options.now,
        router: options.router,
        seen: (partition) => this.#seen[partition]!,
        heads: this.barrier,
        audience,
        sent: (pending) => this.#sessions.get(pending.session)?.sent(pending) === true,
        count: (what) => this.metrics.update(what, 1)
      })
    }
  }

  readonly partitionOf = (conv: ConversationId): number => partitionOf(conv, this.log.partitions)

  /** What this node has seen of the log. */
  seen(): Vector {
    return this.#seen
  }

  get size(): number {
    return this.#sessions.size
  }

  /** Who a `hello` is from. */
  identify(hello: Hello): Effect.Effect<Identity, Unauthorized> {
    return hello.token === undefined ? this.#auth.redeemTicket(hello.ticket!) : this.#auth.verify(hello.token)
  }

  /** Who a token is of. */
  verify(token: string): Effect.Effect<Identity, Unauthorized> {
    return this.#auth.verify(token)
  }

  opened(connection: Connection): void {
    this.metrics.update("connects", 1)
    this.#sessions.set(connection.id, connection)
  }

  closedWith(close: CloseCode): void {
    this.metrics.closed(close.code)
  }

  /** A connection is known by its user from here on; the user's oldest makes room when there are too many. */
  join(connection: Connection): Effect.Effect<void, RouterUnavailable | QueryRefused | LogUnavailable> {
    const { user } = connection
    const mine = addToList(this.#users, user, connection)
    this.#left.delete(user)
    if (mine.length > this.limits.userConnections) {
      const [oldest] = mine as [Connection]
      removeFromList(this.#users, user, oldest)
      oldest.close(CLOSE.tooManyConnections)
    }
    return Effect.andThen(this.register(user), this.big.ensure(user))
  }

  register(user: UserId): Effect.Effect<void, RouterUnavailable> {
    return Effect.suspend(() => {
      const registered = Effect.andThen(
        this.#router.register(user),
        // The connection may have ended while the route was made.
        Effect.suspend(() => (this.#isHere(user) ? Effect.void : this.#unregister(user)))
      )
      // One that is on its way might take away what this brings.
      const leaving = this.#leaving.get(user)
      return leaving === undefined ? registered : Effect.andThen(leaving.await, registered)
    })
  }

  #isHere(user: UserId): boolean {
    return this.#users.has(user) || this.#listeners.has(user) || this.#left.has(user)
  }

  /** Everyone whose events this node is told of. */
  users(): ReadonlySet<UserId> {
    return new Set([...this.#users.keys(), ...this.#listeners.keys(), ...this.#left.keys()])
  }

  /** Requests over HTTP that wait for their command. */
  requests(): ReadonlyArray<Waiting> {
    return [...this.#requests.values()]
  }

  closed(connection: Connection): void {
    this.#sessions.delete(connection.id)
    this.presence.closed(connection)
    if (removeFromList(this.#users, connection.user, connection)) this.#leave(connection.user)
  }

  /** Nothing of this user is here any more; that is said when they have not come back for a while. */
  #leave(user: UserId): void {
    if (this.#isHere(user)) return
    this.#left.set(user, this.now())
    if (this.#left.size > GRACE_USERS) this.#gone(this.#left.keys().next().value!)
  }

  #gone(user: UserId): void {
    const since = this.#left.get(user)!
    this.#left.delete(user)
    this.fork(this.#unregister(user, this.now() - since))
  }

  /** Whoever comes while the route is taken away waits for that, and registers after it. `goneMs`: for how long they have been gone. */
  #unregister(user: UserId, goneMs = 0): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#isHere(user) || this.#leaving.has(user)) return Effect.void
      this.big.forget(user)
      const left = Latch.makeUnsafe(false)
      this.#leaving.set(user, left)
      return this.#router.unregister(user, goneMs).pipe(
        Effect.catch((error) => Effect.logWarning(error.message)),
        Effect.andThen(
          Effect.sync(() => {
            this.#leaving.delete(user)
            left.openUnsafe()
          })
        )
      )
    })
  }

  /** Tells a listener of every event that is addressed to this user, until the answer is run. */
  listen(user: UserId, listener: Listener): Effect.Effect<Effect.Effect<void>, RouterUnavailable> {
    let mine = this.#listeners.get(user)
    if (mine === undefined) this.#listeners.set(user, (mine = new Set()))
    mine.add(listener)
    this.#left.delete(user)
    const leave = Effect.sync(() => {
      if (remove(this.#listeners, user, listener)) this.#leave(user)
    })
    return Effect.tapError(Effect.as(this.register(user), leave), () => leave)
  }

  /** Submits a command; false when the command bus takes no more. */
  submit(session: string, command: Omit<Command, "origin">, rid: string | undefined): boolean {
    // Marks are merged, and nobody waits for them.
    const trace = command.cid === "" ? undefined : this.#traces?.begin(session, command)
    const taken = this.#bus.offer({
      ...command,
      origin: { node: this.#router.node, session, ...(rid === undefined ? {} : { rid }) },
      ...(trace === undefined ? {} : { traceparent: trace })
    })
    if (taken) this.#hedge?.offered(this.partitionOf(command.conv))
    return taken
  }

  /** Follows the command that was submitted last, for the case that the log takes long. */
  follow(session: string, command: Omit<Command, "origin">): Pending | undefined {
    const partition = this.partitionOf(command.conv)
    return this.#hedge?.follow(session, command, partition, this.#seen[partition]!)
  }

  /** The broker has a batch of what was submitted here. */
  sent(batch: CommandBatch): void {
    this.#traces?.sent(batch)
    this.#hedge?.confirmed(batch.partition, batch.commands.length)
  }

  /** A command that was followed is refused. */
  refused(pending: Pending, rejection: Rejection): void {
    const told = this.#hedge?.refused(pending, rejection)
    if (told !== undefined) this.fork(told)
  }

  /** Looks after the commands that wait for long, every {@link HEDGE_TICK_MS}. */
  hedge(): void {
    const work = this.#hedge?.tick()
    if (work !== undefined) this.fork(work)
  }

  /** Submits a command of something that is no connection, and waits for its answer under this session. */
  await(
    session: string,
    command: { readonly conv: ConversationId; readonly by: UserId; readonly cid: ClientId; readonly intent: Intent },
    waiting: Waiting
  ): boolean {
    if (this.#requests.size >= REQUESTS) return false
    this.#requests.set(session, waiting)
    if (this.submit(session, command, undefined)) return true
    this.#requests.delete(session)
    return false
  }

  forget(session: string): void {
    this.#requests.delete(session)
  }

  /** Acts on what came by the node's stream, in order. Never waits. */
  take(items: ReadonlyArray<NodeItem>): void {
    for (let i = 0; i < items.length; i++) {
      const item = items[i]!
      switch (item._tag) {
        case "MessagePersisted":
          i += this.#run(runAt(items, i)) - 1
          break
        case "Answer":
          this.#traces?.answered(item.answer.session, item.answer)
          this.#requests.get(item.answer.session)?.answer(item.answer)
          this.#sessions.get(item.answer.session)?.answer(item.answer)
          break
        case "Receipt":
          this.receipts.take(item.big === true ? { ...item, users: this.big.usersOf(item.receipt.conv) } : item)
          break
        case "Progress":
          this.big.came(item.partition, item.position)
          this.#see(item.partition, item.position)
      }
    }
  }

  /**
   * Some of this node's stream is missing, and its users are to be registered again. Until they have attached again connections get no cursor: one that
   * came after this might cover what is missing.
   */
  lost(): void {
    const loss = ++this.losses
    this.receipts.lost(this.progress)
    this.metrics.update("streamLosses", 1)
    for (const connection of this.#sessions.values()) connection.feed?.suspend(this.progress)
    this.big.lost()
    for (const listeners of this.#listeners.values()) for (const listener of listeners) listener.lost()
    this.fork(reattachAll(this, () => this.losses === loss))
  }

  /** Some signals are missing. Typing is over by itself; who is there is told again. */
  signalsLost(): void {
    this.presence.again()
  }

  /** Clients that attach here may have seen everything up to this on another node. */
  sees(vector: Vector): void {
    vector.forEach((position, partition) => this.#see(partition, position))
  }

  #see(partition: number, position: number): void {
    if (position > this.#seen[partition]!) this.#seen[partition] = position
  }

  /** Answers how many events it is. */
  #run(run: Run): number {
    const { items } = run
    const now = this.now()
    for (const { event } of items) {
      this.#see(event.partition, event.position)
      // Clocks differ between machines; what is before its time took no time.
      this.metrics.update("deliverMillis", Math.max(0, now - event.at))
      if (event.origin !== undefined) this.#requests.get(event.origin.session)?.persisted(event)
    }
    if (!run.isPlain) this.#membersChanged(run)
    const users = run.isPlain && run.isBig ? this.big.usersFor(run.first) : run.users
    deliver(run, users, this.#sessions, this.#users)
    if (!run.isPlain || run.first.seq === 1) this.presence.membership(run, this.#users)
    for (const user of this.#listeners.size === 0 ? none : users)
      for (const listener of this.#listeners.get(user) ?? none) for (const { event } of items) listener.event(event)
    for (const item of items) this.#traces?.given(item)
    return items.length
  }

  #membersChanged({ conv, items }: Run): void {
    this.#audiences.forget(conv)
    this.receipts.flush(conv)
    for (const item of items) this.big.changed(item)
    for (const { event } of items) if (event.type === "members") this.typing.changed(conv, event.data)
  }

  /** Acts on signals, which may be lost and repeated. */
  takeSignals(signals: ReadonlyArray<{ readonly users: ReadonlyArray<UserId>; readonly signal: Signal }>): void {
    for (const { signal, users } of signals) {
      if (signal._tag === "Presence") this.presence.take(signal)
      else if (signal._tag === "Typing") this.typing.take(signal, users)
      else this.#give(users, signal.session, signal.conv, signalFrame(signal))
    }
  }

  /** Gives what is said about a conversation to those of these users who follow it, and not to the session that said it. */
  readonly #give = (
    users: ReadonlyArray<UserId>,
    session: string | undefined,
    conv: ConversationId,
    frame: Frame
  ): void => {
    for (const user of users) {
      for (const connection of this.#users.get(user) ?? none) {
        if (connection.id !== session && connection.feed?.isLive(conv) === true) connection.push(frame)
      }
    }
  }

  /** Once a second, for every connection. */
  tick(): void {
    const now = this.now()
    // This process was stopped, or its clock was put: that nobody was heard says nothing about them.
    const isLate = Math.abs(now - this.#tickedAt) > LATE_MS
    this.#tickedAt = now
    const cursorOf = (vector: Vector): string => encodeCursor(this.log.id, vector)
    for (const connection of this.#sessions.values()) {
      if (isLate) connection.pong()
      connection.tick(now, cursorOf)
    }
    for (const [user, at] of this.#left) {
      if (now - at < GRACE_MS) break
      this.#gone(user)
    }
    this.presence.tick()
    this.typing.tick()
    this.receipts.tick(this.progress)
    this.metrics.update("connections", this.#sessions.size)
    this.traffic.tell(this.metrics)
  }

  /** Every connection, for what concerns them all. */
  connections(): IterableIterator<Connection> {
    return this.#sessions.values()
  }
}

const none: ReadonlyArray<never> = []
