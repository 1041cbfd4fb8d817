/** Small parts that several views use. */
import type { ComponentChildren, JSX } from "preact"
import { useLayoutEffect, useRef } from "preact/hooks"
import { hue, initials } from "./format.ts"
import { Close, People } from "./icons.tsx"

/** A circle with initials; with `online` a dot beside it says whether the person is there. */
export const Avatar = (props: {
  readonly name: string
  readonly group?: boolean
  readonly online?: boolean | undefined
}): JSX.Element => (
  <span class={`avatar hue-${hue(props.name)}`} aria-hidden="true">
    {props.group === true ? <People /> : initials(props.name)}
    {props.online === true && <span class="dot" />}
  </span>
)

/** A dialog over the page. Escape, its button and a click beside it close it; the focus returns to where it was. */
export const Dialog = (props: {
  readonly title: string
  readonly class?: string
  readonly onClose: () => void
  readonly children: ComponentChildren
}): JSX.Element => {
  const ref = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => {
    const before = document.activeElement
    ref.current?.showModal()
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  return (
    <dialog
      ref={ref}
      class={`dialog ${props.class ?? ""}`}
      aria-label={props.title}
      onClose={props.onClose}
      onKeyDown={(event) => event.stopPropagation()}
      onPointerDown={(event) => {
        if (event.target === ref.current) ref.current?.close()
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 dir="auto">{props.title}</h2>
          <button type="button" class="icon-button" aria-label="Close" onClick={() => ref.current?.close()}>
            <Close />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  )
}

/** The names in a text with commas or spaces between them. */
export const namesIn = (text: string): readonly string[] => [
  ...new Set(text.split(/[\s,;]+/).filter((name) => name !== ""))
]

/** What is wrong with names before a server sees them; `undefined` when nothing is. */
export const wrongName = (names: readonly string[], isName: (text: string) => boolean): string | undefined => {
  const wrong = names.find((name) => !isName(name))
  return wrong === undefined
    ? undefined
    : `“${wrong.slice(0, 40)}” is no user name: 1 to 128 letters, digits or any of _ . @ | + = ~ -`
}
