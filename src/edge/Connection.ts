import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { TimelineEvent } from "../domain/events.ts"
import type { ClientId, ConversationId, UserId } from "../domain/ids.ts"
import { CLOSE, type CloseCode } from "../domain/protocol/close-codes.ts"
import type { ClientFrame } from "../domain/protocol/client-frames.ts"
import { decodeClientFrame } from "../domain/protocol/decode.ts"
import {
  BAD_JSON_MAX,
  BATCH_OBJECTS,
  HELLO_TIMEOUT_MS,
  PING_EVERY_MS,
  PONG_TIMEOUT_MS
} from "../domain/protocol/limits.ts"
import type { Answer } from "../platform/Router.ts"
import { Allowance, bytesAnObject } from "./Allowance.ts"
import { errFrame } from "./errors.ts"
import { Feed } from "./Feed.ts"
import { answerFrame, Frame } from "./Frame.ts"
import { handle } from "./handlers.ts"
import type { Pending } from "./Hedge.ts"
import type { Node } from "./Node.ts"
import { Outgoing } from "./Outgoing.ts"
import type { Watcher } from "./Presence.ts"
import { ANSWER_AFTER_LOSS_MS } from "./reattach.ts"
import type { Run } from "./Run.ts"
import type { Transport } from "./Transport.ts"

/** Frames and characters that wait to be read before the socket is paused. */
const INBOX_FRAMES = 64
const INBOX_CHARS = 128 * 1024
/** Requests of one connection that are answered at the same time, each with up to 256 KiB; the reader waits for the next place. */
const REQUESTS = 8
/** A send that has no answer after this is answered `unavailable`: it may still be persisted, and is safe to repeat. */
const ANSWER_WITHIN_MS = 25_000
/** Marks of one conversation are submitted this often, and the furthest wins. */
const MARK_EVERY_MS = 1_000
/** As many are submitted at once before that: `delivered` and `seen` of a message may follow closely. */
const MARK_BURST = 4

/** How long a close frame waits for what is queued before it. */
const CLOSE_WITHIN = "1 second"

const NONE: ReadonlyMap<string, InFlight> = new Map()

/** A command without an answer. */
interface InFlight {
  readonly at: number
  readonly cid: ClientId
  readonly rid: string | undefined
  readonly pending: Pending | undefined
}

/** What an answer is about, where a frame says it. */
interface Named {
  readonly cid?: string
  readonly rid?: string
}

/** What was not submitted yet of the marks in one conversation, 0 for nothing. */
interface PendingMark {
  /** Each mark that was submitted takes {@link MARK_EVERY_MS}; this is when they are over. */
  paidUntil: number
  delivered: number
  seen: number
}

/**
 * One client's connection: what it says is acted on in order, what it is told goes through one bounded queue. What needs no waiting is done as it arrives;
 * the rest in a fiber that lives as long as there is something to do, so that an idle connection costs no more than its state.
 */
export class Connection {
  readonly id: string
  readonly node: Node
  readonly out: Outgoing
  /** Set by `hello`. */
  user: UserId = ""
  feed: Feed | undefined
  /** When the token runs out, in milliseconds; before `hello`, when that must have come. */
  expiresAt: number
  /** Whose presence this connection is told of. */
  watching: Watcher["watching"]

  readonly #transport: Transport
  /** Made for what comes, and forgotten when that is of no consequence any more: an idle connection has none. */
  #allowance: Allowance | undefined
  /** Frames that wait for a fiber that is at work; undefined when none is. */
  #inbox: Array<string> | undefined
  #inboxChars = 0
  #paused = false
  #closing = false
  #over = false
  #badJson = 0
  #heardAt: number
  #pinged = false
  #requests = 0
  #reattachedAt = -Infinity
  #requestPlace: Latch.Latch | undefined
  #inFlight: Map<string, InFlight> | undefined
  #marks: Map<ConversationId, PendingMark> | undefined

  constructor(node: Node, id: string, transport: Transport) {
    const now = node.now()
    this.node = node
    this.id = id
    this.out = new Outgoing(transport, node.due)
    this.#transport = transport
    this.expiresAt = now + HELLO_TIMEOUT_MS
    this.#heardAt = now
    node.opened(this)
  }

