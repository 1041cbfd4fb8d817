/** Messages as rows. */
import { Fragment, type JSX } from "preact"
import { type Command, type Conversation, shown } from "../../src/client/index.ts"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import { dayName, fullTime, hue, isOnlyEmoji, isOtherDay, pieces, preview, timeOfDay } from "./format.ts"
import { More } from "./icons.tsx"
import type { Session } from "./model.ts"
import { Avatar } from "./parts.tsx"
import { CommandTick, MessageTick } from "./ticks.tsx"

/** Messages of one person this close together are drawn as one block. */
const BLOCK_MS = 300_000
/** The store keeps this many messages of one conversation; see its `loadOlder`. */
const KEPT_MAX = 5_000

/** Whether there are older messages that there is no room for. */
export const isOlderHidden = ({ messages, more }: Conversation): boolean => more && messages.length >= KEPT_MAX

/** The key of a message's row: the same before and after it is persisted. */
export const keyOf = ({ by, cid }: { readonly by: string; readonly cid: string }): string => `${by}:${cid}`

/** The message of a seq among messages in order. */
export const bySeq = (messages: readonly FoldedMessage[], seq: number): FoldedMessage | undefined => {
  let [low, high] = [0, messages.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((messages[middle] as FoldedMessage).seq < seq) low = middle + 1
    else high = middle
  }
  return messages[low]?.seq === seq ? messages[low] : undefined
}

/** What rows have to know. */
export interface RowsContext {
  readonly conversation: Conversation
  readonly me: string
  readonly session: Session
  readonly focus: string | undefined
  readonly flash: string | undefined
  readonly newAfter: number
  readonly onMenu: (message: FoldedMessage, anchor: HTMLElement) => void
  readonly onJump: (seq: number) => void
}

interface Slice {
  readonly start: number
  readonly stop: number
  /** Whether what is not persisted yet follows. */
  readonly isEnd: boolean
}

/** One row's message, and what there is about it besides. */
interface Item {
  readonly message: FoldedMessage
  readonly command?: Command
  readonly isLive?: boolean
}

/** The rows of a part of the messages. */
export const Rows = (props: RowsContext & Slice): JSX.Element => {
  const { conversation, me, start, stop, isEnd } = props
  const items: Item[] = conversation.messages
    .slice(start, stop)
    .map((message) => ({ message: shown(conversation, message, me) }))
  if (isEnd) items.push(...unpersisted(conversation, me, props.session))
  const tabStop = items.some(({ message }) => keyOf(message) === props.focus) ? props.focus : undefined
  const firstNew = items.findIndex(({ message }) => message.seq > props.newAfter && message.by !== me)
  return (
    <>
      {items.map((item, index) => {
        const { message } = item
        const before = index > 0 ? items[index - 1]?.message : conversation.messages[start - 1]
        const after = items[index + 1]?.message
        const key = keyOf(message)
        return (
          <Fragment key={key}>
            {isOtherDay(before?.at, message.at) && (
              <li class="day" data-key={`day:${key}`}>
                <span>{dayName(message.at)}</span>
              </li>
            )}
            {index === firstNew && (
              <li class="new-line" data-key="new">
                <span>New messages</span>
              </li>
            )}
            <Row
              {...props}
              {...item}
              isFirst={index === firstNew || !isBlock(before, message)}
              isLast={after === undefined || !isBlock(message, after)}
              isTabStop={tabStop === undefined ? index === items.length - 1 : tabStop === key}
            />
          </Fragment>
        )
      })}
    </>
  )
}

/** What others sent that is not in the log yet, and one's own messages on their way. */
const unpersisted = (conversation: Conversation, me: string, session: Session): readonly Item[] => {
  const now = session.client.serverNow()
  const { conv } = conversation
  return [
    ...conversation.live.map(({ by, at, cid, data }): Item => ({
      message: { conv, seq: 0, by, at, cid, ...data },
      isLive: true
    })),
    ...conversation.outgoing.flatMap((command): readonly Item[] => {
      const { frame, cid } = command
      if (frame.t !== "send") return []
      const reply = frame.replyTo === undefined ? {} : { replyTo: frame.replyTo }
      return [
        {
          message: { conv, seq: 0, by: me, at: command.at ?? now, cid, kind: "text", body: frame.body, ...reply },
          command
        }
      ]
    })
  ]
}

const isBlock = (before: FoldedMessage | undefined, message: FoldedMessage): boolean =>
  before !== undefined &&
  before.by === message.by &&
  message.at - before.at < BLOCK_MS &&
  !isOtherDay(before.at, message.at)

interface RowProps extends RowsContext, Item {
  readonly isFirst: boolean
  readonly isLast: boolean
  readonly isTabStop: boolean
}

