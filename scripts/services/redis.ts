/** A Redis that keeps nothing: what is in it can be computed again from the log. */
import { connect } from "node:net"
import type { Program } from "./processes.ts"

export const redisProgram = (
  file: string,
  folder: string,
  port: number,
  more: ReadonlyArray<string> = []
): Program => ({
  command: file,
  args: [
    ...["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder, "--daemonize", "no"],
    ...["--save", "", "--appendonly", "no"],
    // Keys are never dropped to make room: a full Redis refuses to write.
    ...["--maxmemory", "1gb", "--maxmemory-policy", "noeviction"],
    ...more
  ],
  env: process.env
})

export const redisUrl = (port: number): string => `redis://127.0.0.1:${port}`

/** Whether it answers PING within a second, or asks who wants to know. */
export const redisAnswers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"))
    const done = (answers: boolean) => {
      socket.destroy()
      resolve(answers)
    }
    socket.setTimeout(1000, () => done(false))
    socket.once("error", () => done(false))
    socket.once("close", () => done(false))
    socket.once("data", (answer) => done(/^(\+PONG|-NOAUTH)/.test(answer.toString("latin1"))))
  })
