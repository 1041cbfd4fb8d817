/** One line on the connection, when there is something to say about it. */
import { signal } from "@preact/signals"
import type { JSX } from "preact"
import { useEffect, useState } from "preact/hooks"
import { catchingUp, session, status } from "./model.ts"

const online = signal(navigator.onLine)
addEventListener("online", () => {
  online.value = true
})
addEventListener("offline", () => {
  online.value = false
})

const TICK_MS = 250
const OFFLINE = "You are offline. What you write is sent when you are back."

/** What is said goes on being true while nothing changes but the seconds. */
const useNow = (active: boolean): number => {
  const [now, setNow] = useState(Date.now)
  useEffect(() => {
    if (!active) return
    setNow(Date.now())
    const timer = setInterval(() => setNow(Date.now()), TICK_MS)
    return () => clearInterval(timer)
  }, [active])
  return now
}

export const Banner = (): JSX.Element => {
  const now = useNow(status.value.state === "waiting")
  return (
    <div class="banner-place" role="status">
      <Line now={now} />
    </div>
  )
}

const Line = ({ now }: { readonly now: number }): JSX.Element | null => {
  const connection = status.value
  const current = session.value
  switch (connection.state) {
    case "waiting": {
      if (!online.value) return <p class="banner warn">{OFFLINE}</p>
      const seconds = Math.max(0, Math.ceil((connection.retryAt - now) / 1000))
      return (
        <p class="banner warn">
          {/* The seconds are for the eyes only: read out one by one they would be noise. */}
          <span>
            No connection. Reconnecting<span aria-hidden="true">{seconds > 0 ? ` in ${seconds} s` : "…"}</span>
          </span>
          <button type="button" class="link" onClick={() => current?.retryNow()}>
            Now
          </button>
        </p>
      )
    }
    case "connecting":
      if (!online.value) return <p class="banner warn">{OFFLINE}</p>
      return connection.attempt > 1 ? <p class="banner warn">Reconnecting…</p> : <p class="banner late">Connecting…</p>
    case "open":
      return catchingUp.value ? <p class="banner late">Catching up…</p> : null
    case "stopped":
      return (
        <p class="banner warn">
          <span>{sentence(connection.reason)}</span>
          <button type="button" class="link" onClick={() => current?.client.connect().catch(() => {})}>
            Connect here
          </button>
        </p>
      )
    case "idle":
      return null
  }
}

const sentence = (text: string): string =>
  text === "" ? "Disconnected." : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
