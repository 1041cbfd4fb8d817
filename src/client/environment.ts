/** What the client needs from its surroundings, so that it runs in browsers, in Node and under a test's hands. */

/** Time and chance. */
export interface Clock {
  /** Milliseconds since 1970 by the local clock. */
  readonly now: () => number
  /** Runs `run` once after `ms` milliseconds, unless the returned function is called before. */
  readonly after: (ms: number, run: () => void) => () => void
  /** From 0 up to 1, as `Math.random`. */
  readonly random: () => number
}

/** What happens on a socket. `close` comes once, also for a socket that never opened. */
export interface SocketHandlers {
  readonly open: () => void
  readonly message: (text: string) => void
  readonly close: (code: number, reason: string) => void
}

/** An open or opening socket. */
export interface Socket {
  readonly send: (text: string) => void
  readonly close: (code?: number, reason?: string) => void
}

/** Opens a socket; throws only when the url can never work. */
export type OpenSocket = (url: string, protocol: string, handlers: SocketHandlers) => Socket

/** The part of `localStorage` that the client uses. One client at a time: give each browser tab its own (`sessionStorage`). */
export interface KeyValueStorage {
  readonly getItem: (key: string) => string | null
  readonly setItem: (key: string, value: string) => void
  readonly removeItem: (key: string) => void
}

/** The surroundings of a client. */
export interface Environment {
  readonly clock: Clock
  readonly openSocket: OpenSocket
  /** Calls `run` whenever the device gets a network again; the returned function ends that. */
  readonly onOnline: (run: () => void) => () => void
}

const clock: Clock = {
  now: Date.now,
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  random: Math.random
}

const openSocket: OpenSocket = (url, protocol, handlers) => {
  const socket = new WebSocket(url, [protocol])
  socket.onopen = handlers.open
  socket.onmessage = (event: { readonly data: unknown }) => {
    if (typeof event.data === "string") handlers.message(event.data)
  }
  socket.onclose = (event: { readonly code: number; readonly reason: string }) =>
    handlers.close(event.code, event.reason)
  // A `close` always follows; without a listener some implementations throw instead.
  socket.onerror = () => {}
  return {
    send: (text) => socket.send(text),
    close: (code, reason) => socket.close(code, reason)
  }
}

const onOnline = (run: () => void): (() => void) => {
  if (typeof globalThis.addEventListener !== "function") return () => {}
  globalThis.addEventListener("online", run)
  return () => globalThis.removeEventListener("online", run)
}

/** The real surroundings: the global `WebSocket` of browsers and of Node from 22. */
export const realEnvironment: Environment = { clock, openSocket, onOnline }
