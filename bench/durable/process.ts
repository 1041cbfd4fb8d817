/** What the programs that ours is measured beside have in common: they are told where the engines are, say when they are ready, and end when told. */
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"

/** What a program is told in its environment. `name` keeps its queues, keys and database apart from those of other runs. */
export const given = (): {
  readonly mongoUrl: string
  readonly amqpUrl: string
  readonly redisUrl: string
  readonly name: string
} => {
  const { AMQP_URL, BENCH_NAME, MONGO_URL, REDIS_URL } = process.env
  if (AMQP_URL === undefined || BENCH_NAME === undefined || MONGO_URL === undefined || REDIS_URL === undefined) {
    throw new Error("MONGO_URL, AMQP_URL, REDIS_URL and BENCH_NAME say what to run on")
  }
  return { mongoUrl: MONGO_URL, amqpUrl: AMQP_URL, redisUrl: REDIS_URL, name: BENCH_NAME }
}

/** Says that the program is ready, in the words of `darda serve`, so that one harness starts them all. */
export const ready = (url: string): void => console.log(`Darda is ready on ${url}`)

/** Ends the program on SIGTERM. Nothing is handed over: what was not acked is delivered again. */
export const endOnTerm = (): void => {
  process.once("SIGTERM", () => process.exit(0))
}

/** What may not fail without the whole measurement failing. */
export const orDie = (work: Promise<unknown>): void => {
  work.catch((error: unknown) => {
    console.error(error)
    process.exit(1)
  })
}

/** A server on any free port, and its address. */
export const listen = async (server: Server = createServer()): Promise<string> => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
