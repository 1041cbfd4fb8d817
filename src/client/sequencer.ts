/**
 * Puts the events of each conversation in order: each once, none before its predecessor. A hole is filled by `sync`;
 * what came after it waits. Where nothing is known of a conversation, its first event is where it begins for us.
 */
import type { Resume } from "../domain/protocol/client-frames.ts"
import type { ReplyBody, TimelineEvent } from "../domain/protocol/server-frames.ts"
import type { Clock } from "./environment.ts"
import { DardaError } from "./errors.ts"
import { HELD_MAX, HELD_TOTAL_MAX, REPAIR_AGAIN_MS, REPLAY_PATIENCE_MS, RESUME_SEQS, TRACKS_MAX } from "./limits.ts"

/** What the sequencer needs. `take` is given the events of `sync` and brings them back through `accept`. */
export interface SequencerHandlers {
  readonly surface: (event: TimelineEvent, own: boolean) => void
  readonly sync: (conv: string, after: number) => Promise<ReplyBody["sync"]>
  readonly take: (event: TimelineEvent) => void
  /** The hole cannot be filled: drop what is known of the conversation and read it again. */
  readonly reset: (conv: string, head: number) => void
  /** The conversation cannot be read any more. */
  readonly gone: (conv: string) => void
}

interface Held {
  readonly event: TimelineEvent
  readonly own: boolean
}

interface Track {
  readonly conv: string
  last: number
  /** The highest seq known to exist; above `last` there is a hole. */
  wanted: number
  held: Map<number, Held> | undefined
  touched: number
  repairing: boolean
  /** A repair that began under another number must not touch the track any more. */
  generation: number
}

/** The order of one client's events, over all its connections. */
export class Sequencer {
  readonly #clock: Clock
  readonly #handlers: SequencerHandlers
  readonly #tracks = new Map<string, Track>()
  readonly #holes = new Set<Track>()
  #heldTotal = 0
  #touches = 0
  #connected = false
  #replaying = false
  #cursor: string | undefined
  #nextCursor: string | undefined
  #cancelPatience: () => void = () => {}
  #cancelAgain: (() => void) | undefined

  constructor(clock: Clock, handlers: SequencerHandlers) {
    this.#clock = clock
    this.#handlers = handlers
  }

  /** The last seq that was surfaced in a conversation, 0 when nothing is known of it. */
  last(conv: string): number {
    return this.#tracks.get(conv)?.last ?? 0
  }

