import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { StoredEvent } from "../domain/events.ts"

/** The bus did not confirm. The same events may be published again: whoever applies them knows repeats by their position. */
export class EventBusUnavailable extends Schema.TaggedError<EventBusUnavailable>()("EventBusUnavailable", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return "The event bus did not confirm."
  }
}

/** Consecutive events of one partition. */
export interface Published {
  readonly partition: number
  readonly events: ReadonlyArray<StoredEvent>
}

/**
 * From the relay to the projections, and to whoever else listens. At least once, in the order of positions per partition as long as nothing
 * fails. It is the doorbell and the fast path: a projection that misses something finds it in the log.
 */
export class EventBus extends Context.Service<
  EventBus,
  {
    readonly publish: (batch: Published) => Effect.Effect<void, EventBusUnavailable>
    /** Waits for the first batch and answers all that wait, at most `max` batches. */
    readonly take: (max: number) => Effect.Effect<ReadonlyArray<Published>, EventBusUnavailable>
  }
>()("darda/write-side/EventBus") {}
