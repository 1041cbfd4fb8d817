/** The worker's half of a {@link WorkerClient}. Loads nothing but node, so that a worker costs little memory and starts at once. */
import { parentPort, workerData } from "node:worker_threads"

/** What a worker can do. Arguments and results are copied by structured clone: plain data, the flatter the cheaper. */
export type Methods = { readonly [method: string]: (...args: Array<never>) => unknown }

/** An error as it crosses between threads. `code` is what programs tell errors apart by. */
export interface Problem {
  readonly name: string
  readonly code: string
  readonly message: string
}

/** `[id, method, args]`; id 0 without a method asks the worker to close. */
export type Request = readonly [id: number, method?: string, args?: ReadonlyArray<unknown>]

/** `[id, result]` or `[id, undefined, problem]`; id 0 answers the start. */
export type Response = readonly [id: number, result?: unknown, problem?: Problem]

/** The error's own name, code and message. */
export const problemOf = (cause: unknown): Problem => {
  if (!(cause instanceof Error)) return { name: "Error", code: "unknown", message: String(cause) }
  const { code } = cause as { code?: unknown }
  return { name: cause.name, code: typeof code === "string" ? code : "unknown", message: cause.message }
}

/**
 * Serves methods to the thread that started this one, one call after another in the order of arrival.
 *
 * `make` is given the `data` of `makeWorker`; what it throws is the answer to the start. `close` runs when the client's scope ends,
 * after everything that was called before. `explain` turns what a method threw into what the caller is told.
 */
export const serve = <Data, M extends Methods>(
  make: (data: Data) => { readonly methods: M; readonly close?: () => void },
  explain: (cause: unknown) => Problem = problemOf
): void => {
  const port = parentPort
  if (port === null) throw new Error("This module is the inside of a worker thread; start it with makeWorker.")
  const answer = (...response: Response): void => port.postMessage(response)
  const refuse = (id: number, cause: unknown): void => answer(id, undefined, explain(cause))

  let served: { readonly methods: M; readonly close?: () => void }
  try {
    served = make(workerData as Data)
  } catch (cause) {
    refuse(0, cause)
    return
  }
  const methods = served.methods as unknown as Record<string, (...args: ReadonlyArray<unknown>) => unknown>
  port.on("message", ([id, method, args]: Request) => {
    if (method === undefined) {
      try {
        served.close?.()
      } finally {
        port.close()
      }
      return
    }
    try {
      const result = methods[method]!(...(args ?? []))
      if (result instanceof Promise) {
        result.then((value) => answer(id, value)).catch((cause: unknown) => refuse(id, cause))
      } else answer(id, result)
    } catch (cause) {
      refuse(id, cause)
    }
  })
  answer(0)
}
