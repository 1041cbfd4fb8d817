/** `darda replay` and `darda verify`: by the running server where one is, else on the files themselves. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { existsSync } from "node:fs"
import { askControl, type ControlHandler, type Progress } from "../platform/Control.ts"
import { dataPaths, openDataFolder } from "../platform/DataFolder.ts"
import { layerLogging } from "../platform/Logging.ts"
import { type EngineAddresses, engineAddresses, Settings, type SettingsValues } from "../platform/Settings.ts"
import { ReadModels, type ReadModelsUnavailable } from "../read-side/ReadModels.ts"
import { replay as replayReadModels } from "../read-side/replay.ts"
import { verify as verifyReadModels } from "../read-side/verify.ts"
import { EventLog, type LogUnavailable } from "../write-side/EventLog.ts"
import { oneLine } from "./run.ts"

/** What a command has to say in the end, and whether all is well. */
interface Report {
  readonly lines: ReadonlyArray<string>
  readonly ok: boolean
}

type Maintenance = (
  progress: Progress
) => Effect.Effect<Report, LogUnavailable | ReadModelsUnavailable, EventLog | ReadModels | Scope.Scope>

/** Differences that are printed; all are counted. */
const SHOWN_DIFFERENCES = 20
const SHOWN_CHARS = 200
const PROGRESS_EVERY_MS = 500

const number = (value: number): string => value.toLocaleString("en")
const percent = (done: number, total: number): string => `${total === 0 ? 100 : Math.floor((done / total) * 100)} %`

/** Lets a line through every half second, so that a terminal can be read and a socket is not filled. */
const paced = (progress: Progress) => {
  let last = 0
  return (line: () => string): Effect.Effect<void> =>
    Effect.sync(() => {
      const now = performance.now()
      if (now - last < PROGRESS_EVERY_MS) return
      last = now
      progress(line())
    })
}

const replayHere: Maintenance = Effect.fnUntraced(function* (progress: Progress) {
  const say = paced(progress)
  const result = yield* replayReadModels({
    log: yield* EventLog,
    readModels: yield* ReadModels,
    onProgress: ({ done, perSecond, total }) =>
      say(() => `Replayed ${number(done)} of ${number(total)} events (${percent(done, total)}), ${number(perSecond)}/s`)
  })
  const { after, before, comparable, events, millis } = result
  const lines = [
    `Replayed ${number(events)} events in ${(millis / 1000).toFixed(1)} s; the read models that they make are in use`
  ]
  const names = ["conversations", "members", "messages", "reactions"] as const
  for (const name of names) {
    if (!comparable || before[name] === after[name]) lines.push(`  ${name}: ${number(after[name])}`)
    else lines.push(`  ${name}: ${number(after[name])}, and ${number(before[name])} before: the old ones were wrong`)
  }
  return { lines, ok: true }
})

const verifyHere: Maintenance = Effect.fnUntraced(function* (progress: Progress) {
  const say = paced(progress)
  const result = yield* verifyReadModels({
    log: yield* EventLog,
    readModels: yield* ReadModels,
    maxDifferences: SHOWN_DIFFERENCES,
    onProgress: ({ done, phase, total }) =>
      say(
        () =>
          `${phase === "recompute" ? "Computed" : "Compared"} ${number(done)} of ${number(total)} ${phase === "recompute" ? "events" : "rows"} (${percent(done, total)})`
      )
  })
  const { differences, differing, events, rows } = result
  if (differing === 0)
    return {
      lines: [`The read models are what ${number(events)} events of the log make: ${number(rows)} rows, no difference`],
      ok: true
    }
  const shown = (value: string | undefined) => (value === undefined ? "nothing" : value.slice(0, SHOWN_CHARS))
  return {
    lines: [
      ...differences.map(
        ({ conv, expected, found, row }) =>
          `  ${conv} ${row}: the log makes ${shown(expected)}, stored is ${shown(found)}`
      ),
      ...(differing > differences.length ? [`  and ${number(differing - differences.length)} more`] : []),
      `${number(differing)} of ${number(rows)} rows differ from what the log makes; darda replay repairs them`
    ],
    ok: false
  }
})

