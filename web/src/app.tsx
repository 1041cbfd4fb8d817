/** The page: a login, or the list beside the open conversation (one of the two where there is no room for both). */
import { effect } from "@preact/signals"
import type { JSX } from "preact"
import { Banner } from "./banner.tsx"
import { List } from "./list.tsx"
import { LoginForm } from "./login.tsx"
import { isOurs, session, unreadTotal } from "./model.ts"
import { goToList, openConv } from "./route.ts"
import { Thread } from "./thread.tsx"
import { announcement, dismiss, toasts } from "./toasts.ts"
import { Close } from "./icons.tsx"

effect(() => {
  document.title = unreadTotal.value > 0 ? `(${unreadTotal.value}) Darda` : "Darda"
})

export const App = (): JSX.Element => (
  <>
    {session.value === undefined ? <LoginForm /> : <Chat />}
    <div class="toasts" role="alert">
      {toasts.value.map(({ id, text }) => (
        <div class="toast" key={id}>
          <span>{text}</span>
          <button type="button" class="icon-button" aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Close />
          </button>
        </div>
      ))}
    </div>
    <div class="only-read" aria-live="polite">
      {announcement.value}
    </div>
  </>
)

const Chat = (): JSX.Element => {
  const conv = openConv.value
  return (
    <div class={conv === undefined ? "chat" : "chat has-thread"}>
      <Banner />
      <List />
      <main class="main">
        {conv === undefined ? (
          <div class="empty">
            <p>Choose a conversation, or start a new one.</p>
          </div>
        ) : isOurs(conv) ? (
          <Thread key={conv} conv={conv} />
        ) : (
          <NoSuch />
        )}
      </main>
    </div>
  )
}

const NoSuch = (): JSX.Element => (
  <div class="empty">
    <p>This address leads to no conversation of yours.</p>
    <button type="button" class="button" onClick={goToList}>
      Back to the list
    </button>
  </div>
)
