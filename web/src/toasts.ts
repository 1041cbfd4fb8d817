/** Short words on what went wrong, which go by themselves. */
import { signal } from "@preact/signals"

/** One of them. */
export interface Toast {
  readonly id: number
  readonly text: string
}

const SHOWN_MS = 7_000
const MOST = 3

/** Those that are shown now, the oldest first. */
export const toasts = signal<readonly Toast[]>([])
/** What a screen reader should say next. */
export const announcement = signal("")

let ids = 0

/** Shows a text for some seconds. */
export const toast = (text: string): void => {
  const id = ++ids
  toasts.value = [...toasts.value, { id, text }].slice(-MOST)
  setTimeout(() => dismiss(id), SHOWN_MS)
}

/** Takes one away. */
export const dismiss = (id: number): void => {
  toasts.value = toasts.value.filter((other) => other.id !== id)
}

/** Has a text read out. */
export const announce = (text: string): void => {
  announcement.value = text
}
