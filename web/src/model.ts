/** The one client of this page, what is known through it, and what the parts of the page share. */
import { batch, computed, signal } from "@preact/signals"
import {
  type Command,
  type Conversation,
  DardaClient,
  DardaError,
  otherMember,
  parseConversation,
  realEnvironment,
  type Status,
  Store
} from "../../src/client/index.ts"
import type { Limits, PresenceState } from "../../src/domain/protocol/server-frames.ts"
import { goToList, openConv } from "./route.ts"
import { type Login, rememberedLogin, rememberLogin, Tokens } from "./session.ts"
import { outboxStorage } from "./storage.ts"
import { toast } from "./toasts.ts"

/** A logged in user on this page. */
export interface Session {
  readonly login: Login
  readonly client: DardaClient
  readonly store: Store
  /** Tries to connect now instead of when the pause is over. */
  readonly retryNow: () => void
}

/** The list is drawn at most this often: a busy server says more than anyone reads. */
const LIST_EVERY_MS = 60
const WATCH_AT_ONCE = 200
const WATCH_MAX = 1_000
const LEFT_MAX = 1_000

/** `undefined` while nobody is logged in. */
export const session = signal<Session | undefined>(undefined)
/** The user's name, as the server says it. */
export const me = signal("")
/** Where the connection stands. */
export const status = signal<Status>({ state: "idle" })
/** What was missed is being read. */
export const catchingUp = signal(false)
/** What the server allows; known once it was reached. */
export const limits = signal<Limits | undefined>(undefined)
/** Why the person has to log in again. */
export const loginProblem = signal("")
/** Whether the conversation list was read, and whether there is more of it. */
export const listState = signal<"loading" | "more" | "all">("loading")
/** Goes up when the list has to be drawn anew. */
export const listRevision = signal(0)
/** Goes up when the open conversation has to be drawn anew. */
export const openRevision = signal(0)
/** Conversations that the user is no longer a member of. */
export const left = signal<ReadonlySet<string>>(new Set())

/** When something happened last where there is no message to tell. */
const activity = new Map<string, number>()

/** Starts the client of a login. */
export const start = async (login: Login): Promise<void> => {
  rememberLogin(login)
  const tokens = new Tokens(login)
  const storage = await outboxStorage()
  const retries = new Set<() => void>()
  const client = new DardaClient({
    url: `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/v1/ws`,
    token: tokens.next,
    user: login.user,
    device: device(),
    storage,
    environment: {
      ...realEnvironment,
      // Also when the network goes: the connection is asked for a sign of life, and given up without one.
      onOnline: (run) => {
        retries.add(run)
        addEventListener("offline", run)
        const off = realEnvironment.onOnline(run)
        return () => {
          retries.delete(run)
          removeEventListener("offline", run)
          off()
        }
      }
    }
  })
  const store = new Store(client)
  const current = (): boolean => session.value?.client === client
  client.on("status", (now) => {
    if (now.state === "waiting" && now.code === 4004) tokens.refused()
    if (now.state === "stopped" && now.why === "login" && tokens.renewable) {
      tokens.refused()
      void client.connect().catch(() => {})
      return
    }
    if (!current()) return
    status.value = now
    if (now.state !== "stopped" || now.why === "closed" || now.code === 4009) return
    end(
      now.why === "login"
        ? "Please log in again: the server did not accept the token."
        : `You were logged out: ${now.reason}.`
    )
  })
  client.on("welcome", (welcome, resumed) => {
    tokens.accepted()
    batch(() => {
      me.value = welcome.user
      limits.value = welcome.limits
      catchingUp.value = resumed
    })
    if (listState.value === "loading") void loadList()
  })
  client.on("caughtUp", () => {
    catchingUp.value = false
  })
  client.on("command", failures)
  client.on("event", (event) => {
    activity.set(event.conv, event.at)
    if (event.type !== "members") return
    if (event.data.removed?.includes(me.value) === true) setLeft(event.conv, true)
    else if (event.data.added?.includes(me.value) === true) setLeft(event.conv, false)
  })
  client.on("gone", (conv) => setLeft(conv, true))
  store.on("change", (changed) => {
    const open = openConv.value
    if (changed.has("") || (open !== undefined && changed.has(open))) openRevision.value++
    listChanged()
  })
  batch(() => {
    me.value = login.user
    loginProblem.value = ""
    session.value = { login, client, store, retryNow: () => retries.forEach((run) => run()) }
    status.value = client.status
  })
  // What becomes of it is told by `status`.
  client.connect().catch(() => {})
}

// A page that goes has no time left to store what waits; one that comes back from the browser's cache goes on.
addEventListener("pagehide", () => session.value?.client.close())
addEventListener("pageshow", (event) => {
  if (event.persisted) session.value?.client.connect().catch(() => {})
})

/** Starts the remembered login, if there is one. */
export const resume = async (): Promise<void> => {
  const login = rememberedLogin()
  if (login !== undefined) await start(login)
}

/** Logs out and forgets the token. */
export const logOut = (): void => {
  end("")
  goToList()
}

