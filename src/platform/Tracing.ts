/**
 * Traces: where the time of a send goes, from the edge that took it to the edges that deliver it. One of many is followed, since each hop of each costs;
 * where nobody asked for traces nothing is made, kept or compared but one `undefined`.
 *
 * Effect's own tracer stays as it is. Spans are made here by hand, because a hop carries hundreds of commands in one step, and a span for each effect would say nothing of
 * any of them.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as OtlpExporter from "effect/observability/OtlpExporter"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { SettingsValues } from "./Settings.ts"

/** A part of a trace that is under way. */
export interface TraceSpan {
  /** W3C trace context, by which others take part in the trace. */
  readonly traceparent: string
  /** When it began, in milliseconds since 1970. */
  readonly from: number
  readonly end: () => void
}

export interface TracePart {
  readonly name: string
  /** The trace that it belongs to. */
  readonly traceparent: string
  /** When it began, in milliseconds since 1970; it ends now. */
  readonly from: number
  /** Other traces that went the same way in the same step. */
  readonly with?: ReadonlyArray<string>
  readonly attributes?: Readonly<Record<string, string | number>>
}

/** What follows sends, where traces were asked for. */
export interface TracingOn {
  /** Begins a trace, for one in so many; undefined for all others. */
  readonly begin: (name: string) => TraceSpan | undefined
  /** Tells of a part that is over. A trace context that is none is left out. */
  readonly part: (part: TracePart) => void
}

/** Undefined where nobody asked for traces. */
export const Tracing = Context.Reference<TracingOn | undefined>("darda/platform/Tracing", {
  defaultValue: () => undefined
})

/** Other traces that a part names at most: a commit may carry hundreds. */
const LINKS = 32

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/

const contextOf = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const [, traceId, spanId] = TRACEPARENT.exec(traceparent) ?? []
  return traceId === undefined || spanId === undefined ? undefined : Tracer.externalSpan({ traceId, spanId })
}

const nanos = (millis: number): bigint => BigInt(Math.round(millis)) * 1_000_000n

/** Traces as the settings ask for them, until the scope closes; what is left is then sent. `role` is what the process does. */
export const makeTracing = (
  { otlpTracesUrl: url, traceOneIn }: Pick<SettingsValues, "otlpTracesUrl" | "traceOneIn">,
  role: string
): Effect.Effect<TracingOn | undefined, never, Scope.Scope> =>
  url === undefined
    ? Effect.succeed<TracingOn | undefined>(undefined)
    : Effect.gen(function* () {
        const runFork = Effect.runForkWith(yield* Effect.context<never>())
        const log: Log = (name, fields) =>
          void runFork(Effect.annotateLogs(Effect.logDebug(`Followed: ${name}`), fields))
        return make(yield* exporting(url, role), () => Math.random() * traceOneIn < 1, log)
      })

type Log = (name: string, fields: Readonly<Record<string, string | number>>) => void

/**
 * Lines of the log that are written meanwhile say which followed sends they are about. `traceparents` is asked only where there are traces.
 */
export const about =
  (tracing: TracingOn | undefined, traceparents: () => ReadonlyArray<string>) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    if (tracing === undefined) return self
    const ids = traceparents()
      .slice(0, LINKS)
      .flatMap((traceparent) => contextOf(traceparent)?.traceId ?? [])
    return ids.length === 0 ? self : Effect.annotateLogs(self, "traceId", ids.join(" "))
  }

const exporting = (url: string, role: string): Effect.Effect<Tracer.Tracer, never, Scope.Scope> =>
  Effect.flatMap(
    Layer.build(Layer.mergeAll(OtlpExporter.layerFlusher, OtlpSerialization.layerJson, FetchHttpClient.layer)),
    (services) =>
      Effect.provide(
        OtlpTracer.make({
          url,
          resource: { serviceName: `darda-${role}` },
          exportInterval: "2 seconds",
          shutdownTimeout: "2 seconds"
        }),
        services
      )
  )

const make = (tracer: Tracer.Tracer, isFollowed: () => boolean, log: Log): TracingOn => {
  const span = (
    name: string,
    from: number,
    parent: Tracer.AnySpan | undefined,
    links: ReadonlyArray<Tracer.AnySpan> = []
  ): Tracer.Span =>
    tracer.span({
      name,
      parent: Option.fromUndefinedOr(parent),
      annotations: Context.empty(),
      links: links.map((linked) => ({ span: linked, attributes: {} })),
      startTime: nanos(from),
      kind: parent === undefined ? "server" : "internal",
      root: parent === undefined,
      sampled: true
    })
  const end = (one: Tracer.Span, from: number, attributes: Readonly<Record<string, string | number>> = {}): void => {
    const now = Date.now()
    one.end(nanos(now), Exit.void)
    log(one.name, { traceId: one.traceId, spanId: one.spanId, millis: now - from, ...attributes })
  }
  return {
    begin: (name) => {
      if (!isFollowed()) return undefined
      const from = Date.now()
      const root = span(name, from, undefined)
      return { traceparent: `00-${root.traceId}-${root.spanId}-01`, from, end: () => end(root, from) }
    },
    part: ({ attributes = {}, from, name, traceparent, with: others = [] }) => {
      const parent = contextOf(traceparent)
      if (parent === undefined) return
      const links = others
        .filter((other) => other !== traceparent)
        .slice(0, LINKS)
        .flatMap((other) => contextOf(other) ?? [])
      const one = span(name, from, parent, links)
      for (const [key, value] of Object.entries(attributes)) one.attribute(key, value)
      end(one, from, attributes)
    }
  }
}
