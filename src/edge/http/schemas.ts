/** The forms of parameters and bodies, and the shapes of answers, as the API describes them. */
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import {
  AfterForm,
  BodyForm,
  ClientIdForm,
  ConversationIdForm,
  KindForm,
  limitForm,
  OpaqueForm,
  SeqForm,
  TitleForm,
  UserIdForm,
  usersForm
} from "../../domain/protocol/forms.ts"
import { isUserId } from "../../domain/ids.ts"
import { MEMBERS_PER_FRAME, PAGES, PRESENCE_USERS } from "../../domain/protocol/limits.ts"
import type {
  ConversationItem,
  ErrorCode,
  FoldedMessage,
  Member,
  PresenceState,
  ReplyBody,
  Watermarks
} from "../../domain/protocol/server-frames.ts"
import { PROBLEM_TYPE } from "./problems.ts"

const described = (description: string) => ({ description })

/** A whole number in a query. Number() alone would take " 1 ", "0x10" and "1e3", which nobody means. */
const digits = (form: Schema.Codec<number>, description: string) =>
  Schema.String.annotate(described(description)).pipe(
    Schema.decodeTo(
      form,
      SchemaTransformation.transform({
        decode: (text) => (/^\d{1,16}$/.test(text) ? Number(text) : Number.NaN),
        encode: String
      })
    )
  )

const limitOf = ({ default: usual, max }: { readonly default: number; readonly max: number }) =>
  Schema.optionalKey(digits(limitForm(max), `How many at most: 1 to ${max}, ${usual} when not given`))

const USERS = `1 to ${PRESENCE_USERS} user ids, separated by commas`
const users = Schema.String.annotate({ description: USERS, expected: USERS })
  .check(
    Schema.makeFilter(
      (text) => text.split(",", PRESENCE_USERS + 1).length <= PRESENCE_USERS && text.split(",").every(isUserId),
      {
        expected: USERS
      }
    )
  )
  .pipe(
    Schema.decodeTo(
      Schema.Array(Schema.String),
      SchemaTransformation.transform({
        decode: (text): ReadonlyArray<string> => text.split(","),
        encode: (list) => list.join(",")
      })
    )
  )

export const ConversationPath = Schema.Struct({
  conv: ConversationIdForm.annotate(described("dm:<a>:<b> with the two users sorted by code unit, or g:<uuid>"))
})
export const ConversationsQuery = Schema.Struct({
  after: Schema.optionalKey(OpaqueForm.annotate(described("The `next` of the page before"))),
  limit: limitOf(PAGES.convs)
})
export const HistoryQuery = Schema.Struct({
  before: Schema.optionalKey(digits(SeqForm, "Messages below this seq")),
  after: Schema.optionalKey(digits(AfterForm, "Messages above this seq; 0 for the first ones")),
  around: Schema.optionalKey(digits(SeqForm, "Messages on both sides of this seq")),
  limit: limitOf(PAGES.history)
}).check(
  Schema.makeFilter(({ after, around, before }) => [after, around, before].filter((v) => v !== undefined).length <= 1, {
    expected: "at most one of before, after and around"
  })
)
export const MembersQuery = Schema.Struct({
  after: Schema.optionalKey(UserIdForm.annotate(described("The `next` of the page before"))),
  limit: limitOf(PAGES.roster)
})
export const PresenceQuery = Schema.Struct({ users })

export const DevTokenBody = Schema.Struct({ user: UserIdForm })
export const CreateBody = Schema.Struct({
  cid: ClientIdForm,
  members: usersForm(MEMBERS_PER_FRAME),
  title: Schema.optionalKey(TitleForm)
})
export const SendBody = Schema.Struct({
  cid: ClientIdForm,
  body: BodyForm,
  kind: Schema.optionalKey(KindForm),
  replyTo: Schema.optionalKey(SeqForm)
})

const millis = Schema.Finite.annotate(described("Milliseconds since 1970 UTC, by the server's clock"))
const seq = Schema.Finite.annotate(described("Counts the events of a conversation, from 1"))
const reached = Schema.Finite.annotate(described("A seq, or 0 for none"))
const optional = Schema.optionalKey

export const DevToken = Schema.Struct({ token: Schema.String, expiresAt: millis })
export const Ticket = Schema.Struct({ ticket: Schema.String, expiresAt: millis })
export const Created: Schema.Codec<ReplyBody["create"]> = Schema.Struct({ conv: Schema.String, seq, at: millis })
export const Sent = Schema.Struct({ seq, at: millis })

const Message: Schema.Codec<FoldedMessage> = Schema.Struct({
  conv: Schema.String,
  seq,
  by: Schema.String,
  at: millis,
  cid: Schema.String,
  kind: Schema.String,
  body: optional(Schema.String.annotate(described("Absent when the message was deleted"))),
  replyTo: optional(seq),
  editedAt: optional(millis),
  deleted: optional(Schema.Literal(true)),
  reactions: optional(Schema.Record(Schema.String, Schema.Array(Schema.String)).annotate(described("Users by emoji")))
}).annotate({ identifier: "Message" })

const Marks: Schema.Codec<Watermarks> = Schema.Struct({ delivered: reached, seen: reached })

const Conversation: Schema.Codec<ConversationItem> = Schema.Struct({
  conv: Schema.String,
  kind: Schema.Literals(["dm", "group"]),
  title: optional(Schema.String),
  members: optional(Schema.Array(Schema.String).annotate(described("In conversations of up to 50"))),
  head: reached,
  seen: reached,
  unread: Schema.Finite.annotate(described("Messages by others after `seen`")),
  last: optional(Message)
}).annotate({ identifier: "Conversation" })

const MemberOf: Schema.Codec<Member> = Schema.Struct({
  user: Schema.String,
  admin: Schema.Boolean,
  since: millis
}).annotate({ identifier: "Member" })

const PresenceOf: Schema.Codec<PresenceState> = Schema.Struct({ online: Schema.Boolean, lastSeen: optional(millis) })

export const Conversations: Schema.Codec<ReplyBody["convs"]> = Schema.Struct({
  items: Schema.Array(Conversation),
  next: optional(Schema.String)
})
export const History: Schema.Codec<ReplyBody["history"]> = Schema.Struct({
  messages: Schema.Array(Message).annotate(described("Oldest first")),
  head: reached,
  more: Schema.Boolean,
  receipts: optional(Schema.Record(Schema.String, Marks).annotate(described("By user, in conversations of up to 50")))
})
export const Members: Schema.Codec<ReplyBody["roster"]> = Schema.Struct({
  members: Schema.Array(MemberOf),
  next: optional(Schema.String)
})
export const Presence: Schema.Codec<ReplyBody["presence"]> = Schema.Struct({
  users: Schema.Record(Schema.String, PresenceOf)
})
export const Alive = Schema.Struct({ status: Schema.Literal("ok") })

const codes: ReadonlyArray<ErrorCode> = [
  "bad_json",
  "bad_request",
  "unauthorized",
  "forbidden",
  "not_found",
  "conflict",
  "too_large",
  "rate_limited",
  "busy",
  "unavailable",
  "internal"
]

/** A refusal with this status, for the description of the API; `problem` makes the responses. */
export const problemSchema = (status: number, description: string) =>
  Schema.Struct({
    type: Schema.Literal("about:blank"),
    title: Schema.String,
    status: Schema.Literal(status),
    detail: Schema.String,
    code: Schema.Literals(codes),
    retryAfterMs: optional(Schema.Finite)
  })
    .annotate({ httpApiStatus: status, description })
    .pipe(HttpApiSchema.asJson({ contentType: PROBLEM_TYPE }))
