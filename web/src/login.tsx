/** Logging in: a name where the server takes names, else a token. */
import type { JSX } from "preact"
import { useState } from "preact/hooks"
import { loginProblem, start } from "./model.ts"
import { lastName, loginByName, loginByToken, LoginError } from "./session.ts"

export const LoginForm = (): JSX.Element => {
  const [byToken, setByToken] = useState(false)
  const [value, setValue] = useState(lastName)
  const [problem, setProblem] = useState("")
  const [busy, setBusy] = useState(false)

  const choose = (token: boolean, why: string): void => {
    setByToken(token)
    setValue(token ? "" : lastName())
    setProblem(why)
  }

  const submit = async (): Promise<void> => {
    setBusy(true)
    setProblem("")
    loginProblem.value = ""
    try {
      await start(byToken ? loginByToken(value.trim()) : await loginByName(value.trim()))
    } catch (cause) {
      if (cause instanceof LoginError && cause.noNames) choose(true, cause.message)
      else setProblem(cause instanceof Error ? cause.message : String(cause))
      setBusy(false)
    }
  }

  const shown = problem || loginProblem.value
  return (
    <main class="login">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void submit()
        }}
      >
        <img class="logo" src="/favicon.svg" alt="" width="56" height="56" />
        <h1>Darda</h1>
        <p class="muted">{byToken ? "Log in with a token." : "Choose a name and start to chat."}</p>
        {/* The key gives each kind a field of its own, so that a token is never offered as a name. */}
        <label key={String(byToken)} class="field">
          <span>{byToken ? "Token" : "Name"}</span>
          {byToken ? (
            <textarea
              rows={4}
              autofocus
              spellcheck={false}
              autocomplete="off"
              value={value}
              aria-invalid={shown !== ""}
              aria-describedby="login-problem"
              onInput={(event) => setValue(event.currentTarget.value)}
            />
          ) : (
            <input
              autofocus
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              value={value}
              aria-invalid={shown !== ""}
              aria-describedby="login-problem"
              onInput={(event) => setValue(event.currentTarget.value)}
            />
          )}
        </label>
        <p id="login-problem" class="problem" role="alert">
          {shown}
        </p>
        <button type="submit" class="button primary" disabled={busy}>
          {busy ? "One moment…" : "Log in"}
        </button>
        <button type="button" class="link" onClick={() => choose(!byToken, "")}>
          {byToken ? "Log in by name" : "Log in with a token"}
        </button>
      </form>
    </main>
  )
}
