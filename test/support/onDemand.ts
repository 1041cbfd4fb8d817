/** Something that a whole run shares and that is started when the first test asks for it. They meet by two files in a folder. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** By the one a test asks, the other is what it is told. */
const WANTED = "wanted"
const ANSWER = "answer.json"
type Answer<A> = { readonly value: A } | { readonly error: string }

const START_MS = 300_000
const LOOK_MS = 50

/** Starts it when a test asks for it by this folder. Gives what waits for a start that is under way, and then starts nothing any more. */
export const serveOnDemand = <A>(folder: string, start: () => Promise<A>): (() => Promise<void>) => {
  mkdirSync(folder, { recursive: true })
  let started: Promise<void> | undefined
  const answer = (said: Answer<A>): void => {
    writeFileSync(join(folder, `${ANSWER}.new`), JSON.stringify(said))
    renameSync(join(folder, `${ANSWER}.new`), join(folder, ANSWER))
  }
  const look = setInterval(() => {
    if (!existsSync(join(folder, WANTED))) return
    clearInterval(look)
    started = start().then(
      (value) => answer({ value }),
      (cause: unknown) => answer({ error: cause instanceof Error ? cause.message : String(cause) })
    )
  }, LOOK_MS)
  look.unref()
  return async () => {
    clearInterval(look)
    await started
  }
}

/** What was started. The first who asks waits some seconds, in which nothing else of this process goes on. `what` is for people. */
export const askFor = <A>(folder: string, what: string): A => {
  writeFileSync(join(folder, WANTED), "")
  const file = join(folder, ANSWER)
  const nobody = new Int32Array(new SharedArrayBuffer(4))
  for (const deadline = performance.now() + START_MS; !existsSync(file); Atomics.wait(nobody, 0, 0, LOOK_MS)) {
    if (performance.now() > deadline) throw new Error(`${what} did not start within ${START_MS / 1000} s`)
  }
  const said = JSON.parse(readFileSync(file, "utf8")) as Answer<A>
  if ("error" in said) throw new Error(said.error)
  return said.value
}
