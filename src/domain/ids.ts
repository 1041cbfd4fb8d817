/**
 * The ids that everything is named by, and the forms they have. Plain strings: they are checked once, at the edge, and
 * trusted afterwards. No dependency, so that browsers may import this file; the Schemas are in `protocol/forms.ts`.
 */

/** A user as the identity provider names it (`sub`): 1 to 128 of `A-Z a-z 0-9 _ . @ | + = ~ -`. */
export type UserId = string
/** `dm:<a>:<b>` with the two users sorted by code unit, or `g:<uuid>` in lower case. */
export type ConversationId = string
/** The id a client gives to a command: 1 to 64 of `A-Z a-z 0-9 _ -`, unique per sender and conversation for ever. */
export type ClientId = string
/** Counts the timeline events of one conversation: 1, 2, 3, ... without a hole. */
export type Seq = number

/** The form of a `UserId`. */
export const USER_PATTERN = /^[A-Za-z0-9_.@|+=~-]{1,128}$/
/** The form of a `ClientId` and of a `DeviceId`. */
export const TOKEN_PATTERN = /^[A-Za-z0-9_-]{1,64}$/

const GROUP_PATTERN = /^g:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const DM_PATTERN = /^dm:([A-Za-z0-9_.@|+=~-]{1,128}):([A-Za-z0-9_.@|+=~-]{1,128})$/

/** Whether the text has the form of a user id; says nothing about whether anyone has it. */
export const isUserId = (text: string): text is UserId => USER_PATTERN.test(text)

/** Whether the text has the form of a client id. */
export const isClientId = (text: string): text is ClientId => TOKEN_PATTERN.test(text)

/** Whether the number counts an event: a safe integer from 1. */
export const isSeq = (value: number): value is Seq => Number.isSafeInteger(value) && value >= 1

/** What a conversation id says by itself. */
export type ParsedConversation =
  | { readonly kind: "dm"; readonly members: readonly [UserId, UserId] }
  | { readonly kind: "group"; readonly uuid: string }

/** Takes a conversation id apart; `undefined` when it has neither form (a dm whose users are not sorted has none). */
export const parseConversation = (conv: string): ParsedConversation | undefined => {
  if (GROUP_PATTERN.test(conv)) return { kind: "group", uuid: conv.slice(2) }
  const match = DM_PATTERN.exec(conv)
  if (match === null) return undefined
  const [, a, b] = match
  return a !== undefined && b !== undefined && a <= b ? { kind: "dm", members: [a, b] } : undefined
}

/**
 * Whether the text has the form of a conversation id. A group's uuid may be of any version here: only version 8 is ever
 * made, so another one is well formed and simply not found.
 */
export const isConversationId = (text: string): text is ConversationId => {
  if (text.charCodeAt(0) === 0x67) return GROUP_PATTERN.test(text)
  const colon = text.indexOf(":", 3)
  return DM_PATTERN.test(text) && text.slice(3, colon) <= text.slice(colon + 1)
}

/** The conversation of two users, the same whoever asks; with oneself it is `dm:a:a`. */
export const dmConversation = (a: UserId, b: UserId): ConversationId => (a <= b ? `dm:${a}:${b}` : `dm:${b}:${a}`)

/** Whether this is a conversation of two; expects a well-formed id. */
export const isDm = (conv: ConversationId): boolean => conv.startsWith("dm:")

/** The members of a dm, one for a dm with oneself; `undefined` for a group. */
export const dmMembers = (conv: ConversationId): readonly UserId[] | undefined => {
  const parsed = parseConversation(conv)
  if (parsed?.kind !== "dm") return undefined
  const [a, b] = parsed.members
  return a === b ? [a] : parsed.members
}

/** Whom `me` talks with in a dm (oneself in a dm with oneself); `undefined` for groups and for dms of others. */
export const otherMember = (conv: ConversationId, me: UserId): UserId | undefined => {
  const parsed = parseConversation(conv)
  if (parsed?.kind !== "dm") return undefined
  const [a, b] = parsed.members
  return a === me ? b : b === me ? a : undefined
}

/** Whether text can be stored and shown anywhere: no NUL and no lone surrogate. */
export const isWellFormedText = (text: string): boolean => text.isWellFormed() && !text.includes("\u0000")

/** How many characters (Unicode code points) a text has, as a person would count an emoji of one code point as one. */
export const countCharacters = (text: string): number => {
  let count = 0
  for (const _ of text) count++
  return count
}

/** Whether a text has at most this many characters. Counts only where the length in code units leaves a doubt. */
export const hasAtMost = (text: string, most: number): boolean =>
  text.length <= most || (text.length <= 2 * most && countCharacters(text) <= most)