  /** Takes a text frame from the socket. Never waits: beyond {@link INBOX_FRAMES} or {@link INBOX_CHARS} the socket is paused. */
  receive(text: string): void {
    if (this.#closing) return
    this.pong()
    this.node.traffic.received(text)
    if (this.#inbox === undefined) {
      try {
        this.#act(this.#parse(text))
      } catch (defect) {
        this.node.fork(this.#failed(defect))
      }
      return
    }
    this.#inbox.push(text)
    this.#inboxChars += text.length
    if ((this.#inbox.length >= INBOX_FRAMES || this.#inboxChars >= INBOX_CHARS) && !this.#paused) {
      this.#paused = true
      this.#transport.pause()
    }
  }

  /** A sign of life. */
  pong(): void {
    this.#heardAt = this.node.now()
    this.#pinged = false
  }

  /** Acts on objects in order, and goes on in a fiber from the first one that has to wait. */
  #act(values: ReadonlyArray<unknown>): void {
    for (let i = 0; i < values.length && !this.#closing; i++) {
      const work = this.#object(values[i])
      if (work === undefined) continue
      this.#inbox = []
      this.node.fork(this.#work(work, values.slice(i + 1)))
      return
    }
  }

  #work(first: Effect.Effect<void>, rest: ReadonlyArray<unknown>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      yield* first
      let values = rest
      while (!this.#closing) {
        for (const value of values) {
          if (this.#closing) break
          const work = this.#object(value)
          if (work !== undefined) yield* work
        }
        const next = this.#inbox?.shift()
        if (next === undefined) break
        this.#inboxChars -= next.length
        values = this.#parse(next)
      }
      this.#inbox = undefined
      this.#inboxChars = 0
      if (this.#paused && !this.#closing) {
        this.#paused = false
        this.#transport.resume()
      }
    }).pipe(Effect.catchDefect((defect) => this.#failed(defect)))
  }

  /** A defect ends its own connection, and nothing else. */
  #failed(defect: unknown): Effect.Effect<void> {
    this.close(CLOSE.draining)
    return Effect.logError("A connection failed and was sent away to resume", defect)
  }

  /** Queues a frame. A full queue ends the connection: it resumes with what it has. */
  push(frame: Frame): void {
    this.node.traffic.queued(1, frame.payload.length)
    if (!this.out.push(frame)) this.#full()
  }

  /** Queues all frames of a run, or ends the connection. */
  pushRun({ bytes, frames }: Run): void {
    this.node.traffic.queued(frames.length, bytes)
    if (!this.out.pushAll(frames, bytes)) this.#full()
  }

  #full(): void {
    if (this.#closing) return
    this.#end(CLOSE.slowConsumer)
    // The queue waits for this socket, so the close frame must not wait for the queue.
    this.out.drop()
    this.#transport.close(CLOSE.slowConsumer)
  }

  /** Ends the connection after what is queued, and at most a second later. */
  close(close: CloseCode): void {
    if (this.#closing) return
    this.#end(close)
    const shut = (): void => this.#transport.close(close)
    this.out.end(shut)
    this.node.fork(Effect.delay(Effect.sync(shut), CLOSE_WITHIN))
  }

  #end(close: CloseCode): void {
    this.#closing = true
    this.#inbox = undefined
    this.node.closedWith(close)
  }

  /** The socket is closed, by whomever. */
  ended(): void {
    if (this.#over) return
    this.#over = true
    this.#flushMarks(Infinity)
    this.#closing = true
    this.#inbox = undefined
    for (const { pending } of this.#inFlight?.values() ?? []) if (pending !== undefined) pending.isDone = true
    this.out.drop()
    this.feed?.end()
    this.node.closed(this)
  }

  /** The objects of a frame; what is wrong with it is answered here. */
  #parse(text: string): ReadonlyArray<unknown> {
    const now = this.node.now()
    this.#allowance ??= new Allowance(this.node.limits, now)
    this.#allowance.frame(now, Buffer.byteLength(text))
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      this.push(errFrame("bad_json", "The frame is not JSON."))
      if (++this.#badJson >= BAD_JSON_MAX) this.close(CLOSE.badFrames)
      return []
    }
    // An array of another length is judged as the one thing that it is, so that it counts towards the rate.
    return Array.isArray(value) && value.length > 0 && value.length <= BATCH_OBJECTS ? value : [value]
  }

  #object(value: unknown): Effect.Effect<void> | undefined {
    const decoded = decodeClientFrame(value, this.node.limits)
    const greeted = this.feed !== undefined
    if (!greeted && (decoded._tag === "Failure" ? !isHello(value) : decoded.success.t !== "hello")) {
      this.close(CLOSE.badFrames)
      return undefined
    }
    const now = this.node.now()
    const allowance = (this.#allowance ??= new Allowance(this.node.limits, now))
    const wait = allowance.take(now, decoded._tag === "Success" && isForCommands(decoded.success))
    if (wait > 0) {
      const { cid, rid } = (decoded._tag === "Failure" ? decoded.failure : decoded.success) as Named
      const { bodyChars, perSecond } = this.node.limits
      const most = `${perSecond} objects a second, of ${bytesAnObject(bodyChars)} bytes on average`
      this.push(errFrame("rate_limited", `More than ${most}; wait ${wait} ms.`, { rid, cid, retryAfterMs: wait }))
      if (allowance.exhausted(now)) this.close(CLOSE.tooFast)
      return undefined
    }
    if (decoded._tag === "Failure") {
      const { cid, code, message, rid } = decoded.failure
      this.push(errFrame(code, message, { rid, cid }))
      return undefined
    }
    return handle(this, decoded.success)
  }

  /** Answers a request apart from the reader, so that a slow one does not hold up what follows; at most {@link REQUESTS} at once. */
  request(work: Effect.Effect<Frame | undefined>): Effect.Effect<void> {
    return Effect.suspend(() => {
      // It may have ended while this waited for its place.
      if (this.#closing) return Effect.void
      if (this.#requests >= REQUESTS) {
        const place = (this.#requestPlace ??= Latch.makeUnsafe(false))
        place.closeUnsafe()
        return Effect.andThen(place.await, this.request(work))
      }
      this.#requests++
      this.node.fork(
        work.pipe(
          Effect.tap(() => this.out.room),
          Effect.map((frame) => (frame === undefined ? undefined : this.push(frame))),
          Effect.ensuring(
            Effect.sync(() => {
              this.#requests--
              this.#requestPlace?.openUnsafe()
            })
          )
        )
      )
      return Effect.void
    })
  }

  /** Submits a command, within the limits. Its answer comes with its event, or as an `Answer`. */
  submit(
    frame: Extract<ClientFrame, { readonly cid: ClientId }>,
    conv: ConversationId,
    intent: Parameters<Node["submit"]>[1]["intent"]
  ): void {
    const rid = "rid" in frame ? frame.rid : undefined
    const key = `${conv}\n${frame.cid}`
    const inFlight = (this.#inFlight ??= new Map<string, InFlight>())
    if (inFlight.size >= this.node.limits.inFlight && !inFlight.has(key)) {
      this.push(
        errFrame("busy", `${this.node.limits.inFlight} commands wait for their answer; send on when some have come.`, {
          rid,
          cid: frame.cid
        })
      )
      return
    }
    const command = { conv, by: this.user, cid: frame.cid, intent }
    if (this.node.submit(this.id, command, rid)) {
      // A repeat waits no longer than the first: clients may repeat more often than answers are given up.
      const first = inFlight.get(key)
      const pending = first === undefined ? this.node.follow(this.id, command) : first.pending
      inFlight.set(key, { at: first?.at ?? this.node.now(), cid: frame.cid, rid, pending })
    } else
      this.push(
        errFrame("busy", "The server takes no more commands at the moment; send it again.", { rid, cid: frame.cid })
      )
  }

  /**
   * Submits a mark: {@link MARK_BURST} in a hurry, then one a second for each conversation, with the furthest that came meanwhile. One that may be past the
   * head goes alone, so that it spoils no other.
   */
  mark(conv: ConversationId, delivered = 0, seen = 0): void {
    const known = this.feed?.headOf(conv) ?? 0
    if (Math.max(delivered, seen) > known) return this.#submitMark(conv, delivered, seen)
    const now = this.node.now()
    const marks = (this.#marks ??= new Map<ConversationId, PendingMark>())
    let mark = marks.get(conv)
    if (mark === undefined) marks.set(conv, (mark = { paidUntil: now, delivered: 0, seen: 0 }))
    mark.delivered = Math.max(mark.delivered, delivered)
    mark.seen = Math.max(mark.seen, seen)
    this.#flushMark(conv, mark, now)
  }

  #submitMark(conv: ConversationId, delivered: number, seen: number): void {
    const intent = { type: "mark" as const, ...(delivered > 0 ? { delivered } : {}), ...(seen > 0 ? { seen } : {}) }
    if (!this.node.submit(this.id, { conv, by: this.user, cid: "", intent }, undefined)) {
      this.push(errFrame("busy", "The server takes no more marks at the moment."))
    }
  }

  #flushMark(conv: ConversationId, mark: PendingMark, now: number): void {
    if (mark.paidUntil - now > (MARK_BURST - 1) * MARK_EVERY_MS) return
    const { delivered, seen } = mark
    mark.paidUntil = Math.max(mark.paidUntil, now) + MARK_EVERY_MS
    mark.delivered = mark.seen = 0
    this.#submitMark(conv, delivered, seen)
  }

  #flushMarks(now: number): void {
    if (this.#marks === undefined) return
    for (const [conv, mark] of this.#marks) {
      if (mark.delivered > 0 || mark.seen > 0) this.#flushMark(conv, mark, now)
      else if (mark.paidUntil <= now) this.#marks.delete(conv)
    }
    if (this.#marks.size === 0) this.#marks = undefined
  }

  /** The command that this was is answered. */
  #answered(conv: ConversationId, cid: ClientId): Pending | undefined {
    const key = `${conv}\n${cid}`
    const waiting = this.#inFlight?.get(key)
    if (waiting === undefined) return undefined
    this.#inFlight!.delete(key)
    this.node.metrics.update("persistMillis", this.node.now() - waiting.at)
    if (waiting.pending !== undefined) waiting.pending.isDone = true
    return waiting.pending
  }

  /** An event of this session is about to be answered. */
  settled(event: TimelineEvent): void {
    this.#answered(event.conv, event.cid)
  }

  /** A command is durable in the broker, and the log takes long; false when nobody waits for its answer here any more. */
  sent(pending: Pending): boolean {
    const { cid, conv } = pending
    const waiting = this.#inFlight?.get(`${conv}\n${cid}`)
    if (waiting?.pending !== pending) return false
    // A request is answered by its reply, and by nothing before that.
    if (waiting.rid !== undefined) return true
    this.node.metrics.update("hedgedSent", 1)
    this.push(new Frame({ t: "ack", cid, conv, state: "sent" }))
    return true
  }

  /** A command of this session that made no event. */
  answer(answer: Answer): void {
    const { cid, conv, outcome, rid } = answer
    const pending = this.#answered(conv, cid)
    if (outcome._tag === "Repeat") {
      this.push(answerFrame({ conv, cid, seq: outcome.seq, at: outcome.at, rid }, true))
    } else {
      const { code, message, retryAfterMs } = outcome.rejection
      if (pending !== undefined) this.node.refused(pending, outcome.rejection)
      this.push(errFrame(code, message, { rid, cid, retryAfterMs }))
    }
  }

  /** It has attached again after a loss: what is in flight may have been answered by what was lost. */
  reattached(): void {
    this.#reattachedAt = this.node.now()
  }

  /** Once a second: everything that depends on time. */
  tick(now: number, cursorOf: (vector: ReadonlyArray<number>) => string): void {
    if (this.#closing) return
    if (now >= this.expiresAt) return this.close(this.feed === undefined ? CLOSE.noHello : CLOSE.tokenExpired)
    if (this.feed === undefined) return
    if (this.#allowance?.isUnused(now) === true) this.#allowance = undefined
    const silent = now - this.#heardAt
    if (silent >= PING_EVERY_MS + PONG_TIMEOUT_MS) return this.close(CLOSE.silent)
    if (silent >= PING_EVERY_MS && !this.#pinged) {
      this.#pinged = true
      this.#transport.ping()
    }
    for (const [key, command] of this.#inFlight ?? NONE) {
      const due = command.at + ANSWER_WITHIN_MS
      const isLost = command.at <= this.#reattachedAt && now >= this.#reattachedAt + ANSWER_AFTER_LOSS_MS
      if (now < due && !isLost) break
      if (command.pending?.isSent === true && command.rid === undefined) {
        // What was said to be sent is never unavailable. Where its answer may be lost, the client sends it again and learns it.
        if (isLost) return this.close(CLOSE.draining)
        continue
      }
      this.#inFlight!.delete(key)
      if (command.pending !== undefined) command.pending.isDone = true
      this.push(
        errFrame(
          "unavailable",
          "No answer from the log yet. The command may still be persisted; sending it again is safe.",
          command
        )
      )
    }
    this.#flushMarks(now)
    const vector = this.feed.cursor(this.node.progress)
    if (vector !== undefined) this.push(new Frame({ t: "cursor", cursor: cursorOf(vector) }))
  }

  /** Makes the feed, when `hello` was accepted. */
  greet(user: UserId, expiresAt: number): Feed {
    this.user = user
    this.expiresAt = expiresAt
    return (this.feed = new Feed(this))
  }

  /** Commands and requests that have no answer yet. */
  get waiting(): number {
    return (this.#inFlight?.size ?? 0) + this.#requests
  }

  get isClosing(): boolean {
    return this.#closing
  }
}

/** Commands; and the hello, so that both counts are the same for one who does nothing but talk. */
const isForCommands = (frame: ClientFrame): boolean => "cid" in frame || frame.t === "hello"

const isHello = (value: unknown): boolean =>
  typeof value === "object" && value !== null && (value as { readonly t?: unknown }).t === "hello"
