/** Runs the real `darda` command for the tests of it. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../../bin/darda.js", import.meta.url))
const DEADLINE_MS = 60_000

/** How a command ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A started command. */
export interface Darda {
  readonly child: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  /** Waits for output that matches, for at most a minute. */
  readonly says: (pattern: RegExp) => Promise<RegExpMatchArray>
}

/** An environment without settings of whoever runs the tests. */
const clean = (): NodeJS.ProcessEnv => {
  const { PATH, HOME } = process.env
  return { PATH, HOME }
}

/** Starts `darda` with arguments, settings, and if need be in another way than by the node that runs the tests. */
export const darda = (
  args: ReadonlyArray<string>,
  settings: Readonly<Record<string, string>>,
  command: ReadonlyArray<string> = [process.execPath]
): Darda => {
  const [file, ...before] = [...command, bin, ...args]
  const child = spawn(file!, before, { env: { ...clean(), ...settings }, cwd: os.tmpdir() })
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  const changed = () => listeners.forEach((listener) => listener())
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    changed()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
    changed()
  })
  const ended = new Promise<Ended>((resolve) =>
    child.once("close", (code, signal) => {
      resolve({ code, signal, stdout, stderr })
      changed()
    })
  )
  const says = (pattern: RegExp) =>
    new Promise<RegExpMatchArray>((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(stdout + stderr)
        if (match === null && child.exitCode === null) return
        listeners.delete(look)
        clearTimeout(timer)
        if (match === null)
          reject(new Error(`It ended (${child.exitCode}) without saying ${pattern}:\n${stdout}${stderr}`))
        else resolve(match)
      }
      const timer = setTimeout(() => {
        listeners.delete(look)
        reject(new Error(`It did not say ${pattern}:\n${stdout}${stderr}`))
      }, DEADLINE_MS)
      listeners.add(look)
      look()
    })
  return { child, ended, says }
}

/** Starts a server on any free port and waits until it is ready. */
export const serving = async (
  dataDir: string,
  settings: Readonly<Record<string, string>> = {}
): Promise<Darda & { readonly url: string }> => {
  const server = darda(["serve"], { DATA_DIR: dataDir, PORT: "0", LOG_FORMAT: "pretty", ...settings })
  const match = await server.says(/Darda is ready on (http:\/\/\S+)/)
  return { ...server, url: match[1]! }
}

/** Stops a command as an operator would, and waits for its end. */
export const stop = async ({ child, ended }: Darda): Promise<Ended> => {
  child.kill("SIGTERM")
  return await ended
}

/** A new folder under the system's temporary one. */
export const temporaryFolder = (): string => fs.mkdtempSync(path.join(os.tmpdir(), "darda-test-"))

/** What every file that holds data is, by name: its size and a hash of its bytes. The lock and its note hold none. */
export const fingerprint = (folder: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    fs
      .readdirSync(folder)
      .filter((name) => !name.startsWith("lock") && !name.endsWith("-shm"))
      .sort()
      .map((name) => [
        name,
        createHash("sha256")
          .update(fs.readFileSync(path.join(folder, name)))
          .digest("hex")
      ])
  )

/** The lines of a text, without the last empty one. */
export const lines = (text: string): ReadonlyArray<string> => text.split("\n").filter((line) => line !== "")

/** A token of AUTH=dev. */
export const tokenFor = async (url: string, user: string): Promise<string> => {
  const answer = await fetch(`${url}/v1/auth/dev`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user })
  })
  return ((await answer.json()) as { readonly token: string }).token
}

/** Sends a message from ada to grace over HTTP. */
export const say = async (url: string, cid: string, body = `this is ${cid}`): Promise<Response> =>
  await fetch(`${url}/v1/conversations/dm:ada:grace/messages`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${await tokenFor(url, "ada")}` },
    body: JSON.stringify({ cid, body })
  })

/** What ada and grace have said, by the ids of the messages. */
export const said = async (url: string, limit = 50): Promise<ReadonlyArray<string>> => {
  const answer = await fetch(`${url}/v1/conversations/dm:ada:grace/messages?limit=${limit}`, {
    headers: { authorization: `Bearer ${await tokenFor(url, "grace")}` }
  })
  return ((await answer.json()) as { readonly messages: ReadonlyArray<{ readonly cid: string }> }).messages.map(
    ({ cid }) => cid
  )
}
