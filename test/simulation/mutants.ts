import type { Substitution } from "./substitutions.ts"

/** A deliberately broken build, and the invariant that it breaks. */
export interface Mutant {
  readonly name: string
  readonly invariant: string
  /** What is wrong with it. */
  readonly what: string
  readonly substitutions: ReadonlyArray<Substitution>
  /** Whether it shows with small limits only. */
  readonly tight?: boolean
}

export const mutants: ReadonlyArray<Mutant> = []
