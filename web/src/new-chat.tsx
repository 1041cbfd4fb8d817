/** Starting a conversation: with one person by name, or with a group. */
import type { JSX } from "preact"
import { useState } from "preact/hooks"
import { dmConversation, isUserId, otherMember } from "../../src/client/index.ts"
import { clean } from "./format.ts"
import { listed, me, session } from "./model.ts"
import { Dialog, namesIn, wrongName } from "./parts.tsx"
import { goTo } from "./route.ts"

const SUGGESTED = 100

export const NewChat = ({ onClose }: { readonly onClose: () => void }): JSX.Element => {
  const [group, setGroup] = useState(false)
  const [who, setWho] = useState("")
  const [title, setTitle] = useState("")
  const [problem, setProblem] = useState("")
  const [busy, setBusy] = useState(false)

  const submit = async (): Promise<void> => {
    const users = group ? namesIn(who) : [who.trim()]
    const wrong = users[0] === undefined || users[0] === "" ? "Please write a name." : wrongName(users, isUserId)
    if (wrong !== undefined) return setProblem(wrong)
    if (!group) {
      goTo(dmConversation(me.value, users[0] as string))
      return onClose()
    }
    setBusy(true)
    setProblem("")
    try {
      const name = clean(title).trim()
      const made = await session.value?.client.create({ members: users, ...(name === "" ? {} : { title: name }) })
      if (made !== undefined) goTo(made.conv)
      onClose()
    } catch (cause) {
      setProblem(cause instanceof Error ? cause.message : String(cause))
      setBusy(false)
    }
  }

  const choice = (value: boolean, text: string): JSX.Element => (
    <label>
      <input
        type="radio"
        name="kind"
        checked={group === value}
        onChange={() => {
          setGroup(value)
          setProblem("")
        }}
      />
      <span>{text}</span>
    </label>
  )
  const people = listed.value.flatMap(({ conv }) => otherMember(conv, me.value) ?? []).slice(0, SUGGESTED)

  return (
    <Dialog title="New chat" onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          if (!busy) void submit()
        }}
      >
        <div class="choice" role="radiogroup" aria-label="Kind of chat">
          {choice(false, "One person")}
          {choice(true, "Group")}
        </div>
        {group && (
          <label class="field">
            <span>Title (may be empty)</span>
            <input value={title} maxLength={200} dir="auto" onInput={(event) => setTitle(event.currentTarget.value)} />
          </label>
        )}
        <label class="field">
          <span>{group ? "Names of the others, with spaces between" : "Name"}</span>
          <input
            type="text"
            autofocus
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            {...(group ? {} : { list: "people" })}
            value={who}
            aria-invalid={problem !== ""}
            aria-describedby="new-problem"
            onInput={(event) => setWho(event.currentTarget.value)}
          />
        </label>
        <datalist id="people">
          {people.map((user) => (
            <option key={user} value={user} />
          ))}
        </datalist>
        <p id="new-problem" class="problem" role="alert">
          {problem}
        </p>
        <button type="submit" class="button primary" disabled={busy}>
          {busy ? "One moment…" : group ? "Create group" : "Open chat"}
        </button>
      </form>
    </Dialog>
  )
}
