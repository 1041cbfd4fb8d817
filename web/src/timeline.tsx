/**
 * The messages of a conversation. Only a window of them is in the document, which moves as one scrolls; what one looks at stays
 * where it is while rows come and go above it, and the newest stay in view for who is at the end.
 */
import { Component, createRef, type JSX } from "preact"
import type { Conversation } from "../../src/client/index.ts"
import type { FoldedMessage } from "../../src/domain/protocol/server-frames.ts"
import { names } from "./format.ts"
import { Down } from "./icons.tsx"
import { bySeq, isOlderHidden, keyOf, Rows, type RowsContext } from "./rows.tsx"
import type { Session } from "./model.ts"

interface Props {
  /** Where this timeline puts itself, for those beside it: a `ref` of a component is a property like any other. */
  readonly handle: { current: Timeline | null }
  readonly conversation: Conversation
  readonly title: string
  readonly me: string
  readonly session: Session
  readonly onMenu: (message: FoldedMessage, anchor: HTMLElement) => void
}

interface State {
  /** The seq of the last message in the window; `undefined`: the newest, whatever comes. */
  readonly end: number | undefined
  /** The row that the tab key leads to; the last one when it is not there. */
  readonly focus: string | undefined
  /** The row that was jumped to. */
  readonly flash: string | undefined
}

/** A row, and how far below the upper edge it is. */
interface Pin {
  readonly key: string
  readonly top: number
}

/** Messages in the document at once: enough for any screen and some to both sides. */
const WINDOW_ROWS = 160
/** How far the window moves at a time. */
const STEP_ROWS = 40
/** So near to an edge, the window moves or more is loaded. */
const EDGE_PX = 500
/** So near to the end counts as being there. */
const END_PX = 40
/** Pages read to get to a message that is answered to, at most. */
const JUMP_PAGES = 40
const FLASH_MS = 1_600

export class Timeline extends Component<Props, State> {
  override state: State = { end: undefined, focus: undefined, flash: undefined }
  readonly #scroller = createRef<HTMLDivElement>()
  readonly #list = createRef<HTMLOListElement>()
  /** At the end, and to stay there. */
  #stuck = true
  /** Whether the first look was placed, which has to wait for the messages. */
  #placed = false
  /** Messages after this seq were new when the conversation was opened. */
  #newAfter: number | undefined
  #pin: Pin | undefined
  #target: string | undefined
  #loading = false
  #resizes: ResizeObserver | undefined
  #flashTimer: ReturnType<typeof setTimeout> | undefined

