/** Where messages wait that are not sent yet. */
import type { KeyValueStorage } from "../../src/client/index.ts"

const LOCK = "darda.outbox"

/** One tab at a time has the storage that outlives it; the others keep theirs for themselves, so that none writes over another's. */
export const outboxStorage = async (): Promise<KeyValueStorage> => {
  try {
    if (navigator.locks === undefined) return localStorage
    const first = await new Promise<boolean>((resolve, reject) => {
      navigator.locks
        .request(LOCK, { ifAvailable: true }, (lock) => {
          resolve(lock !== null)
          // Held until the tab goes.
          return lock === null ? undefined : new Promise<void>(() => {})
        })
        .catch(reject)
    })
    return first ? localStorage : sessionStorage
  } catch {
    return sessionStorage
  }
}
