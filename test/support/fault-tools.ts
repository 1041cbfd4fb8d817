import type { DardaProcess } from "./process.ts"

/** Within which the partitions of a writer that died or stands still have another owner. */
export const TAKEN_OVER_MS = 15_000

/**
 * Within which a loss of Redis is found and repaired: 5 s, and what a machine takes that runs everything.
 */
export const REPAIRED_MS = 8_000

/** Counts the losses of nodes' streams. */
export const STREAM_LOSSES = "darda_stream_losses_total"

/** Counts what was relayed from the outbox because whoever committed it did not. */
export const RECOVERED = "darda_outbox_recovered_total"

const LOOK_EVERY_MS = 20

/** Waits for a fact; fails after `ms` with what `hint` has to say. */
export const until = async (
  what: string,
  ms: number,
  holds: () => boolean | Promise<boolean>,
  hint: () => string = () => ""
): Promise<void> => {
  const deadline = Date.now() + ms
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`It is not so that ${what}, after ${ms} ms.\n${hint()}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}

/** A metric of a process, the sum over its labels; 0 before it was first counted. Fails where the process does not answer. */
export const metric = async ({ url }: DardaProcess, name: string): Promise<number> => {
  const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) })
  let sum = 0
  for (const line of (await answer.text()).split("\n")) {
    if (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) sum += Number(line.slice(line.lastIndexOf(" ") + 1))
  }
  return sum
}

/** The same over several processes. */
export const metrics = async (processes: ReadonlyArray<DardaProcess>, name: string): Promise<number> => {
  const each = await Promise.all(processes.map((one) => metric(one, name)))
  return each.reduce((sum, one) => sum + one, 0)
}

/** The one of these writers that commits: of several, one may have all partitions. */
export const busiest = async (writers: ReadonlyArray<DardaProcess>): Promise<DardaProcess> => {
  const commits = (): Promise<ReadonlyArray<number>> =>
    Promise.all(writers.map((writer) => metric(writer, "darda_commits_total")))
  const before = await commits()
  let busy = -1
  await until("one of the writers commits", 10_000, async () => {
    const grown = (await commits()).map((count, index) => count - before[index]!)
    const most = Math.max(...grown)
    if (most > 2) busy = grown.indexOf(most)
    return busy >= 0
  })
  return writers[busy]!
}