  override componentDidMount(): void {
    this.props.handle.current = this
    addEventListener("focus", this.#see)
    document.addEventListener("visibilitychange", this.#see)
    this.#resizes = new ResizeObserver(() => this.#hold(this.#pin))
    if (this.#scroller.current !== null) this.#resizes.observe(this.#scroller.current)
    if (this.#list.current !== null) this.#resizes.observe(this.#list.current)
    this.#settle(undefined)
  }

  override componentWillUnmount(): void {
    this.props.handle.current = null
    removeEventListener("focus", this.#see)
    document.removeEventListener("visibilitychange", this.#see)
    this.#resizes?.disconnect()
    clearTimeout(this.#flashTimer)
  }

  override getSnapshotBeforeUpdate(): Pin | undefined {
    return this.#stuck ? undefined : this.#measure()
  }

  override componentDidUpdate(_props: Props, _state: State, pin: Pin | undefined): void {
    this.#settle(pin)
  }

  /** One's own message was sent: whoever writes has read what was new. */
  sent(): void {
    this.#newAfter = Infinity
    this.toNewest()
  }

  /** Shows the newest messages. */
  toNewest(): void {
    this.#stuck = true
    this.setState({ end: undefined })
  }

  /** Gives the focus to the last message. */
  focusLast(): void {
    this.#rows().at(-1)?.focus()
  }

  override render({ conversation, title, me, session }: Props, { focus, flash }: State): JSX.Element {
    const { start, stop } = this.#window()
    if (conversation.loaded && this.#newAfter === undefined) this.#newAfter = conversation.seen
    const context: RowsContext = {
      conversation,
      me,
      session,
      focus,
      flash,
      newAfter: this.#newAfter ?? Infinity,
      onMenu: this.props.onMenu,
      onJump: (seq) => void this.#jump(seq)
    }
    const below = conversation.messages.length - stop
    return (
      <div class="timeline">
        {/* Scrolls by itself, and its rows take the focus: no tab stop of its own. */}
        <div class="scroller" ref={this.#scroller} onScroll={this.#scrolled} tabIndex={-1}>
          <ol
            class="rows"
            ref={this.#list}
            aria-label={`Messages: ${title}`}
            onKeyDown={this.#key}
            onFocusIn={this.#focused}
          >
            {conversation.loaded && start === 0 && <Top conversation={conversation} />}
            <Rows {...context} start={start} stop={stop} isEnd={below === 0} />
          </ol>
        </div>
        {(!this.#stuck || below > 0) && (
          <button
            type="button"
            class="icon-button jump"
            aria-label="To the newest messages"
            onClick={() => this.toNewest()}
          >
            <Down />
            {conversation.unread > 0 && <span class="badge">{conversation.unread}</span>}
          </button>
        )}
        <p class="typing-line" aria-live="polite">
          {conversation.typing.size > 0 && (
            <>
              <span class="dots" aria-hidden="true">
                <i />
                <i />
                <i />
              </span>
              {names([...conversation.typing.keys()])} {conversation.typing.size > 1 ? "are" : "is"} typing
            </>
          )}
        </p>
      </div>
    )
  }

  #window(): { readonly start: number; readonly stop: number } {
    const { messages } = this.props.conversation
    const { end } = this.state
    let stop = messages.length
    // From the newest on, because that is where the end mostly is.
    if (end !== undefined) while (stop > 0 && (messages[stop - 1] as FoldedMessage).seq > end) stop--
    if (stop === 0) stop = Math.min(messages.length, WINDOW_ROWS)
    return { start: Math.max(0, stop - WINDOW_ROWS), stop }
  }

  #rows(): readonly HTMLElement[] {
    return [...(this.#list.current?.querySelectorAll<HTMLElement>("li.row") ?? [])]
  }

  #row(key: string): HTMLElement | undefined {
    return [...(this.#list.current?.children ?? [])].find(
      (row): row is HTMLElement => row instanceof HTMLElement && row.dataset["key"] === key
    )
  }

  /** The first message in view; not what is between messages, which may go when others come. */
  #measure(): Pin | undefined {
    const edge = this.#scroller.current?.getBoundingClientRect().top ?? 0
    for (const row of this.#rows()) {
      const { top, bottom } = row.getBoundingClientRect()
      const key = row.dataset["key"]
      if (bottom > edge && key !== undefined) return { key, top: top - edge }
    }
    return undefined
  }

  /** Brings back what was in view. */
  #hold(pin: Pin | undefined): void {
    const scroller = this.#scroller.current
    if (scroller === null) return
    if (this.#stuck) {
      scroller.scrollTop = scroller.scrollHeight
      return
    }
    const row = pin === undefined ? undefined : this.#row(pin.key)
    if (pin === undefined || row === undefined) return
    const moved = row.getBoundingClientRect().top - scroller.getBoundingClientRect().top - pin.top
    if (Math.abs(moved) >= 1) scroller.scrollTop += moved
  }

  #settle(pin: Pin | undefined): void {
    const scroller = this.#scroller.current
    if (scroller === null) return
    const target = this.#target === undefined ? undefined : this.#row(this.#target)
    if (!this.#placed && this.props.conversation.loaded) this.#place(scroller)
    else if (target !== undefined) {
      this.#target = undefined
      target.scrollIntoView({ block: "center" })
      target.focus({ preventScroll: true })
    } else this.#hold(pin)
    this.#pin = this.#stuck ? undefined : this.#measure()
    this.#extend(scroller)
    this.#see()
  }

  /** The first look: at what is new where that is more than fits, else at the end. */
  #place(scroller: HTMLElement): void {
    this.#placed = true
    scroller.scrollTop = scroller.scrollHeight
    const line = this.#row("new")
    if (line === undefined) return
    const above = line.getBoundingClientRect().top - scroller.getBoundingClientRect().top
    if (above >= 0) return
    scroller.scrollTop += above - END_PX
    this.#loosen()
  }

  /** No longer at the end: what comes must not move what is read. */
  #loosen(): void {
    this.#stuck = false
    const { stop } = this.#window()
    this.setState({ end: this.props.conversation.messages[stop - 1]?.seq })
  }

  readonly #scrolled = (): void => {
    const scroller = this.#scroller.current
    if (scroller === null) return
    const isEnd = this.#window().stop === this.props.conversation.messages.length
    const stuck = isEnd && scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight <= END_PX
    if (stuck && !this.#stuck) {
      this.#stuck = true
      this.setState({ end: undefined })
    } else if (!stuck && this.#stuck) this.#loosen()
    this.#pin = this.#stuck ? undefined : this.#measure()
    this.#extend(scroller)
    this.#see()
  }

  /** Near an edge: moves the window, or reads older messages. */
  #extend(scroller: HTMLElement): void {
    const { messages, loaded, more } = this.props.conversation
    const { start, stop } = this.#window()
    const show = (last: number): void => this.setState({ end: messages[Math.min(messages.length, last) - 1]?.seq })
    if (scroller.scrollTop < EDGE_PX) {
      if (start > 0) {
        this.#stuck = false
        show(stop - STEP_ROWS)
      } else if (loaded && more && !this.#loading && !isOlderHidden(this.props.conversation)) void this.#older()
    } else if (stop < messages.length && scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < EDGE_PX) {
      show(stop + STEP_ROWS)
    }
  }

  async #older(): Promise<boolean> {
    this.#loading = true
    let more = false
    try {
      more = await this.props.session.store.loadOlder(this.props.conversation.conv)
    } catch {
      // Scrolling asks again.
    }
    this.#loading = false
    const scroller = this.#scroller.current
    if (more && scroller !== null) this.#extend(scroller)
    return more
  }

  async #jump(seq: number): Promise<void> {
    const { conversation } = this.props
    for (let pages = 0; pages < JUMP_PAGES && (conversation.messages[0]?.seq ?? 0) > seq; pages++) {
      if (!(await this.#older())) break
    }
    const message = bySeq(conversation.messages, seq)
    if (message === undefined) return
    const at = conversation.messages.indexOf(message)
    this.#stuck = false
    this.#target = keyOf(message)
    const last = Math.min(conversation.messages.length, at + WINDOW_ROWS / 2)
    this.setState({ end: conversation.messages[last - 1]?.seq, flash: keyOf(message) })
    clearTimeout(this.#flashTimer)
    this.#flashTimer = setTimeout(() => this.setState({ flash: undefined }), FLASH_MS)
  }

  /** What somebody looks at is seen: the end of it, in a page that is in front. */
  readonly #see = (): void => {
    const { conversation, session } = this.props
    if (!this.#stuck || !conversation.loaded || document.visibilityState !== "visible" || !document.hasFocus()) return
    session.store.markSeen(conversation.conv)
  }

  readonly #focused = (event: FocusEvent): void => {
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("li.row") : null
    const key = row?.dataset["key"]
    if (key !== undefined && key !== this.state.focus) this.setState({ focus: key })
  }

  readonly #key = (event: KeyboardEvent): void => {
    const rows = this.#rows()
    const row = event.target instanceof HTMLElement ? event.target : undefined
    const at = row === undefined ? -1 : rows.indexOf(row)
    if (at < 0) return
    switch (event.key) {
      case "ArrowUp":
        rows[at - 1]?.focus()
        break
      case "ArrowDown":
        if (at + 1 < rows.length) rows[at + 1]?.focus()
        else document.querySelector<HTMLElement>(".composer textarea")?.focus()
        break
      case "Home":
        rows[0]?.focus()
        break
      case "End":
        this.focusLast()
        break
      case "Enter":
      case " ":
        row?.querySelector<HTMLElement>(".actions")?.click()
        break
      default:
        return
    }
    event.preventDefault()
  }
}

/** What is above the oldest message. */
const Top = ({ conversation }: { readonly conversation: Conversation }): JSX.Element => (
  <li class="note" data-key="top">
    {isOlderHidden(conversation)
      ? "Older messages are not shown here."
      : conversation.more
        ? "Loading older messages…"
        : conversation.messages.length + conversation.outgoing.length === 0
          ? "No messages yet. Say hello."
          : "This is where it began."}
  </li>
)
