/**
 * A mongod of version 8, wherever it can be had: `MONGOD`, else the first in `PATH`, else one fetched when it is first needed, and kept
 * for all checkouts of this user.
 */
import { createHash } from "node:crypto"
import { chmodSync, createReadStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import { exclusive } from "./lock.ts"
import { canInstall, install } from "./debian.ts"
import { failure, inPath, run } from "./run.ts"

const VERSION = "8.2.6"
const OLDEST = 8

/** Knows MongoDB's downloads for every system; installed for the one download only, and not at all where that is not needed. */
const DOWNLOADER = "mongodb-memory-server-core@11.3.0"

/**
 * For networks that reach nothing but the npm registry: in this package lies MongoDB's own build for Debian 12. That one file is taken
 * when it is the known one, and nothing else of the package is kept or run.
 */
const PACKAGE = "@second-inc/cli-local-linux-x64@0.1.39"
const PACKAGE_FILE = "package/dist/runtime/linux-x64/bin/mongod"
const PACKAGE_SHA256 = "6a935df1e70c4d4c3871e1bffbead418968f69b16ee2a7a216b49f209e962039"

const INSTALL_MS = 2 * 60_000
const FETCH_MS = 15 * 60_000
const MISSING_LIBRARY = /error while loading shared libraries/

const say = (what: string): void => console.error(what)

/** What `mongod --version` says, as `8.2.6`; fails when the file cannot run. */
const versionOf = async (file: string): Promise<string> =>
  /db version v(\S+)/.exec(await run(file, ["--version"]))?.[1] ?? "of no version that it tells"

const recent = (version: string): boolean => Number.parseInt(version, 10) >= OLDEST

export const mongodFile = async (): Promise<string> => {
  const named = process.env["MONGOD"] ?? ""
  if (named !== "") return await namedFile(named)
  const found = inPath("mongod")
  if (found !== undefined) {
    const version = await versionOf(found).catch(failure)
    if (recent(version)) return found
    say(`${found} is not used: ${version}, and MongoDB ${OLDEST} or newer is needed`)
  }
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "darda", "mongod")
  const kept = join(cache, `mongod-${VERSION}`)
  if (!existsSync(kept)) await exclusive(kept, () => fetchInto(cache, kept))
  return kept
}

const fetchInto = async (cache: string, kept: string): Promise<void> => {
  if (existsSync(kept)) return
  const folder = join(cache, "fetching")
  // Left where a former call was killed.
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  try {
    const fetched = await fetchAny(folder)
    chmodSync(fetched, 0o755)
    await makeRunnable(fetched)
    // Last, and in one step: what is there is whole.
    renameSync(fetched, kept)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const namedFile = async (file: string): Promise<string> => {
  const version = await versionOf(file).catch((cause: unknown) => {
    throw new Error(`MONGOD=${file} cannot be used: ${failure(cause)}`, { cause })
  })
  if (!recent(version)) throw new Error(`MONGOD=${file} is ${version}: MongoDB ${OLDEST} or newer is needed`)
  return file
}

const fetchAny = async (folder: string): Promise<string> => {
  const problems: Array<string> = []
  for (const fetch of [fromMongoDb, fromPackage]) {
    try {
      return await fetch(folder)
    } catch (cause) {
      problems.push(failure(cause))
    }
  }
  throw new Error(
    `There is no mongod: install MongoDB ${OLDEST} or newer so that mongod is in PATH, or set MONGOD to its file. ` +
      `It could not be fetched either: ${problems.join("; ")}`
  )
}

const fromMongoDb = async (folder: string): Promise<string> => {
  say(`There is no mongod: fetching ${VERSION} from MongoDB`)
  const flags = ["--ignore-scripts", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
  await run("npm", ["install", "--prefix", folder, ...flags, DOWNLOADER], { timeout: INSTALL_MS })
  const download =
    `require(${JSON.stringify(DOWNLOADER.split("@")[0])})` +
    `.MongoBinary.getPath({ version: "${VERSION}", downloadDir: process.cwd(), checkMD5: true })` +
    `.then(console.log, ({ message }) => { console.error(message); process.exit(1) })`
  const env = { ...process.env, MONGOMS_MAX_RETRIES: "1", MONGOMS_PREFER_GLOBAL_PATH: "false" }
  const printed = await run(process.execPath, ["-e", download], { cwd: folder, env, timeout: FETCH_MS }).catch(
    (cause: unknown) => {
      throw new Error(`MongoDB's own download: ${failure(cause).split(" failed: ").at(-1)}`, { cause })
    }
  )
  const file = printed.trim().split("\n").at(-1) ?? ""
  if (!existsSync(file)) throw new Error(`${DOWNLOADER} says that it put mongod into ${file}, and there is none`)
  return file
}

const fromPackage = async (folder: string): Promise<string> => {
  if (process.platform !== "linux" || process.arch !== "x64") throw new Error("npm has none for this system")
  say(`That did not go: fetching ${VERSION} from the npm registry`)
  await run("npm", ["pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", folder], {
    timeout: FETCH_MS
  })
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"))
  if (archive === undefined) throw new Error(`npm pack ${PACKAGE} left no archive`)
  await run("tar", ["-xzf", join(folder, archive), "-C", folder, PACKAGE_FILE], { timeout: INSTALL_MS })
  const file = join(folder, PACKAGE_FILE)
  const hash = createHash("sha256")
  await pipeline(createReadStream(file), hash)
  if (hash.digest("hex") !== PACKAGE_SHA256)
    throw new Error(`mongod in ${PACKAGE} is not the known file: it was not used`)
  return file
}

/** It must run here; where a library is missing and Debian can give it, that is installed. */
const makeRunnable = async (file: string): Promise<void> => {
  try {
    await versionOf(file)
  } catch (cause) {
    if (!MISSING_LIBRARY.test(failure(cause)) || !canInstall()) throw cause
    await install(["libcurl4", "libssl3"])
    await versionOf(file)
  }
}
