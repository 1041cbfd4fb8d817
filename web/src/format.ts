/** Times, names and texts as people read them. */
import { type Conversation, otherMember } from "../../src/client/index.ts"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })
const weekday = new Intl.DateTimeFormat("en", { weekday: "long" })
const day = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" })
const dayOfYear = new Intl.DateTimeFormat("en", { day: "numeric", month: "long", year: "numeric" })
const short = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "2-digit", year: "2-digit" })
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" })

const DAY_MS = 86_400_000

const midnight = (at: number): number => new Date(at).setHours(0, 0, 0, 0)

/** Days between then and today by the calendar; 0 for today, negative for what the server's clock has before ours. */
const daysAgo = (at: number): number => Math.round((midnight(Date.now()) - midnight(at)) / DAY_MS)

/** `14:05`. */
export const timeOfDay = (at: number): string => clock.format(at)

/** The whole of it, for a tooltip. */
export const fullTime = (at: number): string => full.format(at)

/** Whether a line belongs between two messages. */
export const isOtherDay = (before: number | undefined, at: number): boolean =>
  before === undefined || midnight(before) !== midnight(at)

/** What that line says. */
export const dayName = (at: number): string => {
  const days = daysAgo(at)
  if (days <= 0) return "Today"
  if (days === 1) return "Yesterday"
  return days < 300 ? day.format(at) : dayOfYear.format(at)
}

/** When, in the list: as short as can be. */
export const listTime = (at: number): string => {
  const days = daysAgo(at)
  if (days <= 0) return timeOfDay(at)
  if (days === 1) return "Yesterday"
  return days < 7 ? weekday.format(at) : short.format(at)
}

/** When somebody was here last. */
export const lastSeenText = (at: number): string => {
  const minutes = Math.floor((Date.now() - at) / 60_000)
  if (minutes < 1) return "last seen just now"
  if (minutes < 60) return `last seen ${minutes} min ago`
  const days = daysAgo(at)
  if (days <= 0) return `last seen at ${timeOfDay(at)}`
  return days === 1 ? `last seen yesterday at ${timeOfDay(at)}` : `last seen on ${short.format(at)}`
}

/** `Ann`, `Ann and Bo`, `Ann, Bo and 3 others`. */
export const names = (users: readonly string[], most = 2): string => {
  if (users.length <= 1) return users[0] ?? ""
  if (users.length <= most) return `${users.slice(0, -1).join(", ")} and ${users.at(-1) ?? ""}`
  const rest = users.length - most
  return `${users.slice(0, most).join(", ")} and ${rest} other${rest === 1 ? "" : "s"}`
}

/** What a conversation is called by the one who looks. */
export const titleOf = (conversation: Conversation, me: string): string => {
  if (conversation.kind === "dm") {
    const other = otherMember(conversation.conv, me)
    return other === me ? "Notes to myself" : (other ?? conversation.conv)
  }
  if (conversation.title !== undefined) return conversation.title
  const others = (conversation.members ?? []).filter((user) => user !== me)
  return others.length === 0 ? "Group" : names(others, 3)
}

/** A message in one line. */
export const preview = (message: FoldedMessage): string =>
  message.deleted === true ? "Message deleted" : (message.body ?? "").slice(0, 200).replace(/\s+/g, " ")

/** A piece of a text: as it is, or an address to link to. */
export interface Piece {
  readonly text: string
  readonly href?: string
}

/** Where a text has web addresses. Nothing else becomes a link, so that no text can name another scheme. */
export const pieces = (text: string): readonly Piece[] => {
  const found: Piece[] = []
  let from = 0
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/gi)) {
    const address = match[0].replace(/[.,;:!?)\]}*_~]+$/, "")
    if (!URL.canParse(address)) continue
    if (match.index > from) found.push({ text: text.slice(from, match.index) })
    found.push({ text: address, href: address })
    from = match.index + address.length
  }
  if (from < text.length) found.push({ text: text.slice(from) })
  return found
}

/** Whether a message is nothing but up to three emoji, which are shown large. */
export const isOnlyEmoji = (text: string): boolean => text.length <= 40 && /^\p{RGI_Emoji}{1,3}$/v.test(text)

/** Without what no server takes. */
export const clean = (text: string): string => text.toWellFormed().replaceAll("\u0000", "")

/** One of eight, the same for the same name everywhere. */
export const hue = (name: string): number => {
  let hash = 0
  for (let index = 0; index < name.length; index++) hash = (Math.imul(hash, 31) + name.charCodeAt(index)) | 0
  return (hash >>> 0) % 8
}

/** One or two letters for a name. */
export const initials = (name: string): string => {
  const words = name.split(/[\s._@|+=~-]+/).filter((word) => word !== "")
  const letters = words.length > 1 ? [words[0], words[1]] : [words[0]]
  return letters
    .map((word) => [...(word ?? "?")][0] ?? "?")
    .join("")
    .toUpperCase()
}
