import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"

/** A change of one source file while it is loaded. Nothing of it is in the file. */
export interface Substitution {
  /** Path from the root of the repository. */
  readonly file: string
  readonly find: string | RegExp
  readonly replace: string
}

/** Another value for a constant at the top of a file. */
export const constant = (file: string, name: string, value: string | number): Substitution => ({
  file,
  find: new RegExp(`const ${name}( =|: [^=\\n]+ =) [^\\n]+`),
  replace: `const ${name} = ${typeof value === "number" ? value : JSON.stringify(value)}`
})

const root = new URL("../../", import.meta.url)

/**
 * Changes sources as this process loads them. Throws where a text is not found, or found more than once: a change that changes nothing would
 * show that everything is fine.
 *
 * Answers a check that every changed file was loaded at all.
 */
export const substitute = (substitutions: ReadonlyArray<Substitution>): (() => void) => {
  const waiting = new Map(Map.groupBy(substitutions, ({ file }) => new URL(file, root).href))
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context)
      const changes = waiting.get(url)
      if (changes === undefined) return loaded
      waiting.delete(url)
      let source = loaded.source?.toString() ?? ""
      for (const { file, find, replace } of changes) {
        const parts = source.split(find)
        if (typeof find === "string" ? parts.length !== 2 : !find.test(source)) {
          throw new Error(`${file} does not hold this text exactly once: ${String(find)}`)
        }
        source = typeof find === "string" ? parts.join(replace) : source.replace(find, replace)
      }
      return { ...loaded, source }
    }
  })
  return () => {
    if (waiting.size > 0)
      throw new Error(`Not loaded: ${[...waiting.keys()].map((url) => fileURLToPath(url)).join(", ")}`)
  }
}