const end = (problem: string): void => {
  const ending = session.value
  rememberLogin(undefined)
  batch(() => {
    session.value = undefined
    loginProblem.value = problem
    status.value = { state: "idle" }
    listState.value = "loading"
    left.value = new Set()
    catchingUp.value = false
  })
  activity.clear()
  watched.clear()
  ending?.store.stop()
  ending?.client.close()
}

const DEVICE = "darda.device"

/** The id of this browser; one for the page only where nothing can be kept. */
const device = (): string => {
  try {
    const kept = localStorage.getItem(DEVICE) ?? `web-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`
    localStorage.setItem(DEVICE, kept)
    return kept
  } catch {
    return `web-${Math.random().toString(36).slice(2)}`
  }
}

const setLeft = (conv: string, on: boolean): void => {
  if (left.value.has(conv) === on) return
  const next = new Set(left.value)
  if (on) next.add(conv)
  else next.delete(conv)
  left.value = next.size > LEFT_MAX ? new Set([conv]) : next
}

/** A message that was refused stays where it is, with its reason; of anything else there is only the reason to show. */
const failures = (command: Command): void => {
  if (command.state !== "failed") return
  const { t } = command.frame
  if (t !== "edit" && t !== "delete" && t !== "react") return
  const what =
    t === "edit"
      ? "The message was not changed"
      : t === "delete"
        ? "The message was not deleted"
        : "No reaction was set"
  toast(`${what}: ${command.error?.message ?? "the server refused"}`)
  // The store hears of it after us.
  queueMicrotask(() => session.value?.store.discard(command.conv, command.cid))
}

let listTimer: ReturnType<typeof setTimeout> | undefined

const listChanged = (): void => {
  listTimer ??= setTimeout(() => {
    listTimer = undefined
    listRevision.value++
    watchPeople()
  }, LIST_EVERY_MS)
}

/** The next page of the conversation list. */
export const loadList = async (): Promise<void> => {
  const { store, client } = session.value ?? {}
  if (store === undefined) return
  try {
    const more = await store.loadConversations()
    if (session.value?.client !== client) return
    listState.value = more ? "more" : "all"
    placeQuiet(store.conversations.values())
    listChanged()
  } catch (cause) {
    // While nothing is listed yet, the next connection asks again.
    if (listState.value !== "loading" && cause instanceof DardaError && cause.code !== "closed") toast(cause.message)
  }
}

/** A group without a message keeps the place that the server gave it in the list: behind the one before it. */
const placeQuiet = (conversations: Iterable<Conversation>): void => {
  let before = Date.now()
  for (const conversation of conversations) {
    if (conversation.last === undefined && !activity.has(conversation.conv)) activity.set(conversation.conv, before)
    before = conversation.last?.at ?? activity.get(conversation.conv) ?? before
  }
}

/** The conversations as they are listed: the newest first, without those in which nothing ever happened. */
export const listed = computed((): readonly Conversation[] => {
  void listRevision.value
  const { store } = session.value ?? {}
  if (store === undefined) return []
  const at = ({ conv, outgoing, last }: Conversation): number =>
    outgoing.length > 0 ? Infinity : Math.max(last?.at ?? 0, last === undefined ? (activity.get(conv) ?? 0) : 0)
  return [...store.conversations.values()]
    .filter(({ head, outgoing }) => head > 0 || outgoing.length > 0)
    .map((conversation) => ({ conversation, at: at(conversation) }))
    .sort((a, b) => b.at - a.at || (a.conversation.conv < b.conversation.conv ? -1 : 1))
    .map(({ conversation }) => conversation)
})

/** Unread messages in all conversations that are known. */
export const unreadTotal = computed((): number => listed.value.reduce((sum, { unread }) => sum + unread, 0))

const watched = new Set<string>()

/** Watches those one talks with, as far as that goes. */
const watchPeople = (): void => watch(listed.value.map(({ conv }) => otherMember(conv, me.value) ?? ""))

/** Watches users whom nobody watches yet. */
export const watch = (users: readonly string[]): void => {
  const current = session.value
  if (current === undefined) return
  const fresh = [...new Set(users)].filter((user) => user !== "" && user !== me.value && !watched.has(user))
  const some = fresh.slice(0, Math.min(WATCH_AT_ONCE, WATCH_MAX - watched.size))
  if (some.length === 0) return
  for (const user of some) watched.add(user)
  current.store.watch(some).then(
    () => watch(fresh.slice(some.length)),
    () => {
      for (const user of some) watched.delete(user)
    }
  )
}

/** What is known of a user's presence now: without a connection, nothing. */
export const presenceOf = (user: string | undefined): PresenceState | undefined =>
  user === undefined || user === me.value || status.value.state !== "open"
    ? undefined
    : session.value?.store.presence.get(user)

/** Whether the text names a conversation that this user could have. */
export const isOurs = (conv: string): boolean => {
  const parsed = parseConversation(conv)
  return parsed !== undefined && (parsed.kind === "group" || otherMember(conv, me.value) !== undefined)
}
