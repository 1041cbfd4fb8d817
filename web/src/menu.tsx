/** What can be done with a message. */
import type { ComponentChildren, JSX } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import { Copy, Delete, Edit, Reply } from "./icons.tsx"
import type { Session } from "./model.ts"
import { toast } from "./toasts.ts"
import type { Writing } from "./writing.ts"

/** Which message, and beside what the menu opens. */
export interface MenuAt {
  readonly message: FoldedMessage
  readonly anchor: HTMLElement
}

const QUICK = ["👍", "❤️", "😂", "😮", "😢", "🙏"]
const GAP_PX = 6

export const MessageMenu = (props: {
  readonly at: MenuAt
  readonly session: Session
  readonly me: string
  readonly isAdmin: boolean
  readonly onClose: () => void
  readonly onWrite: (writing: Writing) => void
}): JSX.Element => {
  const { at, session, me, isAdmin, onClose, onWrite } = props
  const { message, anchor } = at
  const ref = useRef<HTMLDivElement>(null)
  const [sure, setSure] = useState(false)
  const own = message.by === me

  const close = (): void => {
    onClose()
    anchor.closest<HTMLElement>("li.row")?.focus({ preventScroll: true })
  }

  useLayoutEffect(() => {
    const menu = ref.current
    if (menu === null) return
    const [box, by] = [menu.getBoundingClientRect(), anchor.getBoundingClientRect()]
    const below = by.bottom + GAP_PX
    const top = below + box.height > innerHeight - GAP_PX ? by.top - box.height - GAP_PX : below
    menu.style.top = `${Math.max(GAP_PX, top)}px`
    const left = own ? by.right - box.width : by.left
    menu.style.left = `${Math.max(GAP_PX, Math.min(left, innerWidth - box.width - GAP_PX))}px`
    menu.querySelector<HTMLElement>("button")?.focus({ preventScroll: true })
  }, [anchor, own])

  useEffect(() => {
    const outside = (event: Event): void => {
      if (!(event.target instanceof Node) || ref.current?.contains(event.target) !== true) onClose()
    }
    document.addEventListener("pointerdown", outside)
    addEventListener("resize", onClose)
    return () => {
      document.removeEventListener("pointerdown", outside)
      removeEventListener("resize", onClose)
    }
  }, [onClose])

  const key = (event: KeyboardEvent): void => {
    const buttons = [...(ref.current?.querySelectorAll<HTMLElement>("button") ?? [])]
    const now = buttons.indexOf(document.activeElement as HTMLElement)
    const to = {
      ArrowDown: now < QUICK.length ? QUICK.length : now + 1,
      ArrowUp: now <= QUICK.length ? 0 : now - 1,
      ArrowRight: now + 1,
      ArrowLeft: now - 1,
      Home: 0,
      End: buttons.length - 1
    }[event.key]
    if (to !== undefined) buttons[(to + buttons.length) % buttons.length]?.focus()
    else if (event.key === "Escape" || event.key === "Tab") close()
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  const item = (icon: JSX.Element, text: ComponentChildren, run: () => void, isDanger = false): JSX.Element => (
    <button type="button" role="menuitem" class={isDanger ? "danger" : ""} onClick={run}>
      {icon}
      <span>{text}</span>
    </button>
  )
  const { conv } = message

  return (
    <div ref={ref} class="menu" role="menu" aria-label="Message actions" onKeyDown={key}>
      <div class="quick">
        {QUICK.map((emoji) => {
          const mine = message.reactions?.[emoji]?.includes(me) === true
          return (
            <button
              key={emoji}
              type="button"
              role="menuitemcheckbox"
              aria-checked={mine}
              aria-label={`React ${emoji}`}
              onClick={() => {
                session.client.react({ conv, target: message.seq, emoji, on: !mine })
                close()
              }}
            >
              {emoji}
            </button>
          )
        })}
      </div>
      {item(<Reply />, "Reply", () => {
        onClose()
        onWrite({ kind: "reply", to: message })
      })}
      {item(<Copy />, "Copy text", () => {
        close()
        navigator.clipboard?.writeText(message.body ?? "").catch(() => toast("The text could not be copied."))
      })}
      {own &&
        item(<Edit />, "Edit", () => {
          onClose()
          onWrite({ kind: "edit", message })
        })}
      {(own || isAdmin) &&
        item(
          <Delete />,
          sure ? "Really delete?" : "Delete",
          () => {
            if (!sure) return setSure(true)
            session.client.delete({ conv, target: message.seq })
            close()
          },
          true
        )}
    </div>
  )
}
