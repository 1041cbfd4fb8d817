/** `darda doctor`: looks at everything a start depends on, changes nothing, and says what to do. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { createServer } from "node:net"
import * as path from "node:path"
import {
  DataFolderLocked,
  type DataPaths,
  dataPaths,
  explainFileError,
  freeBytes,
  lockDataFolder,
  lockHolder,
  mebibytes,
  MIN_FREE_BYTES
} from "../platform/DataFolder.ts"
import {
  decodeSettings,
  describeProblem,
  engineAddresses,
  settingsWarnings,
  type SettingsValues
} from "../platform/Settings.ts"
import { checkDatabases } from "./doctor/databases.ts"
import { checkKeys } from "./doctor/keys.ts"
import { bad, type Finding, good, note } from "./doctor/finding.ts"
import { checkLimits, checkNames, isServing } from "./doctor/pod.ts"
import { explainListenError } from "./listen.ts"
import { webFolder } from "./web.ts"

/** Open files that thousands of connections need; below it a server runs, but refuses people early. */
const OPEN_FILES = 4_096
const SYNC_TRIES = 20
/** A disk slower than this makes every acknowledgement slower than a person's patience for a tick. */
const SLOW_SYNC_MS = 25
/** No clock that is right is before the day this was written. */
const CLOCK_FLOOR = Date.UTC(2025, 0, 1)

/** Prints a line for each check; fails silently (exit code 1) when anything is in the way of a start. */
export const doctor = Effect.fnUntraced(function* (environment: Readonly<Record<string, string | undefined>>) {
  const findings: Array<Finding> = []
  const say = (found: ReadonlyArray<Finding>) =>
    Effect.forEach(
      found,
      (finding) => {
        findings.push(finding)
        return Console.log(`${finding.mark} ${finding.text}`)
      },
      { discard: true }
    )
  yield* say([good(`Node.js ${process.version}`)])
  const decoded = decodeSettings(environment)
  if (decoded._tag === "Problems") {
    yield* say(decoded.problems.map((problem) => bad(describeProblem(problem))))
  } else {
    const values = decoded.values
    yield* say([good(`settings: AUTH=${values.auth}, PARTITIONS=${values.partitions}`)])
    yield* say(settingsWarnings(values).map(note))
    const engines = engineAddresses(values)
    if (engines === undefined) {
      const paths = dataPaths(values.dataDir)
      const folder = yield* Effect.scoped(checkFolder(paths))
      yield* say(folder.findings)
      if (folder.usable) yield* say(checkDatabases(paths, values))
      yield* say(checkClock([paths.log, `${paths.log}-wal`]))
      yield* say([yield* checkPort(values, folder.held)])
    } else {
      const { checkEngines } = yield* Effect.promise(() => import("./doctor/engines.ts"))
      yield* say(yield* checkEngines(engines, values))
      yield* say(yield* Effect.promise(() => checkNames(engines)))
      yield* say(checkClock([]))
      yield* say([yield* checkPort(values, yield* Effect.promise(() => isServing(values)))])
    }
    yield* say(yield* checkKeys(values))
  }
  yield* say(checkLimits())
  yield* say(checkOpenFiles())
  yield* say(
    fs.existsSync(path.join(webFolder, "index.html"))
      ? [good("the web app is built")]
      : [note("the web app is not built: the first start builds it, or run: npx vite build web")]
  )
  const count = findings.filter(({ mark }) => mark === "✗").length
  if (count > 0)
    return yield* Effect.fail(new Error(`doctor found ${count} thing${count === 1 ? "" : "s"} to repair (✗)`))
})

const checkFolder = Effect.fnUntraced(function* (paths: DataPaths) {
  const { folder, root } = paths
  if (!fs.existsSync(root)) {
    return { usable: false, held: false, findings: [checkParent(paths)] }
  }
  try {
    fs.accessSync(root, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK)
    if (!fs.statSync(root).isDirectory()) throw Object.assign(new Error(), { code: "ENOTDIR" })
  } catch (cause) {
    return { usable: false, held: false, findings: [bad(`data folder ${folder}: ${explainFileError(cause)}`)] }
  }
  const findings = [good(`data folder ${folder} is there and can be written to`)]
  if ((fs.statSync(root).mode & 0o077) !== 0) {
    findings.push(note(`others may look into the data folder: chmod 700 ${folder}`))
  }
  const lock = yield* Effect.result(lockDataFolder(paths))
  const held = lock._tag === "Failure" && lock.failure instanceof DataFolderLocked
  if (held) {
    const holder = lockHolder(paths)
    findings.push(
      note(`a server is running on it${holder === undefined ? "" : `: process ${holder.pid} since ${holder.since}`}`)
    )
  } else if (lock._tag === "Failure") {
    findings.push(bad(lock.failure.message))
  }
  const free = freeBytes(root)
  const space = `its disk has ${mebibytes(free)} free`
  if (free < MIN_FREE_BYTES)
    findings.push(bad(`${space}, at least ${mebibytes(MIN_FREE_BYTES)} are needed: free some space`))
  else if (free < 32 * MIN_FREE_BYTES) findings.push(note(`${space}: make room before it is full`))
  else findings.push(good(space))
  findings.push(checkSync(root))
  return { usable: true, held, findings }
})

