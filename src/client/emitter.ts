/** A tiny typed event emitter. */

/** Gives what a listener throws to the surroundings, so that one listener cannot stop the others or the client. */
const report = (error: unknown): void => {
  if (typeof globalThis.reportError === "function") return globalThis.reportError(error)
  queueMicrotask(() => {
    throw error
  })
}

type Listener<Args extends readonly unknown[]> = (...args: Args) => void

/** Calls listeners by name. `Events` maps each name to the arguments of its listeners. */
export class Emitter<Events extends { readonly [Name in keyof Events]: readonly unknown[] }> {
  readonly #listeners = new Map<keyof Events, readonly Listener<never>[]>()

  /** Listens until the returned function is called. A listener added while an event is given out misses that one. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener])
    return () => {
      const left = (this.#listeners.get(name) ?? []).filter((other) => other !== listener)
      if (left.length === 0) this.#listeners.delete(name)
      else this.#listeners.set(name, left)
    }
  }

  /** Calls the listeners in the order they were added; one that throws is reported and the others still run. */
  emit<Name extends keyof Events>(name: Name, ...args: Events[Name]): void {
    const listeners = this.#listeners.get(name)
    if (listeners === undefined) return
    for (const listener of listeners) {
      try {
        ;(listener as unknown as Listener<Events[Name]>)(...args)
      } catch (error) {
        report(error)
      }
    }
  }
}
