import type { ClientId, ConversationId } from "../domain/ids.ts"
import type { NodeItem } from "../platform/Router.ts"
import type { TraceSpan, TracingOn } from "../platform/Tracing.ts"
import type { CommandBatch } from "../write-side/CommandBus.ts"

/** Sends that are followed at once; the oldest makes room, and its trace lacks its end. */
const FOLLOWED = 1_000

interface Asked {
  readonly conv: ConversationId
  readonly cid: ClientId
}

const keyOf = (session: string, { cid, conv }: Asked): string => `${session}\n${conv}\n${cid}`

/** The traces that begin at this edge, and its parts in those of others. */
export class Traces {
  readonly #tracing: TracingOn
  readonly #open = new Map<string, TraceSpan>()

  constructor(tracing: TracingOn) {
    this.#tracing = tracing
  }

  /** The trace context of a command, where it is followed. */
  begin(session: string, asked: Asked): string | undefined {
    const span = this.#tracing.begin("send")
    if (span === undefined) return undefined
    this.#open.set(keyOf(session, asked), span)
    if (this.#open.size > FOLLOWED) this.#open.delete(this.#open.keys().next().value!)
    return span.traceparent
  }

  /** The broker has a batch. */
  sent({ commands }: CommandBatch): void {
    const followed = commands.flatMap(({ traceparent }) => traceparent ?? [])
    if (followed.length === 0) return
    for (const { cid, conv, origin, traceparent } of commands) {
      if (traceparent === undefined) continue
      // The answer may be here before the confirm.
      const from = this.#open.get(keyOf(origin.session, { cid, conv }))?.from ?? Date.now()
      this.#tracing.part({
        name: "publish",
        traceparent,
        from,
        with: followed,
        attributes: { commands: commands.length }
      })
    }
  }

  /** An event was queued for connections, the one that asked for it among them. */
  given({ event, traceparent, users }: Extract<NodeItem, { readonly _tag: "MessagePersisted" }>): void {
    if (traceparent !== undefined)
      this.#tracing.part({ name: "deliver", traceparent, from: Date.now(), attributes: { users: users.length } })
    if (event.origin !== undefined) this.answered(event.origin.session, event)
  }

  /** A command was answered. */
  answered(session: string, asked: Asked): void {
    if (this.#open.size === 0) return
    const key = keyOf(session, asked)
    this.#open.get(key)?.end()
    this.#open.delete(key)
  }
}
