/**
 * Schemas of the ids and values of the protocol. Each `expected` is the end of the sentence "expected ...", for a person
 * who wrote a client.
 */
import * as Schema from "effect/Schema"
import { hasAtMost, isConversationId, isWellFormedText, TOKEN_PATTERN, USER_PATTERN } from "../ids.ts"
import { EMOJI_CHARS, RID_CHARS, TITLE_CHARS } from "./limits.ts"

const text = (expected: string, isValid: (value: string) => boolean) =>
  Schema.String.annotate({ expected }).check(Schema.makeFilter(isValid, { expected }))

const integer = (expected: string, minimum: number, maximum = Number.MAX_SAFE_INTEGER) =>
  Schema.Number.annotate({ expected }).check(
    Schema.makeFilter((value: number) => Number.isSafeInteger(value) && value >= minimum && value <= maximum, {
      expected
    })
  )

/** What a `kind` of a message may be: a short word that clients can use as a key, or a media type. */
export const KIND_PATTERN = /^[A-Za-z0-9._:/+-]{1,64}$/

/** Form of a `UserId`. */
export const UserIdForm = text("a user id: 1 to 128 of A-Z a-z 0-9 _ . @ | + = ~ -", (value) =>
  USER_PATTERN.test(value)
)
/** Form of a `ConversationId`. */
export const ConversationIdForm = text(
  "a conversation id: dm:<a>:<b> with the users sorted by code unit, or g:<uuid> in lower case",
  isConversationId
)
/** Form of a `ClientId`. */
export const ClientIdForm = text("a cid: 1 to 64 of A-Z a-z 0-9 _ -", (value) => TOKEN_PATTERN.test(value))
/** Form of a `DeviceId`. */
export const DeviceIdForm = text("a device id: 1 to 64 of A-Z a-z 0-9 _ -", (value) => TOKEN_PATTERN.test(value))
/** Form of a `rid`: any text of up to 64 characters, it is only echoed. */
export const RidForm = text(`a text of up to ${RID_CHARS} characters`, (value) => isRid(value))
/** Form of a `Seq`. */
export const SeqForm = integer("a seq: an integer from 1", 1)
/** Form of "after this seq", where 0 means from the first event. */
export const AfterForm = integer("a seq, or 0 for the beginning", 0)
/** Form of a `limit` with this maximum. */
export const limitForm = (max: number) => integer(`an integer from 1 to ${max}`, 1, max)

/** Form of a body; its length is a setting and judged apart (`too_large`). */
export const BodyForm = text(
  "a text that is not empty, without NUL and without lone surrogates",
  (value) => value.length > 0 && isWellFormedText(value)
)
/** Form of a title. */
export const TitleForm = text(
  `a text of 1 to ${TITLE_CHARS} characters, without NUL and without lone surrogates`,
  (value) => value.length > 0 && hasAtMost(value, TITLE_CHARS) && isWellFormedText(value)
)
/** Form of an emoji: short text rather than one code point, because flags and families are many. */
export const EmojiForm = text(
  `a text of 1 to ${EMOJI_CHARS} characters, without NUL and without lone surrogates`,
  (value) => value.length > 0 && hasAtMost(value, EMOJI_CHARS) && isWellFormedText(value)
)
/** Form of a message's `kind`. */
export const KindForm = text("a kind: 1 to 64 of A-Z a-z 0-9 . _ : / + -", (value) => KIND_PATTERN.test(value))
/** Form of a credential: not empty; what it says is judged elsewhere. */
export const SecretForm = text("a text that is not empty", (value) => value.length > 0)
/** Form of an opaque value that the server gave out (`cursor`, `after` of `convs`). */
export const OpaqueForm = Schema.String.annotate({ expected: "a text that the server gave out" })
/** Form of a flag. */
export const FlagForm = Schema.Boolean.annotate({ expected: "true or false" })

/** Form of a list of at most `max` users. */
export const usersForm = (max: number) => {
  const expected = `an array of at most ${max} user ids`
  return Schema.Array(UserIdForm)
    .annotate({ expected })
    .check(Schema.makeFilter((users: readonly string[]) => users.length <= max, { expected }))
}

/** Whether a value can be echoed as a `rid`. */
export const isRid = (value: unknown): value is string => typeof value === "string" && hasAtMost(value, RID_CHARS)
