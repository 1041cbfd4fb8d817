import { hash } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { extname, join } from "node:path"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"

/** Files and bytes that are kept of a build; more than that is no web app of ours, and the rest is not served. */
const FILES = 500
const BYTES = 32 * 1024 * 1024
/** Milliseconds between two looks at whether the web app was built anew. */
const LOOK_EVERY_MS = 1_000

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".webmanifest": "application/manifest+json",
  ".webp": "image/webp",
  ".woff2": "font/woff2"
}

/** Names with a hash of their content in them, as the build gives them: they never change. */
const HASHED = /^\/assets\/.+-[A-Za-z0-9_-]{8,}\.[a-z0-9]+$/

const NOT_BUILT =
  "The web app is not built here.\n\n" +
  "Build it with: npm run build:web\n" +
  "Then load this page again; the server need not be restarted. The API works all the same: see /docs.\n"

interface File {
  readonly body: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** Every file of a build by its path. Only these are ever served, so no path leads out of the folder. */
const read = (folder: string): ReadonlyMap<string, File> => {
  const files = new Map<string, File>()
  let bytes = 0
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = join(entry.parentPath, entry.name)
    const body = readFileSync(file)
    bytes += body.length
    if (files.size >= FILES || bytes > BYTES) break
    const path = `/${file.slice(folder.length).replaceAll("\\", "/").replace(/^\/+/, "")}`
    files.set(path, {
      body,
      headers: {
        "content-type": TYPES[extname(entry.name)] ?? "application/octet-stream",
        "cache-control": HASHED.test(path) ? "public, max-age=31536000, immutable" : "no-cache",
        etag: `"${hash("sha256", body, "base64url").slice(0, 22)}"`
      }
    })
  }
  return files
}

/** The built web app: a folder of files, kept in memory, and read again when it was built anew. */
export class WebApp {
  readonly #folder: string
  readonly #now: () => number
  #files: ReadonlyMap<string, File> = new Map()
  #lookedAt = -Infinity
  #built = 0

  constructor(folder: string, now: () => number = () => performance.now()) {
    this.#folder = folder
    this.#now = now
  }

  /** The answer to a GET or HEAD of a path; undefined when there is no such file. */
  respond(request: HttpServerRequest, path: string): HttpServerResponse.HttpServerResponse | undefined {
    this.#look()
    const file = this.#files.get(path === "/" ? "/index.html" : path)
    if (file === undefined) return path === "/" ? HttpServerResponse.text(NOT_BUILT, { status: 503 }) : undefined
    const { body, headers } = file
    if (request.headers["if-none-match"] === headers["etag"]) return HttpServerResponse.empty({ status: 304, headers })
    return HttpServerResponse.uint8Array(body, { headers, contentType: headers["content-type"]! })
  }

  #look(): void {
    const now = this.#now()
    if (now - this.#lookedAt < LOOK_EVERY_MS) return
    this.#lookedAt = now
    try {
      const built = statSync(join(this.#folder, "index.html")).mtimeMs
      if (built === this.#built) return
      this.#files = read(this.#folder)
      this.#built = built
    } catch {
      // Not built, or being built at this moment: what was read before is served until there is something new.
    }
  }
}