/** Outbox entries that are looked at; a deeper outbox is said to be deeper. */
const OUTBOX_ENTRIES = 10_000

const outboxHere: Maintenance = Effect.fnUntraced(function* () {
  const log = yield* EventLog
  const entries = yield* log.outbox({ until: Number.MAX_SAFE_INTEGER, limit: OUTBOX_ENTRIES })
  if (entries.length === 0)
    return { lines: ["The outbox is empty: everything that is committed has been told"], ok: true }
  const now = yield* Clock.currentTimeMillis
  const found = new Map<number, { commits: number; events: number; oldest: number }>()
  for (const { at, from, partition, to } of entries) {
    const row = found.get(partition) ?? { commits: 0, events: 0, oldest: at }
    found.set(partition, {
      commits: row.commits + 1,
      events: row.events + to - from + 1,
      oldest: Math.min(row.oldest, at)
    })
  }
  const rows = [...found].sort(([a], [b]) => a - b)
  return {
    lines: [
      "partition  commits    events  oldest",
      ...rows.map(
        ([partition, { commits, events, oldest }]) =>
          `${String(partition).padStart(9)}  ${number(commits).padStart(7)}  ${number(events).padStart(8)}  ${((now - oldest) / 1000).toFixed(1)} s`
      ),
      ...(entries.length < OUTBOX_ENTRIES
        ? []
        : [`There is more: only the oldest ${number(OUTBOX_ENTRIES)} commits are counted`])
    ],
    ok: true
  }
})

/** What a running server does for these commands. */
export const controlHandlers = Effect.gen(function* () {
  const context = yield* Effect.context<EventLog | ReadModels>()
  const handler =
    (work: Maintenance): ControlHandler =>
    (progress) =>
      Effect.scoped(work(progress)).pipe(Effect.provideContext(context))
  return { replay: handler(replayHere), verify: handler(verifyHere), outbox: handler(outboxHere) }
})

const onTerminal: Progress = (line) => {
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[K${oneLine(line)}`)
  else process.stdout.write(`${oneLine(line)}\n`)
}

/** On the engines that processes share: whoever runs beside it does not have to be asked. */
const onCluster = Effect.fnUntraced(function* (settings: SettingsValues, engines: EngineAddresses, work: Maintenance) {
  const { layerLog, layerReadModels } = yield* Effect.promise(() => import("./cluster.ts"))
  const log = layerLog(settings, engines, { mustExist: true })
  return yield* work(onTerminal).pipe(Effect.provide(layerReadModels(engines).pipe(Layer.provideMerge(log))))
})

/** Asks the server that holds the folder; without one, does the work here under the folder's lock. */
const onFiles = Effect.fnUntraced(function* (settings: SettingsValues, name: string, work: Maintenance) {
  const paths = dataPaths(settings.dataDir)
  const answer = yield* askControl(paths.control, name, onTerminal)
  if (answer._tag === "Answered") return answer.result as Report
  if (!existsSync(paths.log))
    return yield* Effect.fail(new Error(`There is no event log in ${settings.dataDir} yet: nothing to ${name}`))
  yield* openDataFolder(settings.dataDir)
  const { layerLog, layerReadModels } = yield* Effect.promise(() => import("./embedded.ts"))
  return yield* work(onTerminal).pipe(
    Effect.provide(layerReadModels(settings, paths).pipe(Layer.provideMerge(layerLog(settings, paths))))
  )
})

const command = (name: "replay" | "verify" | "outbox", work: Maintenance) =>
  Effect.gen(function* () {
    const settings = yield* Settings
    const engines = engineAddresses(settings)
    const report = yield* engines === undefined ? onFiles(settings, name, work) : onCluster(settings, engines, work)
    if (process.stdout.isTTY) process.stdout.write("\r\u001b[K")
    for (const line of report.lines) yield* Console.log(line)
    if (!report.ok) return yield* Effect.fail(new Error("verify found differences"))
  }).pipe(Effect.scoped, Effect.provide(layerLogging))

/** Builds the read models anew. */
export const replay = command("replay", replayHere)

/** Compares the read models with the log. */
export const verify = command("verify", verifyHere)

/** Says what is committed and not yet told. */
export const outbox = command("outbox", outboxHere)
