/** Free ports of the loopback address. */
import { randomInt } from "node:crypto"
import { createServer } from "node:net"

export const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = createServer()
    probe.once("error", () => resolve(false))
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
  })

/**
 * A port that nothing listens on: the wanted one where that is free. Others are drawn from below the range that systems take
 * for outgoing connections, so that none of those has it when an engine starts again.
 */
export const freePort = async (wanted?: number): Promise<number> => {
  if (wanted !== undefined && (await isFree(wanted))) return wanted
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(15_000, 32_000)
    if (await isFree(port)) return port
  }
  throw new Error("No free port was found on 127.0.0.1 between 15000 and 32000")
}
