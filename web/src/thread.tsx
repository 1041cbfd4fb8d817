/** A conversation: its head, its messages, and where one writes. */
import type { JSX } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"
import { type Conversation, DardaError, otherMember } from "../../src/client/index.ts"
import type { FoldedMessage, PresenceState } from "../../src/domain/protocol/server-frames.ts"
import { Composer } from "./composer.tsx"
import { lastSeenText, names, titleOf } from "./format.ts"
import { Back, People } from "./icons.tsx"
import { type MenuAt, MessageMenu } from "./menu.tsx"
import { Members } from "./members.tsx"
import { left, me, openRevision, presenceOf, session, status, watch } from "./model.ts"
import { Avatar } from "./parts.tsx"
import { loadRoster, roster } from "./roster.ts"
import { goToList } from "./route.ts"
import { Timeline } from "./timeline.tsx"
import { announce } from "./toasts.ts"
import type { Writing } from "./writing.ts"

const NEW: Writing = { kind: "new" }

/** Back to the list, on the line of the conversation that was open. */
const leave = (conv: string): void => {
  goToList()
  requestAnimationFrame(() => {
    const lines = [...document.querySelectorAll<HTMLElement>(".lines a")]
    const line = lines.find((other) => other.dataset["conv"] === conv) ?? lines[0]
    line?.focus()
  })
}

export const Thread = ({ conv }: { readonly conv: string }): JSX.Element | null => {
  void openRevision.value
  const current = session.value
  const timeline = useRef<Timeline>(null)
  const [problem, setProblem] = useState("")
  const [writing, setWriting] = useState<Writing>(NEW)
  const [menu, setMenu] = useState<MenuAt>()
  const [showMembers, setShowMembers] = useState(false)
  const gone = left.value.has(conv)
  const connected = status.value.state === "open"
  const loaded = current?.store.conversations.get(conv)?.loaded === true

  useEffect(() => {
    if (current === undefined || gone) return
    return () => {
      current.store.close(conv)
      current.client.typing(conv, false)
    }
  }, [current, conv, gone])

  // Also after what failed while there was no connection.
  useEffect(() => {
    if (current === undefined || gone || loaded || !connected) return
    current.store.open(conv).then(
      () => setProblem(""),
      (cause: unknown) => {
        // Anything else is tried again when there is a connection again.
        if (cause instanceof DardaError && cause.code === "not_found")
          setProblem("This conversation is not here, or not for you.")
      }
    )
  }, [current, conv, gone, loaded, connected])

  useEffect(() => {
    if (current === undefined || gone) return
    const other = otherMember(conv, me.value)
    if (other !== undefined) watch([other])
    else void loadRoster(current, conv)
    return current.client.on("event", (event) => {
      if (event.conv !== conv) return
      if (event.type === "members") void loadRoster(current, conv)
      if (event.type === "message" && event.by !== me.value) announce(`${event.by}: ${event.data.body.slice(0, 200)}`)
    })
  }, [current, conv, gone])

  if (current === undefined) return null
  if (gone || problem !== "") {
    return (
      <div class="empty">
        <p>{gone ? "You are not a member of this group any more." : problem}</p>
        <button type="button" class="button" onClick={() => leave(conv)}>
          Back to the list
        </button>
      </div>
    )
  }

  const conversation = current.store.conversation(conv)
  const title = titleOf(conversation, me.value)
  const openMenu = (message: FoldedMessage, anchor: HTMLElement): void => setMenu({ message, anchor })
  return (
    <section
      class="thread"
      aria-label={`Conversation: ${title}`}
      onKeyDown={(event) => {
        if (event.key === "Escape" && !event.defaultPrevented && !event.isComposing) leave(conv)
      }}
    >
      <Head conversation={conversation} title={title} onMembers={() => setShowMembers(true)} />
      <Timeline
        handle={timeline}
        conversation={conversation}
        title={title}
        me={me.value}
        session={current}
        onMenu={openMenu}
      />
      <Composer
        key={conv}
        conv={conv}
        session={current}
        writing={writing}
        onDone={() => setWriting(NEW)}
        onSent={() => timeline.current?.sent()}
        onUp={() => timeline.current?.focusLast()}
      />
      {menu !== undefined && (
        <MessageMenu
          at={menu}
          session={current}
          me={me.value}
          isAdmin={
            roster.value?.conv === conv && roster.value.members.some(({ user, admin }) => admin && user === me.value)
          }
          onClose={() => setMenu(undefined)}
          onWrite={setWriting}
        />
      )}
      {showMembers && <Members conversation={conversation} session={current} onClose={() => setShowMembers(false)} />}
    </section>
  )
}

const Head = (props: {
  readonly conversation: Conversation
  readonly title: string
  readonly onMembers: () => void
}): JSX.Element => {
  const { conversation, title, onMembers } = props
  const other = otherMember(conversation.conv, me.value)
  const presence = presenceOf(other)
  const isGroup = conversation.kind === "group"
  return (
    <header class="thread-head">
      <button
        type="button"
        class="icon-button back"
        aria-label="Back to the list"
        onClick={() => leave(conversation.conv)}
      >
        <Back />
      </button>
      <Avatar name={other ?? conversation.conv} group={isGroup} online={presence?.online} />
      <div class="thread-title">
        <h2 dir="auto">{title}</h2>
        <p class="muted">{isGroup ? groupLine(conversation) : presenceLine(presence)}</p>
      </div>
      {isGroup && (
        <button
          type="button"
          class="icon-button"
          aria-label="Members and title"
          title="Members and title"
          onClick={onMembers}
        >
          <People />
        </button>
      )}
    </header>
  )
}

const presenceLine = (presence: PresenceState | undefined): string =>
  presence === undefined
    ? ""
    : presence.online
      ? "online"
      : presence.lastSeen === undefined
        ? ""
        : lastSeenText(presence.lastSeen)

const groupLine = ({ conv, members }: Conversation): string => {
  if (members !== undefined) return names([...members.filter((user) => user !== me.value), "you"], 4)
  const known = roster.value?.conv === conv ? roster.value : undefined
  return known === undefined ? "" : `${known.members.length}${known.next === undefined ? "" : "+"} members`
}
