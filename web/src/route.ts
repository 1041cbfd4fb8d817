/** What is shown, as the fragment of the address says: `#/` the list, `#/c/<conv>` a conversation. */
import { signal } from "@preact/signals"

const conversationOf = (hash: string): string | undefined => {
  if (!hash.startsWith("#/c/")) return undefined
  try {
    return decodeURIComponent(hash.slice(4)) || undefined
  } catch {
    return undefined
  }
}

/** The id of the conversation that is open; anything may be written in an address, so it need not be one. */
export const openConv = signal(conversationOf(location.hash))

/** The address of a conversation. */
export const hrefOf = (conv: string): string =>
  `#/c/${encodeURIComponent(conv).replaceAll("%3A", ":").replaceAll("%40", "@")}`

/** Opens a conversation. */
export const goTo = (conv: string): void => {
  location.hash = hrefOf(conv)
}

/** Shows the list; a step back could lead out of the app. */
export const goToList = (): void => {
  location.hash = "#/"
}

addEventListener("hashchange", () => {
  openConv.value = conversationOf(location.hash)
})
