/** Who is logged in here, and how they get a token. */
import { isUserId } from "../../src/client/index.ts"

/** What is remembered of a login. `name`: a new token can be had for the name alone; `token`: it was pasted. */
export interface Login {
  readonly by: "name" | "token"
  readonly user: string
  readonly token: string
  /** Milliseconds since 1970; 0 where it is not known. */
  readonly expiresAt: number
}

/** A login that did not work. `noNames`: this server gives no tokens for names. */
export class LoginError extends Error {
  readonly noNames: boolean
  constructor(message: string, noNames = false) {
    super(message)
    this.noNames = noNames
  }
}

const LOGIN = "darda.login"
const LAST_NAME = "darda.name"
/** A token that ends sooner than this is not worth a connection. */
const EXPIRES_SOON_MS = 60_000

/** Reads `localStorage`; where that is forbidden nothing is remembered. */
const read = (key: string): string | undefined => {
  try {
    return localStorage.getItem(key) ?? undefined
  } catch {
    return undefined
  }
}

const write = (key: string, value: string | undefined): void => {
  try {
    if (value === undefined) localStorage.removeItem(key)
    else localStorage.setItem(key, value)
  } catch {
    // Full or forbidden: the login lives as long as the page.
  }
}

/** The login that is remembered here. */
export const rememberedLogin = (): Login | undefined => {
  try {
    const login = JSON.parse(read(LOGIN) ?? "null") as Login | null
    return login !== null && typeof login.token === "string" && typeof login.user === "string" ? login : undefined
  } catch {
    return undefined
  }
}

/** Remembers a login, or forgets it. The name stays, for the next time. */
export const rememberLogin = (login: Login | undefined): void => {
  write(LOGIN, login === undefined ? undefined : JSON.stringify(login))
  if (login !== undefined) write(LAST_NAME, login.user)
}

/** The name of who was here last, for the form. */
export const lastName = (): string => read(LAST_NAME) ?? ""

/** Gets a token for a name; fails as a `LoginError` with the server's own words. */
export const loginByName = async (user: string): Promise<Login> => {
  let response: Response
  try {
    response = await fetch("/v1/auth/dev", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user })
    })
  } catch {
    throw new LoginError("The server cannot be reached. Is it running?")
  }
  const answer = (await response.json().catch(() => ({}))) as {
    readonly token?: string
    readonly expiresAt?: number
    readonly detail?: string
    readonly message?: string
    readonly title?: string
  }
  if (response.ok && answer.token !== undefined) {
    return { by: "name", user, token: answer.token, expiresAt: answer.expiresAt ?? 0 }
  }
  if (response.status === 404) throw new LoginError("This server does not log in by name. Paste a token instead.", true)
  throw new LoginError(answer.detail ?? answer.message ?? answer.title ?? `The server answered ${response.status}.`)
}

/** Takes a pasted token. Whether it is good only the server can say; whose it is, it says itself. */
export const loginByToken = (token: string): Login => {
  const [, payload] = token.split(".")
  try {
    const bytes = Uint8Array.from(atob((payload ?? "").replaceAll("-", "+").replaceAll("_", "/")), (c) =>
      c.charCodeAt(0)
    )
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as { readonly sub?: unknown; readonly exp?: unknown }
    if (typeof claims.sub === "string" && isUserId(claims.sub)) {
      return { by: "token", user: claims.sub, token, expiresAt: typeof claims.exp === "number" ? claims.exp * 1000 : 0 }
    }
  } catch {
    // Not a token; said below.
  }
  throw new LoginError("This is not a token: it should be three parts with dots between them, and name a user.")
}

/** Gives a token for each connection: the one there is while it is good, then a new one where a name is enough. */
export class Tokens {
  #login: Login
  #refused = false
  #refusals = 0

  constructor(login: Login) {
    this.#login = login
  }

  /** The server did not want the last one. */
  refused(): void {
    this.#refused = true
    this.#refusals++
  }

  /** The server took the last one. */
  accepted(): void {
    this.#refusals = 0
  }

  /** Whether another one can be had without the person; a server that refuses a fresh one too means it. */
  get renewable(): boolean {
    return this.#login.by === "name" && this.#refusals < 2
  }

  readonly next = async (): Promise<string> => {
    const { by, user, expiresAt } = this.#login
    const ends = expiresAt > 0 && expiresAt - Date.now() < EXPIRES_SOON_MS
    if (by === "name" && (this.#refused || ends)) {
      this.#login = await loginByName(user)
      this.#refused = false
      rememberLogin(this.#login)
    }
    return this.#login.token
  }
}
