/** Where one writes: a new message, a reply, or a change of an old one. */
import type { JSX } from "preact"
import { useLayoutEffect, useRef, useState } from "preact/hooks"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import { clean, preview } from "./format.ts"
import { Close, Send } from "./icons.tsx"
import { limits, me, type Session } from "./model.ts"
import { toast } from "./toasts.ts"
import type { Writing } from "./writing.ts"

const DEFAULT_CHARS = 16_000
/** From here on the characters that are left are told. */
const TELL_LEFT = 500
const TYPING_ENDS_MS = 5_000
const DRAFTS_MAX = 200

/** What was begun and not sent, by conversation, for as long as the page lives. */
const drafts = new Map<string, string>()

const keepDraft = (conv: string, text: string): void => {
  drafts.delete(conv)
  if (text !== "") drafts.set(conv, text)
  if (drafts.size > DRAFTS_MAX) for (const oldest of drafts.keys()) return void drafts.delete(oldest)
}

export const Composer = (props: {
  readonly conv: string
  readonly session: Session
  readonly writing: Writing
  readonly onDone: () => void
  readonly onSent: () => void
  readonly onUp: () => void
}): JSX.Element => {
  const { conv, session, writing, onDone, onSent, onUp } = props
  const field = useRef<HTMLTextAreaElement>(null)
  const typing = useRef<ReturnType<typeof setTimeout>>(undefined)
  const [text, setText] = useState(drafts.get(conv) ?? "")
  const most = limits.value?.bodyChars ?? DEFAULT_CHARS

  useLayoutEffect(() => {
    // Where a keyboard would cover half the screen, it waits to be asked for.
    if (matchMedia("(hover: hover)").matches) field.current?.focus()
    return () => clearTimeout(typing.current)
  }, [])

  useLayoutEffect(() => {
    if (writing.kind === "new") return
    if (writing.kind === "edit") setText(writing.message.body ?? "")
    field.current?.focus()
  }, [writing])

  useLayoutEffect(() => {
    const area = field.current
    if (area === null) return
    area.style.height = "auto"
    area.style.height = `${area.scrollHeight}px`
  }, [text])

  const isTyping = (on: boolean): void => {
    clearTimeout(typing.current)
    session.client.typing(conv, on)
    if (on) typing.current = setTimeout(() => session.client.typing(conv, false), TYPING_ENDS_MS)
  }

  const write = (value: string): void => {
    setText(value)
    if (writing.kind !== "edit") keepDraft(conv, value)
    isTyping(value !== "")
  }

  const done = (): void => {
    setText(writing.kind === "edit" ? (drafts.get(conv) ?? "") : text)
    onDone()
  }

  const send = (): void => {
    const body = clean(text).trimEnd()
    if (body.trim() === "") return
    try {
      if (writing.kind === "edit") {
        if (body !== writing.message.body) session.client.edit({ conv, target: writing.message.seq, body })
        setText(drafts.get(conv) ?? "")
      } else {
        session.client.send({ conv, body, ...(writing.kind === "reply" ? { replyTo: writing.to.seq } : {}) })
        keepDraft(conv, "")
        setText("")
        onSent()
      }
    } catch (cause) {
      return toast(cause instanceof Error ? cause.message : String(cause))
    }
    isTyping(false)
    onDone()
  }

  const key = (event: KeyboardEvent): void => {
    if (event.isComposing) return
    if (event.key === "Enter" && !event.shiftKey) send()
    else if (event.key === "Escape" && writing.kind !== "new") done()
    else if (event.key === "ArrowUp" && text === "") onUp()
    else return
    event.preventDefault()
  }

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        send()
        field.current?.focus()
      }}
    >
      {writing.kind !== "new" && (
        <div class="about">
          <b>{writing.kind === "edit" ? "Edit" : "Reply to"}</b>
          <span dir="auto">{about(writing.kind === "edit" ? writing.message : writing.to)}</span>
          <button type="button" class="icon-button" aria-label="Cancel" onClick={done}>
            <Close />
          </button>
        </div>
      )}
      <div class="write">
        <textarea
          ref={field}
          rows={1}
          dir="auto"
          placeholder="Message"
          aria-label="Message"
          maxLength={most}
          value={text}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={key}
        />
        {most - text.length < TELL_LEFT && <span class="left">{most - text.length}</span>}
        <button
          type="submit"
          class="send"
          aria-label={writing.kind === "edit" ? "Save" : "Send"}
          disabled={text.trim() === ""}
        >
          <Send />
        </button>
      </div>
    </form>
  )
}

/** What a reply or an edit is about, in one line. */
const about = (message: FoldedMessage): string => `${message.by === me.value ? "You" : message.by}: ${preview(message)}`
