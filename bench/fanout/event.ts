import type { Sent } from "../durable/front.ts"

let seq = 0

/** A message as ours gives it to clients, so that all send the same bytes. */
export const eventText = (by: string, { body, cid, conv }: Sent): string =>
  JSON.stringify({
    t: "event",
    conv,
    seq: ++seq,
    type: "message",
    by,
    at: Date.now(),
    cid,
    data: { kind: "text", body }
  })
