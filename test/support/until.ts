const LOOK_EVERY_MS = 20

/** Waits until `look` finds something; fails after `ms` with what `hint` has to say. */
export const until = async <A>(
  what: string,
  ms: number,
  look: () => A | undefined | false | Promise<A | undefined | false>,
  hint: () => string = () => ""
): Promise<A> => {
  for (const deadline = performance.now() + ms; ;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadline) throw new Error(`Waited ${ms} ms in vain for this: ${what}.\n${hint()}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}