const checkParent = ({ folder, root }: DataPaths): Finding => {
  let parent = path.dirname(root)
  while (!fs.existsSync(parent)) parent = path.dirname(parent)
  try {
    fs.accessSync(parent, fs.constants.W_OK | fs.constants.X_OK)
    if (!fs.statSync(parent).isDirectory()) throw Object.assign(new Error(), { code: "ENOTDIR" })
    return good(`data folder ${folder} is not there yet; the first start makes it`)
  } catch (cause) {
    return bad(`data folder ${folder} cannot be made in ${parent}: ${explainFileError(cause)}`)
  }
}

/** What a commit pays to be durable: a small write and its sync, as the median of a few. */
const checkSync = (root: string): Finding => {
  const file = path.join(root, `.doctor-${process.pid}`)
  try {
    const handle = fs.openSync(file, "w", 0o600)
    try {
      const page = Buffer.alloc(4_096, 1)
      const times = Array.from({ length: SYNC_TRIES }, () => {
        const start = performance.now()
        fs.writeSync(handle, page)
        fs.fdatasyncSync(handle)
        return performance.now() - start
      }).sort((a, b) => a - b)
      const median = times[SYNC_TRIES >> 1]!
      const text = `a durable write takes ${median.toFixed(2)} ms (slowest of ${SYNC_TRIES}: ${times.at(-1)!.toFixed(2)} ms)`
      return median > SLOW_SYNC_MS ? note(`${text}: a faster disk makes every acknowledgement faster`) : good(text)
    } finally {
      fs.closeSync(handle)
      fs.rmSync(file, { force: true })
    }
  } catch (cause) {
    return bad(`a durable write into the data folder fails: ${explainFileError(cause)}`)
  }
}

/** Times never fall within a conversation, so a clock that was set back makes everything look sent at the last moment it knew. */
const checkClock = (files: ReadonlyArray<string>): ReadonlyArray<Finding> => {
  const now = Date.now()
  if (now < CLOCK_FLOOR)
    return [bad(`the clock says ${new Date(now).toISOString()}: set it, times and tokens depend on it`)]
  const newest = Math.max(0, ...files.filter((file) => fs.existsSync(file)).map((file) => fs.statSync(file).mtimeMs))
  if (newest > now + 5_000) {
    return [bad(`the clock is behind the last write of the log (${new Date(newest).toISOString()}): set it`)]
  }
  return [good(`the clock says ${new Date(now).toISOString()}`)]
}

const checkPort = (settings: SettingsValues, running: boolean): Effect.Effect<Finding> =>
  Effect.callback<Finding>((resume) => {
    const { host, port } = settings
    const server = createServer()
    const done = (finding: Finding) => resume(Effect.succeed(finding))
    server.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "EADDRINUSE" && running)
        return done(good(`port ${port} is in use, by the running server it seems`))
      done(bad(explainListenError(settings, cause)))
    })
    server.listen(port, host, () =>
      server.close(() => done(good(port === 0 ? "any free port" : `port ${port} on ${host} is free`)))
    )
  })

const checkOpenFiles = (): ReadonlyArray<Finding> => {
  // Node raises the soft limit to the hard one when it starts, so what is in force here is in force for the server.
  const limits = fs.existsSync("/proc/self/limits") ? fs.readFileSync("/proc/self/limits", "utf8") : ""
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1]
  if (soft === undefined) return []
  if (soft === "unlimited" || Number(soft) >= OPEN_FILES)
    return [good(`up to ${soft} open files, one for each connection`)]
  return [note(`only ${soft} open files, one for each connection: raise it with ulimit -n 65536`)]
}
