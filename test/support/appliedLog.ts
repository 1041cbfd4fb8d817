import { Effect } from "effect"
import type { StoredEvent, TimelineEvent } from "../../src/domain/events.ts"
import type { ConversationId } from "../../src/domain/ids.ts"
import type { ReadModels, Run } from "../../src/read-side/ReadModels.ts"
import type { EventReader } from "../../src/write-side/EventLog.ts"

/**
 * A log that holds what read models are told to apply, for tests that have no other: what was applied can be read in it, as in the log that it would have come
 * from.
 */
export const appliedLog = () => {
  const timelines = new Map<ConversationId, Map<number, TimelineEvent>>()
  const add = (event: StoredEvent): void => {
    if (event.type === "marked") return
    const timeline = timelines.get(event.conv)
    if (timeline === undefined) timelines.set(event.conv, new Map([[event.seq, event]]))
    else timeline.set(event.seq, event)
  }
  const noting = (runs: ReadonlyArray<Run>): ReadonlyArray<Run> => {
    for (const { events } of runs) for (const event of events) add(event)
    return runs
  }
  const inOrder = (conv: ConversationId): ReadonlyArray<TimelineEvent> =>
    [...(timelines.get(conv)?.values() ?? [])].sort((a, b) => a.seq - b.seq)
  const log: Pick<EventReader, "timeline" | "amendments"> = {
    timeline: (conv, { after = 0, before = Infinity, limit, take }) =>
      Effect.sync(() => {
        const within = inOrder(conv).filter(({ seq }) => seq > after && seq < before)
        return take === "oldest" ? within.slice(0, limit) : within.slice(-limit)
      }),
    amendments: (conv, targets) =>
      Effect.sync(() => {
        const wanted = new Set(targets)
        return inOrder(conv).filter(({ data }) => "target" in data && wanted.has(data.target))
      })
  }
  return {
    log,
    /** The same read models; what they are told to apply is noted. */
    noted: (readModels: ReadModels["Service"]): ReadModels["Service"] => ({
      ...readModels,
      apply: (runs) => readModels.apply(noting(runs)),
      shadow: Effect.map(readModels.shadow, (shadow) => ({
        ...shadow,
        apply: (runs) => shadow.apply(noting(runs))
      }))
    })
  }
}
