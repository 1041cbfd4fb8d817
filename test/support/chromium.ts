import { execFileSync } from "node:child_process"
import { accessSync, constants, existsSync } from "node:fs"
import { delimiter, join } from "node:path"

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]

const inPath = (): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

const install = (): void => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  const run = (...args: ReadonlyArray<string>) =>
    execFileSync("apt-get", args, { stdio: ["ignore", "ignore", "inherit"], env })
  run("update")
  run("install", "-y", "--no-install-recommends", "chromium")
}

/**
 * The file of a Chromium that is there: `CHROMIUM` if set, else the first in `PATH`. Where there is none, root on Debian
 * gets the system's own (minutes); anyone else an error that says what to do.
 */
export const chromium = (): string => {
  const named = process.env.CHROMIUM
  if (named !== undefined && named !== "") {
    if (existsSync(named)) return named
    throw new Error(`CHROMIUM=${named}: there is no such file; name the browser's executable, or unset CHROMIUM`)
  }
  const found = inPath()
  if (found !== undefined) return found
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) {
    throw new Error(
      `the browser tests need Chromium: install it so that one of ${NAMES.join(", ")} is in PATH, or set CHROMIUM`
    )
  }
  try {
    install()
  } catch (cause) {
    throw new Error("the browser tests need Chromium, and `apt-get install chromium` failed: see its output above", {
      cause
    })
  }
  const installed = inPath()
  if (installed === undefined)
    throw new Error("apt-get installed chromium, but none is in PATH: set CHROMIUM to its file")
  return installed
}

/** What Chromium must be started with: as root it has no sandbox of its own, and /dev/shm is small in containers. */
export const chromiumArgs: ReadonlyArray<string> = [
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
  "--disable-dev-shm-usage"
]
