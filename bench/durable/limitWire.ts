/** What the processes of the limit say to one another: lines of text with tabs between the fields, put together once and taken apart with `indexOf`. */

/** Partitions, as many as ours has. */
export const PARTITIONS = 16
/** Commands in one batch of an edge, and in one transaction. */
export const BATCH = 500

/** Names of everything that a run of the limit uses. */
export const names = (name: string) => ({
  commands: (partition: number) => `${name}.commands.${partition}`,
  events: `${name}.events`,
  route: (user: string) => `${name}:route:${user}`,
  stream: (node: string) => `${name}:node:${node}`,
  /** Keys that one script touches share a hash tag. */
  partition: (partition: number) => `${name}:{${partition}}:`
})

/**
 * A command: `session user conv cid body`, the body as JSON, as which it stays on its whole way to the other client. A batch of commands begins with a line
 * `edge counter node`.
 */
export const commandLine = (session: string, user: string, conv: string, cid: string, body: string): string =>
  `\n${session}\t${user}\t${conv}\t${cid}\t${JSON.stringify(body)}`

/** The fields of a line from `at` on; answers where the next line begins. */
export const fields = (text: string, at: number, into: Array<string>, count: number): number => {
  let from = at
  for (let i = 0; i < count - 1; i++) {
    const to = text.indexOf("\t", from)
    into[i] = text.slice(from, to)
    from = to + 1
  }
  const end = text.indexOf("\n", from)
  into[count - 1] = end === -1 ? text.slice(from) : text.slice(from, end)
  return end === -1 ? text.length : end + 1
}

/** An event: `position users session user conv seq at cid json`. The users have commas between them. */
export const EVENT_FIELDS = 9
