/** Tokens for the users of a load: from the server with AUTH=dev, else from a file. */
import { readFileSync } from "node:fs"

/** Requests for tokens at a time. */
const AT_ONCE = 32

/** A user with a token. */
export interface LoadUser {
  readonly user: string
  readonly token: string
}

/** Asks an AUTH=dev server for a token for each user. Fails with what the server said. */
export const devTokens = async (url: string, users: ReadonlyArray<string>): Promise<ReadonlyArray<LoadUser>> => {
  const found: Array<LoadUser> = []
  for (let from = 0; from < users.length; from += AT_ONCE) {
    found.push(...(await Promise.all(users.slice(from, from + AT_ONCE).map((user) => devToken(url, user)))))
  }
  return found
}

const devToken = async (url: string, user: string): Promise<LoadUser> => {
  let answer: Response
  try {
    answer = await fetch(new URL("/v1/auth/dev", url), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user })
    })
  } catch (cause) {
    const reason =
      cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : String(cause)
    throw new Error(`No server answers at ${url} (${reason}): start it with npm start, or name another with --url`, {
      cause
    })
  }
  if (answer.status === 404)
    throw new Error(`The server at ${url} does not run with AUTH=dev: give tokens with --token-file`)
  if (!answer.ok)
    throw new Error(`The server at ${url} gave no token for ${user}: ${answer.status} ${await answer.text()}`)
  const { token } = (await answer.json()) as { readonly token: string }
  return { user, token }
}

/** Reads tokens, one a line, and whose they are (`sub`) from the tokens themselves. */
export const tokensFromFile = (file: string, count: number): ReadonlyArray<LoadUser> => {
  let lines: ReadonlyArray<string>
  try {
    lines = readFileSync(file, "utf8")
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "")
  } catch (cause) {
    throw new Error(`The token file ${file} cannot be read: ${(cause as Error).message}`, { cause })
  }
  if (lines.length < count) throw new Error(`The token file ${file} has ${lines.length} tokens, --users is ${count}`)
  return lines.slice(0, count).map((token, index) => {
    try {
      const payload = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
        readonly sub?: unknown
      }
      if (typeof payload.sub === "string") return { user: payload.sub, token }
    } catch {
      // Said below, with the line.
    }
    throw new Error(`Line ${index + 1} of the token file ${file} is no token with a sub`)
  })
}