  /** From where to resume: holes first, because only they are behind the cursor; then what was active last. */
  position(): Resume | undefined {
    if (this.#cursor === undefined) return undefined
    const tracks = [...this.#tracks.values()].sort(
      (a, b) => Number(b.wanted > b.last) - Number(a.wanted > a.last) || b.touched - a.touched
    )
    const seqs: Record<string, number> = {}
    for (const track of tracks.slice(0, RESUME_SEQS)) seqs[track.conv] = track.last
    return { cursor: this.#cursor, seqs }
  }

  /** Begins from a position kept elsewhere, before the first connection. */
  restore(position: Resume): void {
    this.#cursor = position.cursor
    for (const [conv, last] of Object.entries(position.seqs ?? {})) this.#track(conv, last)
  }

  /** A connection is open. While what was missed is replayed (until a `cursor` comes), holes are given time to close. */
  connected(cursor: string, replaying: boolean): void {
    this.#connected = true
    this.#nextCursor = undefined
    this.#cursor = cursor
    this.#replaying = replaying
    this.#cancelPatience()
    if (replaying) this.#cancelPatience = this.#clock.after(REPLAY_PATIENCE_MS, () => this.#replayed())
    else this.#repairAll()
  }

  /** The connection is gone: repairs under way are void, what was held stays. */
  disconnected(): void {
    this.#connected = false
    this.#cancelPatience()
    this.#cancelAgain?.()
    this.#cancelAgain = undefined
    for (const track of this.#holes) {
      track.generation++
      track.repairing = false
    }
  }

  /** Everything up to `cursor` has been given to us; with a hole open it is remembered for when that is filled. */
  cursor(cursor: string): void {
    if (this.#replaying) this.#replayed()
    if (this.#holes.size === 0) this.#cursor = cursor
    else this.#nextCursor = cursor
  }

  /** An event, from wherever. `own`: it stands for a command of this client. */
  accept(event: TimelineEvent, own: boolean): void {
    const track = this.#tracks.get(event.conv) ?? this.#track(event.conv, event.seq - 1)
    track.touched = this.#touches++
    if (event.seq <= track.last) return
    if (event.seq > track.last + 1) return this.#hold(track, event, own)
    track.last = event.seq
    this.#handlers.surface(event, own)
    if (track.held !== undefined) this.#release(track)
    if (track.wanted > 0 && track.wanted <= track.last) this.#closed(track)
  }

  /** The server says that what was missed is too much: the next event is the one after `head`. */
  reset(conv: string, head: number): void {
    this.forget(conv)
    this.#track(conv, head)
    this.#handlers.reset(conv, head)
  }

  /** Nothing more is expected of this conversation. */
  forget(conv: string): void {
    const track = this.#tracks.get(conv)
    if (track === undefined) return
    track.generation++
    this.#tracks.delete(conv)
    this.#dropHeld(track)
    this.#closed(track)
  }

  #track(conv: string, last: number): Track {
    if (this.#tracks.size >= TRACKS_MAX) {
      for (const [oldest, track] of this.#tracks) {
        if (track.wanted > track.last) continue
        this.#tracks.delete(oldest)
        break
      }
    }
    const track: Track = {
      conv,
      last,
      wanted: 0,
      held: undefined,
      touched: this.#touches++,
      repairing: false,
      generation: 0
    }
    this.#tracks.set(conv, track)
    return track
  }

  #hold(track: Track, event: TimelineEvent, own: boolean): void {
    track.wanted = Math.max(track.wanted, event.seq)
    this.#holes.add(track)
    track.held ??= new Map()
    if (!track.held.has(event.seq)) {
      // Beyond the bounds nothing is kept: `sync` reads as far as `wanted` anyway.
      if (track.held.size >= HELD_MAX || this.#heldTotal >= HELD_TOTAL_MAX) this.#dropHeld(track)
      else {
        track.held.set(event.seq, { event, own })
        this.#heldTotal++
      }
    }
    if (!this.#replaying) void this.#repair(track)
  }

  #release(track: Track): void {
    while (track.held !== undefined) {
      const next = track.held.get(track.last + 1)
      if (next === undefined) {
        // Nothing but events that were surfaced by `sync` meanwhile may be left below.
        if (track.wanted <= track.last) this.#dropHeld(track)
        return
      }
      track.held.delete(track.last + 1)
      this.#heldTotal--
      track.last++
      this.#handlers.surface(next.event, next.own)
    }
  }

  #dropHeld(track: Track): void {
    this.#heldTotal -= track.held?.size ?? 0
    track.held = undefined
  }

  #closed(track: Track): void {
    track.wanted = 0
    this.#dropHeld(track)
    this.#holes.delete(track)
    if (this.#holes.size > 0 || this.#nextCursor === undefined) return
    this.#cursor = this.#nextCursor
    this.#nextCursor = undefined
  }

  #replayed(): void {
    this.#replaying = false
    this.#cancelPatience()
    this.#repairAll()
  }

  #repairAll(): void {
    for (const track of this.#holes) void this.#repair(track)
  }

  async #repair(track: Track): Promise<void> {
    if (track.repairing || !this.#connected) return
    track.repairing = true
    const generation = track.generation
    try {
      while (track.wanted > track.last) {
        const from = track.last
        const reply = await this.#handlers.sync(track.conv, from)
        if (generation !== track.generation) return
        for (const event of reply.events) this.#handlers.take(event)
        if (generation !== track.generation) return
        if (track.last === from) return this.reset(track.conv, Math.max(reply.head, track.wanted))
      }
    } catch (cause) {
      if (generation === track.generation) this.#unrepaired(track, cause)
    } finally {
      if (generation === track.generation) track.repairing = false
    }
  }

  #unrepaired(track: Track, cause: unknown): void {
    const code = cause instanceof DardaError ? cause.code : "internal"
    if (code === "not_found" || code === "forbidden") {
      this.forget(track.conv)
      return this.#handlers.gone(track.conv)
    }
    if (code === "closed") return
    this.#cancelAgain ??= this.#clock.after(REPAIR_AGAIN_MS, () => {
      this.#cancelAgain = undefined
      this.#repairAll()
    })
  }
}
