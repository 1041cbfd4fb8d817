/** One line of the doctor: all well, worth knowing, or in the way of a start. */
export interface Finding {
  readonly mark: "✓" | "!" | "✗"
  readonly text: string
}

/** All well. */
export const good = (text: string): Finding => ({ mark: "✓", text })
/** Worth knowing. */
export const note = (text: string): Finding => ({ mark: "!", text })
/** In the way of a start. */
export const bad = (text: string): Finding => ({ mark: "✗", text })
