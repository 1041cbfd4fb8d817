/** The frames a client may send. The Schemas are the rules and the source of the types; `decode.ts` applies them. */
import * as Schema from "effect/Schema"
import {
  AfterForm,
  BodyForm,
  ClientIdForm,
  ConversationIdForm,
  DeviceIdForm,
  EmojiForm,
  FlagForm,
  KindForm,
  limitForm,
  OpaqueForm,
  RidForm,
  SecretForm,
  SeqForm,
  TitleForm,
  UserIdForm,
  usersForm
} from "./forms.ts"
import { isConversationId } from "../ids.ts"
import { MEMBERS_PER_FRAME, PAGES, PRESENCE_USERS, RESUME_SEQS } from "./limits.ts"

/** A rule about several fields of a frame, as a sentence that follows "expected". */
const rule = <T>(expected: string, holds: (frame: T) => boolean) => Schema.makeFilter(holds, { expected })

const count = (...given: readonly unknown[]): number => given.filter((value) => value !== undefined).length

const Seqs = Schema.Record(Schema.String, AfterForm).check(
  rule(
    `an object of at most ${RESUME_SEQS} conversation ids, each with a seq`,
    (seqs: Readonly<Record<string, number>>) => {
      const convs = Object.keys(seqs)
      return convs.length <= RESUME_SEQS && convs.every(isConversationId)
    }
  )
)

/** What a device has: everything up to `cursor`, and of the conversations it holds everything up to `seqs`. */
export const Resume = Schema.Struct({ cursor: OpaqueForm, seqs: Schema.optionalKey(Seqs) }).annotate({
  expected: "an object with cursor and perhaps seqs"
})
export type Resume = typeof Resume.Type

export const Hello = Schema.Struct({
  t: Schema.Literal("hello"),
  v: Schema.Literal(1).annotate({ expected: "1, the only version there is" }),
  token: Schema.optionalKey(SecretForm),
  ticket: Schema.optionalKey(SecretForm),
  device: DeviceIdForm,
  resume: Schema.optionalKey(Resume)
}).check(rule("exactly one of token and ticket", (frame) => count(frame.token, frame.ticket) === 1))
export type Hello = typeof Hello.Type

/** `kind` is "text" when absent. To a user who was never written to, `to` saves knowing the conversation's name. */
export const Send = Schema.Struct({
  t: Schema.Literal("send"),
  cid: ClientIdForm,
  conv: Schema.optionalKey(ConversationIdForm),
  to: Schema.optionalKey(UserIdForm),
  body: BodyForm,
  kind: Schema.optionalKey(KindForm),
  replyTo: Schema.optionalKey(SeqForm)
}).check(rule("exactly one of conv and to", (frame) => count(frame.conv, frame.to) === 1))
export type Send = typeof Send.Type

export const Edit = Schema.Struct({
  t: Schema.Literal("edit"),
  cid: ClientIdForm,
  conv: ConversationIdForm,
  target: SeqForm,
  body: BodyForm
})
export type Edit = typeof Edit.Type

export const Delete = Schema.Struct({
  t: Schema.Literal("delete"),
  cid: ClientIdForm,
  conv: ConversationIdForm,
  target: SeqForm
})
export type Delete = typeof Delete.Type

export const React = Schema.Struct({
  t: Schema.Literal("react"),
  cid: ClientIdForm,
  conv: ConversationIdForm,
  target: SeqForm,
  emoji: EmojiForm,
  on: FlagForm
})
export type React = typeof React.Type

export const Mark = Schema.Struct({
  t: Schema.Literal("mark"),
  conv: ConversationIdForm,
  delivered: Schema.optionalKey(SeqForm),
  seen: Schema.optionalKey(SeqForm)
}).check(rule("at least one of delivered and seen", (frame) => count(frame.delivered, frame.seen) > 0))
export type Mark = typeof Mark.Type

export const Create = Schema.Struct({
  t: Schema.Literal("create"),
  rid: RidForm,
  cid: ClientIdForm,
  members: usersForm(MEMBERS_PER_FRAME),
  title: Schema.optionalKey(TitleForm)
})
export type Create = typeof Create.Type

