/** The web app's files, and how they come to be when they are not there. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

const project = fileURLToPath(new URL("../../", import.meta.url))

/** Where the built web app is. */
export const webFolder = fileURLToPath(new URL("../../web/dist", import.meta.url))

const BUILD_TIMEOUT_MS = 120_000
const ERROR_CHARS = 300

/**
 * Builds the web app when it is not built. A server without it is a server all the same, so this never fails: it answers whether the app is there,
 * and says what is in the way.
 */
export const buildWeb: Effect.Effect<boolean> = Effect.gen(function* () {
  if (existsSync(`${webFolder}/index.html`)) return true
  const vite = `${project}node_modules/vite/bin/vite.js`
  if (!existsSync(`${project}web/index.html`)) {
    yield* Effect.logWarning("There is no web app here: web/ is missing")
    return false
  }
  if (!existsSync(vite)) {
    yield* Effect.logWarning(
      "The web app is not built and vite is not installed: run npm ci, or build it elsewhere and copy web/dist"
    )
    return false
  }
  yield* Effect.logInfo("Building the web app, once")
  const problem = yield* build(vite)
  if (problem === undefined) return true
  yield* Effect.logWarning(`The web app could not be built: ${problem}`)
  return false
})

const build = (vite: string): Effect.Effect<string | undefined> =>
  Effect.callback<string | undefined>((resume) => {
    const child = spawn(process.execPath, [vite, "build", "web", "--logLevel", "error"], {
      cwd: project,
      stdio: ["ignore", "ignore", "pipe"],
      timeout: BUILD_TIMEOUT_MS,
      // A terminal's Ctrl-C is for the server, which stops the build itself.
      detached: true
    })
    let errors = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (errors.length < ERROR_CHARS) errors += text
    })
    child.once("error", (cause) => resume(Effect.succeed(cause.message)))
    child.once("close", (code) => {
      const problem = errors.trim().slice(0, ERROR_CHARS) || `vite ended with ${code}`
      resume(Effect.succeed(code === 0 ? undefined : problem))
    })
    return Effect.sync(() => child.kill())
  })
