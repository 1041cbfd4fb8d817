/** One at a time, over all processes of this machine. */
import { createHash } from "node:crypto"
import { createServer, type Server } from "node:net"
import { setTimeout as wait } from "node:timers/promises"

/** How long one waits for another, who may have to fetch servers. */
const LOCK_MS = 20 * 60_000

const listen = (server: Server, path: string): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const done = (cause?: NodeJS.ErrnoException): void => {
      server.removeAllListeners()
      if (cause === undefined) resolve(true)
      else if (cause.code === "EADDRINUSE") resolve(false)
      else reject(cause)
    }
    server.once("error", done)
    server.listen({ path }, () => done())
  })

/** Runs it while nobody else runs something of that name. The name is a socket's: the system takes it back when its holder ends. */
export const exclusive = async <A>(name: string, run: () => Promise<A>): Promise<A> => {
  const path = `\0darda-${createHash("sha256").update(name).digest("hex")}`
  const server = createServer()
  for (const deadline = performance.now() + LOCK_MS; !(await listen(server, path)); await wait(50)) {
    if (performance.now() > deadline)
      throw new Error(`Another has been busy with ${name} for ${LOCK_MS / 60_000} minutes`)
  }
  try {
    return await run()
  } finally {
    server.close()
  }
}