export const Members = Schema.Struct({
  t: Schema.Literal("members"),
  rid: RidForm,
  cid: ClientIdForm,
  conv: ConversationIdForm,
  add: Schema.optionalKey(usersForm(MEMBERS_PER_FRAME)),
  remove: Schema.optionalKey(usersForm(MEMBERS_PER_FRAME))
}).check(
  rule(`1 to ${MEMBERS_PER_FRAME} users in add and remove together`, (frame) => {
    const users = (frame.add?.length ?? 0) + (frame.remove?.length ?? 0)
    return users >= 1 && users <= MEMBERS_PER_FRAME
  })
)
export type Members = typeof Members.Type

export const Leave = Schema.Struct({
  t: Schema.Literal("leave"),
  rid: RidForm,
  cid: ClientIdForm,
  conv: ConversationIdForm
})
export type Leave = typeof Leave.Type

export const Title = Schema.Struct({
  t: Schema.Literal("title"),
  rid: RidForm,
  cid: ClientIdForm,
  conv: ConversationIdForm,
  title: TitleForm
})
export type Title = typeof Title.Type

export const Roster = Schema.Struct({
  t: Schema.Literal("roster"),
  rid: RidForm,
  conv: ConversationIdForm,
  after: Schema.optionalKey(UserIdForm),
  limit: Schema.optionalKey(limitForm(PAGES.roster.max))
})
export type Roster = typeof Roster.Type

export const Sync = Schema.Struct({
  t: Schema.Literal("sync"),
  rid: RidForm,
  conv: ConversationIdForm,
  after: AfterForm,
  limit: Schema.optionalKey(limitForm(PAGES.sync.max))
})
export type Sync = typeof Sync.Type

/** `after` may be 0: the first page of a conversation. */
export const History = Schema.Struct({
  t: Schema.Literal("history"),
  rid: RidForm,
  conv: ConversationIdForm,
  before: Schema.optionalKey(SeqForm),
  after: Schema.optionalKey(AfterForm),
  around: Schema.optionalKey(SeqForm),
  limit: Schema.optionalKey(limitForm(PAGES.history.max))
}).check(
  rule("at most one of before, after and around", (frame) => count(frame.before, frame.after, frame.around) <= 1)
)
export type History = typeof History.Type

export const Convs = Schema.Struct({
  t: Schema.Literal("convs"),
  rid: RidForm,
  after: Schema.optionalKey(OpaqueForm),
  limit: Schema.optionalKey(limitForm(PAGES.convs.max))
})
export type Convs = typeof Convs.Type

export const Typing = Schema.Struct({ t: Schema.Literal("typing"), conv: ConversationIdForm, on: FlagForm })
export type Typing = typeof Typing.Type

export const Presence = Schema.Struct({
  t: Schema.Literal("presence"),
  rid: RidForm,
  users: usersForm(PRESENCE_USERS),
  watch: Schema.optionalKey(FlagForm)
})
export type Presence = typeof Presence.Type

export const Refresh = Schema.Struct({ t: Schema.Literal("refresh"), rid: RidForm, token: SecretForm })
export type Refresh = typeof Refresh.Type

export const Ping = Schema.Struct({ t: Schema.Literal("ping") })
export type Ping = typeof Ping.Type

/** Every client frame by its `t`. */
export const clientFrames = {
  hello: Hello,
  send: Send,
  edit: Edit,
  delete: Delete,
  react: React,
  mark: Mark,
  create: Create,
  members: Members,
  leave: Leave,
  title: Title,
  roster: Roster,
  sync: Sync,
  history: History,
  convs: Convs,
  typing: Typing,
  presence: Presence,
  refresh: Refresh,
  ping: Ping
} as const

/** The values `t` may have in a client frame. */
export type ClientOp = keyof typeof clientFrames
/** Any frame a client may send; `t` tells them apart. */
export type ClientFrame = { [Op in ClientOp]: (typeof clientFrames)[Op]["Type"] }[ClientOp]
/** The frames that become an event and are answered by `ack` or `reply`. */
export type CommandFrame = Send | Edit | Delete | React | Create | Members | Leave | Title