const Row = (props: RowProps): JSX.Element => {
  const { message, command, conversation, me, isFirst, isLast } = props
  const own = message.by === me
  const key = keyOf(message)
  const group = conversation.kind === "group"
  const classes = [
    "row",
    own ? "own" : "other",
    isFirst && "first",
    isLast && "last",
    group && !own && "with-avatar",
    props.isLive === true && "live",
    props.flash === key && "flash"
  ]
  return (
    <li
      class={classes.filter(Boolean).join(" ")}
      data-key={key}
      data-seq={message.seq}
      tabIndex={props.isTabStop ? 0 : -1}
    >
      {group && !own && isFirst && <Avatar name={message.by} />}
      <div class="block">
        <div class="line-of-bubble">
          <Bubble {...props} own={own} />
          {message.seq > 0 && message.deleted !== true && (
            <button
              type="button"
              class="icon-button actions"
              aria-label="Message actions"
              aria-haspopup="menu"
              tabIndex={-1}
              onClick={(event) => props.onMenu(message, event.currentTarget)}
            >
              <More />
            </button>
          )}
        </div>
        <Reactions {...props} />
        {command?.state === "failed" && <FailedLine {...props} command={command} />}
      </div>
    </li>
  )
}

const Bubble = (props: RowProps & { readonly own: boolean }): JSX.Element => {
  const { message, command, conversation, me, own, isFirst } = props
  const body = message.body ?? ""
  const big = message.replyTo === undefined && isOnlyEmoji(body)
  return (
    <div
      class={big ? "bubble big" : "bubble"}
      onContextMenu={(event) => {
        // A selection, a link: what the browser offers there is better.
        if (message.seq === 0 || message.deleted === true || getSelection()?.isCollapsed === false) return
        if (event.target instanceof Element && event.target.closest("a") !== null) return
        event.preventDefault()
        props.onMenu(message, event.currentTarget)
      }}
    >
      {conversation.kind === "group" && !own && isFirst && <p class={`by ink-${hue(message.by)}`}>{message.by}</p>}
      {own && <span class="only-read">You: </span>}
      {!own && !(conversation.kind === "group" && isFirst) && <span class="only-read">{message.by}: </span>}
      {message.replyTo !== undefined && <Quote {...props} seq={message.replyTo} />}
      {message.deleted === true ? (
        <span class="body deleted">Message deleted</span>
      ) : (
        <span class="body" dir="auto">
          {pieces(body).map(({ text, href }) =>
            href === undefined ? (
              text
            ) : (
              <a href={href} target="_blank" rel="noopener noreferrer nofollow">
                {text}
              </a>
            )
          )}
        </span>
      )}
      <span class="meta">
        {message.editedAt !== undefined && message.deleted !== true && (
          <span title={fullTime(message.editedAt)}>edited</span>
        )}
        <time dateTime={new Date(message.at).toISOString()} title={fullTime(message.at)}>
          {timeOfDay(message.at)}
        </time>
        {command !== undefined ? (
          <CommandTick command={command} />
        ) : (
          own && message.deleted !== true && <MessageTick conversation={conversation} seq={message.seq} me={me} />
        )}
      </span>
    </div>
  )
}

/** The message that is answered to, as far as it is here. */
const Quote = ({ conversation, me, seq, onJump }: RowProps & { readonly seq: number }): JSX.Element => {
  const found = bySeq(conversation.messages, seq)
  const message = found === undefined ? undefined : shown(conversation, found, me)
  return (
    <button
      type="button"
      class="quote"
      tabIndex={-1}
      aria-label="Show the message this answers"
      onClick={() => onJump(seq)}
    >
      <b>{message === undefined ? "An earlier message" : message.by === me ? "You" : message.by}</b>
      <span dir="auto">{message === undefined ? "Show it" : preview(message)}</span>
    </button>
  )
}

const Reactions = ({ message, me, session, conversation, isTabStop }: RowProps): JSX.Element | null => {
  const reactions = Object.entries(message.reactions ?? {})
  if (reactions.length === 0) return null
  return (
    <div class="reactions">
      {reactions.map(([emoji, users]) => {
        const mine = users.includes(me)
        return (
          <button
            key={emoji}
            type="button"
            class={mine ? "reaction mine" : "reaction"}
            aria-pressed={mine}
            aria-label={`${emoji}: ${users.join(", ")}`}
            title={users.join(", ")}
            tabIndex={isTabStop ? 0 : -1}
            onClick={() => session.client.react({ conv: conversation.conv, target: message.seq, emoji, on: !mine })}
          >
            <span>{emoji}</span>
            {users.length > 1 && <span>{users.length}</span>}
          </button>
        )
      })}
    </div>
  )
}

const FailedLine = ({ command, session, conversation }: RowProps & { readonly command: Command }): JSX.Element => (
  <p class="failed-line" role="alert">
    <span>Not sent: {command.error?.message ?? "refused"}</span>
    <button type="button" class="link" onClick={() => session.store.again(conversation.conv, command.cid)}>
      Try again
    </button>
    <button type="button" class="link" onClick={() => session.store.discard(conversation.conv, command.cid)}>
      Discard
    </button>
  </p>
)
