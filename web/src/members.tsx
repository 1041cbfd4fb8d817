/** A group's title and members. */
import type { JSX } from "preact"
import { useEffect, useState } from "preact/hooks"
import { type Conversation, isUserId } from "../../src/client/index.ts"
import { clean, titleOf } from "./format.ts"
import { Close } from "./icons.tsx"
import { me, presenceOf, type Session, watch } from "./model.ts"
import { Avatar, Dialog, namesIn, wrongName } from "./parts.tsx"
import { loadRoster, roster } from "./roster.ts"
import { goToList } from "./route.ts"

export const Members = (props: {
  readonly conversation: Conversation
  readonly session: Session
  readonly onClose: () => void
}): JSX.Element => {
  const { conversation, session, onClose } = props
  const { conv } = conversation
  const [title, setTitle] = useState(conversation.title ?? "")
  const [added, setAdded] = useState("")
  const [problem, setProblem] = useState("")
  const [sure, setSure] = useState("")
  const [busy, setBusy] = useState(false)
  const known = roster.value?.conv === conv ? roster.value : undefined
  const isAdmin = known?.members.some(({ user, admin }) => admin && user === me.value) === true

  useEffect(() => {
    if (known !== undefined) watch(known.members.map(({ user }) => user))
  }, [known])

  const run = async (what: () => Promise<unknown>): Promise<boolean> => {
    setBusy(true)
    setProblem("")
    setSure("")
    try {
      await what()
      return true
    } catch (cause) {
      setProblem(cause instanceof Error ? cause.message : String(cause))
      return false
    } finally {
      setBusy(false)
    }
  }

  const rename = (): void => {
    const name = clean(title).trim()
    if (name !== "" && name !== conversation.title) void run(() => session.client.title({ conv, title: name }))
  }

  const add = async (): Promise<void> => {
    const users = namesIn(added)
    const wrong = users.length === 0 ? "Please write a name." : wrongName(users, isUserId)
    if (wrong !== undefined) setProblem(wrong)
    else if (await run(() => session.client.members({ conv, add: users }))) setAdded("")
  }

  const leave = async (): Promise<void> => {
    if (await run(() => session.client.leave(conv))) goToList()
  }

  return (
    <Dialog title={titleOf(conversation, me.value)} class="side" onClose={onClose}>
      <div class="form">
        <form
          class="field-row"
          onSubmit={(event) => {
            event.preventDefault()
            rename()
          }}
        >
          <label class="field">
            <span>Title</span>
            <input value={title} maxLength={200} dir="auto" onInput={(event) => setTitle(event.currentTarget.value)} />
          </label>
          <button
            type="submit"
            class="button"
            disabled={busy || title.trim() === "" || title.trim() === conversation.title}
          >
            Rename
          </button>
        </form>
        <form
          class="field-row"
          onSubmit={(event) => {
            event.preventDefault()
            void add()
          }}
        >
          <label class="field">
            <span>Add members</span>
            <input
              value={added}
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              placeholder="Names"
              onInput={(event) => setAdded(event.currentTarget.value)}
            />
          </label>
          <button type="submit" class="button" disabled={busy}>
            Add
          </button>
        </form>
        <p class="problem" role="alert">
          {problem}
        </p>
        <h3 id="members-title">
          Members{known === undefined ? "" : ` (${known.members.length}${known.next === undefined ? "" : "+"})`}
        </h3>
        <ul class="members" aria-labelledby="members-title">
          {(known?.members ?? []).map(({ user, admin }) => (
            <li key={user}>
              <Avatar name={user} online={presenceOf(user)?.online} />
              <span class="member-name">
                {user}
                {user === me.value && <span class="muted"> (you)</span>}
              </span>
              {admin && <span class="tag">admin</span>}
              {isAdmin && user !== me.value && (
                <button
                  type="button"
                  class={sure === user ? "button danger" : "icon-button"}
                  aria-label={sure === user ? `Really remove ${user}` : `Remove ${user}`}
                  disabled={busy}
                  onClick={() =>
                    sure === user ? void run(() => session.client.members({ conv, remove: [user] })) : setSure(user)
                  }
                >
                  {sure === user ? "Remove?" : <Close />}
                </button>
              )}
            </li>
          ))}
        </ul>
        {known?.next !== undefined && (
          <button type="button" class="link" onClick={() => void loadRoster(session, conv, true)}>
            Show more
          </button>
        )}
        <button
          type="button"
          class="button danger wide"
          disabled={busy}
          onClick={() => (sure === "leave" ? void leave() : setSure("leave"))}
        >
          {sure === "leave" ? "Really leave?" : "Leave group"}
        </button>
      </div>
    </Dialog>
  )
}
