/** How far a message of one's own has got. */
import type { JSX } from "preact"
import { type Command, type Conversation, tick } from "../../src/client/index.ts"
import { Clock, Delivered, Failed, Persisted, Seen, Sent } from "./icons.tsx"

/** Of a message that is in the log. */
export const MessageTick = (props: {
  readonly conversation: Conversation
  readonly seq: number
  readonly me: string
}): JSX.Element => {
  const { conversation, seq, me } = props
  const state = tick(conversation, seq, me)
  return (
    <span class={`tick ${state}`} data-tick={state} title={reach(conversation, seq, me)}>
      {state === "seen" ? <Seen /> : state === "delivered" ? <Delivered /> : <Persisted />}
    </span>
  )
}

/** Of one that is not, or not yet. */
export const CommandTick = ({ command }: { readonly command: Command }): JSX.Element => (
  <span class={`tick ${command.state}`} data-tick={command.state}>
    {command.state === "failed" ? <Failed /> : command.state === "sending" ? <Clock /> : <Sent />}
  </span>
)

/** By how many it was seen, in words; empty where that says no more than the tick. */
const reach = ({ kind, members, receipts, counts }: Conversation, seq: number, me: string): string => {
  if (kind === "dm") return ""
  if (members === undefined) {
    return counts !== undefined && counts.seq >= seq ? `Delivered to ${counts.delivered}, seen by ${counts.seen}` : ""
  }
  const others = members.filter((user) => user !== me)
  const by = (mark: "delivered" | "seen"): number =>
    others.filter((user) => (receipts.get(user)?.[mark] ?? 0) >= seq).length
  return `Delivered to ${by("delivered")}, seen by ${by("seen")} of ${others.length}`
}
