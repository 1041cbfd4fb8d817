/** What is logged and how: lines for people on a terminal, one JSON object a line elsewhere; always on standard output. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import { Settings, type SettingsValues } from "./Settings.ts"

const LEVELS: Readonly<Record<SettingsValues["logLevel"], LogLevel.LogLevel>> = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  none: "None"
}

/** The format in force: what was set, else pretty exactly on a terminal. */
export const logFormat = (values: SettingsValues): "pretty" | "json" =>
  values.logFormat ?? (process.stdout.isTTY ? "pretty" : "json")

const parts = (message: unknown): ReadonlyArray<unknown> => (Array.isArray(message) ? message : [message])

const show = (value: unknown): string => {
  if (typeof value === "string") return value
  if (value instanceof Error) return value.message
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return String(value)
  }
}

const jsonLine = Logger.make((options) => {
  const annotations = options.fiber.getRef(References.CurrentLogAnnotations)
  const line: Record<string, unknown> = {
    time: options.date.toISOString(),
    level: options.logLevel.toLowerCase(),
    message: parts(options.message).map(show).join(" "),
    ...annotations
  }
  if (options.cause.reasons.length > 0) line["cause"] = Cause.pretty(options.cause)
  const span = options.fiber.cache.span
  if (span !== undefined) {
    line["traceId"] = span.traceId
    line["spanId"] = span.spanId
  }
  process.stdout.write(`${show(line)}\n`)
})

const COLORS: Readonly<Record<string, string>> = { Warn: "33", Error: "31", Fatal: "31", Debug: "2", Trace: "2" }

const prettyLine = Logger.make((options) => {
  const annotations = Object.entries(options.fiber.getRef(References.CurrentLogAnnotations))
  const color = process.stdout.isTTY ? COLORS[options.logLevel] : undefined
  const text = [
    options.date.toTimeString().slice(0, 8),
    options.logLevel.toLowerCase().padEnd(5),
    parts(options.message).map(show).join(" "),
    ...annotations.map(([key, value]) => `${key}=${show(value)}`)
  ].join(" ")
  const cause = options.cause.reasons.length > 0 ? `\n${Cause.pretty(options.cause)}` : ""
  process.stdout.write(color === undefined ? `${text}${cause}\n` : `\u001b[${color}m${text}${cause}\u001b[0m\n`)
})

/** The loggers and the level that the settings ask for. */
export const layerLogging: Layer.Layer<never, never, Settings> = Layer.unwrap(
  Effect.map(Settings, (values) =>
    Layer.mergeAll(
      Logger.layer([logFormat(values) === "json" ? jsonLine : prettyLine]),
      Layer.succeed(References.MinimumLogLevel, LEVELS[values.logLevel])
    )
  )
)
