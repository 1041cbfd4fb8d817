import type { Duplex } from "node:stream"
import { type Problem, PROBLEM_TYPE } from "./http/problems.ts"

/** How long a peer has to read why it is turned away, in milliseconds. */
const LINGER_MS = 1_000

/** Says the last thing on a socket, and cuts it a second later: a peer that never closes its side would keep it for ever. */
export const lastWords = (socket: Duplex, text: string): void => {
  socket.on("error", () => socket.destroy())
  socket.end(text)
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
}

/** The same for a refusal, as an answer over HTTP. */
export const lastProblem = (socket: Duplex, problem: Problem): void => {
  const { retryAfterMs, status, title } = problem
  const body = JSON.stringify(problem)
  lastWords(
    socket,
    `HTTP/1.1 ${status} ${title}\r\nConnection: close\r\nContent-Type: ${PROBLEM_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n${retryAfter(retryAfterMs)}\r\n${body}`
  )
}

/** The header that says after how many milliseconds a retry makes sense, in whole seconds, rounded up; empty where none does. */
export const retryAfter = (ms: number | undefined): string =>
  ms === undefined ? "" : `Retry-After: ${Math.ceil(ms / 1000)}\r\n`
