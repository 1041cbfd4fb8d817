/** The conversation list. */
import type { JSX } from "preact"
import { useRef, useState } from "preact/hooks"
import { type Conversation, otherMember } from "../../src/client/index.ts"
import { listTime, names, preview, titleOf } from "./format.ts"
import { Clock, Leave, Plus } from "./icons.tsx"
import { listed, listState, loadList, logOut, me, presenceOf } from "./model.ts"
import { NewChat } from "./new-chat.tsx"
import { Avatar } from "./parts.tsx"
import { hrefOf, openConv } from "./route.ts"
import { MessageTick } from "./ticks.tsx"

/** Lines drawn at first, and how many more with each scroll to their end. */
const STEP = 50
const NEAR_END_PX = 400

/** Moves the focus among the lines. */
const move = (list: HTMLElement, key: string): boolean => {
  const lines = [...list.querySelectorAll<HTMLElement>("a")]
  const at = lines.indexOf(document.activeElement as HTMLElement)
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 }[key]
  if (to === undefined) return false
  lines[Math.min(lines.length - 1, Math.max(0, to))]?.focus()
  return true
}

export const List = (): JSX.Element => {
  const [isNew, setNew] = useState(false)
  const [shown, setShown] = useState(STEP)
  const loading = useRef(false)
  const conversations = listed.value
  const open = openConv.value
  const lines = conversations.slice(0, shown)
  const tabStop = lines.some(({ conv }) => conv === open) ? open : lines[0]?.conv

  const more = (list: HTMLElement): void => {
    if (list.scrollHeight - list.scrollTop - list.clientHeight > NEAR_END_PX) return
    if (shown < conversations.length) return setShown(shown + STEP)
    if (listState.value !== "more" || loading.current) return
    loading.current = true
    void loadList().finally(() => {
      loading.current = false
      setShown((before) => before + STEP)
    })
  }

  return (
    <nav class="list" aria-label="Conversations">
      <header class="list-head">
        <Avatar name={me.value} />
        <h1 title={me.value}>{me.value}</h1>
        <button type="button" class="icon-button" aria-label="Log out" title="Log out" onClick={logOut}>
          <Leave />
        </button>
        <button
          type="button"
          class="icon-button accent"
          aria-label="New chat"
          title="New chat"
          onClick={() => setNew(true)}
        >
          <Plus />
        </button>
      </header>
      <ul
        class="lines"
        onScroll={(event) => more(event.currentTarget)}
        onKeyDown={(event) => {
          if (move(event.currentTarget, event.key)) event.preventDefault()
        }}
      >
        {lines.map((conversation) => (
          <Line
            key={conversation.conv}
            conversation={conversation}
            version={conversation.version}
            online={presenceOf(otherMember(conversation.conv, me.value))?.online === true}
            isOpen={conversation.conv === open}
            tabStop={conversation.conv === tabStop}
          />
        ))}
      </ul>
      {conversations.length === 0 && <Nothing onNew={() => setNew(true)} />}
      {isNew && <NewChat onClose={() => setNew(false)} />}
    </nav>
  )
}

const Nothing = ({ onNew }: { readonly onNew: () => void }): JSX.Element =>
  listState.value === "loading" ? (
    <p class="list-empty muted late">Loading conversations…</p>
  ) : (
    <div class="list-empty">
      <p class="muted">No conversations yet.</p>
      <button type="button" class="button primary" onClick={onNew}>
        Start a chat
      </button>
    </div>
  )

interface LineProps {
  readonly conversation: Conversation
  /** The conversation is the same object for ever: this tells that it has to be drawn anew. */
  readonly version: number
  readonly online: boolean
  readonly isOpen: boolean
  readonly tabStop: boolean
}

const Line = ({ conversation, online, isOpen, tabStop }: LineProps): JSX.Element => {
  const { conv, kind, last, unread } = conversation
  const user = me.value
  const title = titleOf(conversation, user)
  const other = otherMember(conv, user)
  const pending = conversation.outgoing.findLast(({ frame }) => frame.t === "send")
  const at = pending === undefined ? last?.at : undefined
  return (
    <li>
      <a
        href={hrefOf(conv)}
        class={unread > 0 ? "line unread" : "line"}
        data-conv={conv}
        tabIndex={tabStop ? 0 : -1}
        aria-current={isOpen ? "page" : undefined}
      >
        <Avatar name={kind === "dm" ? (other ?? title) : conv} group={kind === "group"} online={online} />
        <span class="line-title" dir="auto">
          {title}
        </span>
        {online && <span class="only-read">, online</span>}
        <time class="line-time">{at === undefined ? "" : listTime(at)}</time>
        <span class="line-text">
          {conversation.typing.size > 0 ? (
            <span class="typing-text">
              {kind === "dm" ? "typing…" : `${names([...conversation.typing.keys()], 1)} typing…`}
            </span>
          ) : pending?.frame.t === "send" ? (
            <>
              <span class="tick">
                <Clock />
              </span>
              <span dir="auto">{pending.frame.body.slice(0, 200)}</span>
            </>
          ) : last === undefined ? (
            <span class="muted">No messages yet</span>
          ) : (
            <>
              {/* How far it got is known of conversations that were opened. */}
              {last.by === user && last.deleted !== true && conversation.loaded && (
                <MessageTick conversation={conversation} seq={last.seq} me={user} />
              )}
              {kind === "group" && last.by !== user && <span class="line-by">{last.by}: </span>}
              <span dir="auto" class={last.deleted === true ? "deleted" : ""}>
                {preview(last)}
              </span>
            </>
          )}
        </span>
        {unread > 0 && (
          <span class="badge" aria-label={`${unread} unread`}>
            {unread > 999 ? "999+" : unread}
          </span>
        )}
      </a>
    </li>
  )
}
