/** `darda load`: a line each second while it sends, a table at the end. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { randomBytes } from "node:crypto"
import { Generator, type LoadPlan, type LoadResult } from "./load/Generator.ts"
import type { Histogram } from "./load/Histogram.ts"
import { mostConversations } from "./load/plan.ts"
import { devTokens, tokensFromFile } from "./load/tokens.ts"

/** The flags of `darda load`. */
export interface LoadOptions {
  readonly url: string
  readonly users: number
  readonly conversations: number
  readonly groupSize: number
  readonly rate: Option.Option<number>
  readonly max: boolean
  readonly window: number
  readonly seconds: number
  readonly settle: number
  readonly body: number
  readonly tokenFile: Option.Option<string>
  readonly json: boolean
}

const GROUP_MEMBERS = 257

const checkOptions = (options: LoadOptions): string | undefined => {
  const { groupSize, users, conversations } = options
  if (!URL.canParse(options.url)) return `--url ${options.url} is no URL`
  if (Option.isSome(options.rate) && options.max) return "--rate and --max exclude each other"
  if (Option.isSome(options.rate) && options.rate.value < 1) return "--rate must be at least 1"
  if (groupSize < 2 || groupSize > Math.min(users, GROUP_MEMBERS)) {
    return `--group-size must be from 2 to the number of users and at most ${GROUP_MEMBERS}, not ${groupSize}`
  }
  const most = mostConversations(users, groupSize)
  if (conversations > most)
    return `${users} users have at most ${most} direct conversations, --conversations is ${conversations}`
  return undefined
}

const attempt = <A>(work: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, Error> =>
  Effect.tryPromise({ try: work, catch: (cause) => (cause instanceof Error ? cause : new Error(String(cause))) })

/** Sends what the options say and prints what came of it. Fails when nothing was persisted. */
export const load = Effect.fnUntraced(function* (options: LoadOptions) {
  const problem = checkOptions(options)
  if (problem !== undefined) return yield* Effect.fail(new Error(problem))
  const run = randomBytes(4).toString("hex")
  const say = (line: string) => (options.json ? Effect.void : Console.log(line))
  const users = yield* attempt(async () =>
    Option.isSome(options.tokenFile)
      ? tokensFromFile(options.tokenFile.value, options.users)
      : await devTokens(
          options.url,
          Array.from({ length: options.users }, (_, i) => `load-${run}-${i}`)
        )
  )
  const plan: LoadPlan = {
    url: options.url,
    users,
    conversations: options.conversations,
    groupSize: options.groupSize,
    rate: Option.getOrUndefined(options.rate),
    window: options.window,
    seconds: options.seconds,
    settleSeconds: options.settle,
    bodyChars: options.body
  }
  const generator = yield* Effect.acquireRelease(
    Effect.sync(() => new Generator(plan)),
    (generator) => Effect.sync(() => generator.close())
  )
  yield* say(`Opening ${plan.users.length} connections and ${plan.conversations} conversations`)
  yield* attempt(() => generator.open())
  const result = yield* Effect.raceFirst(
    attempt((signal) => generator.run(signal)),
    options.json ? Effect.never : progress(generator)
  )
  yield* Console.log(options.json ? JSON.stringify(resultJson(plan, result)) : resultTable(plan, result))
  if (result.persisted === 0) return yield* Effect.fail(new Error("nothing was persisted"))
}, Effect.scoped)

const progress = (generator: Generator): Effect.Effect<never> =>
  Effect.suspend(() => {
    let second = 0
    let before = { ...generator.counts }
    return Effect.sync(() => {
      const now = { ...generator.counts }
      const rate = (name: "sent" | "persisted" | "delivered") => `${name} ${now[name] - before[name]}/s`
      const errors = Object.values(now.errors).reduce((sum, count) => sum + count, 0)
      const line = `${String(++second).padStart(4)} s  ${rate("sent")}, ${rate("persisted")}, ${rate("delivered")}, errors ${errors}`
      before = now
      return line
    }).pipe(Effect.flatMap(Console.log), Effect.delay("1 second"), Effect.forever)
  })

const QUANTILES = [0.5, 0.9, 0.99] as const

const latencies = (histogram: Histogram) => ({
  p50: round(histogram.quantile(QUANTILES[0])),
  p90: round(histogram.quantile(QUANTILES[1])),
  p99: round(histogram.quantile(QUANTILES[2])),
  max: round(histogram.max)
})

const round = (value: number): number => Math.round(value * 100) / 100

/** The result as JSON: latencies in milliseconds, throughput in messages a second. */
export const resultJson = (plan: LoadPlan, result: LoadResult) => ({
  users: plan.users.length,
  conversations: plan.conversations,
  groupSize: plan.groupSize,
  rate: plan.rate ?? "max",
  bodyChars: plan.bodyChars,
  seconds: round(result.seconds),
  sent: result.sent,
  persisted: result.persisted,
  delivered: result.delivered,
  unanswered: result.unanswered,
  lostConnections: result.lost,
  errors: result.errors,
  cpuSeconds: round(result.cpuSeconds),
  persistedPerSecond: Math.round(result.persistedPerSecond),
  deliveredPerSecond: Math.round(result.deliveredPerSecond),
  sendToPersistedMs: latencies(result.toPersisted),
  sendToDeliveredMs: latencies(result.toDelivered)
})

const resultTable = (plan: LoadPlan, result: LoadResult): string => {
  const json = resultJson(plan, result)
  const errors = Object.entries(result.errors)
    .map(([code, count]) => `${code} ${count}`)
    .join(", ")
  const row = (name: string, value: string | number) => `${name.padEnd(22)}${value}`
  const times = (name: string, of: ReturnType<typeof latencies>) =>
    row(name, [of.p50, of.p90, of.p99, of.max].map((value) => `${value.toFixed(2)} ms`.padStart(12)).join(""))
  return [
    "",
    row(
      "sent",
      `${json.sent} at ${plan.rate === undefined ? "full speed" : `${plan.rate}/s`}, ${plan.bodyChars} characters each`
    ),
    row("persisted", `${json.persisted} (${json.persistedPerSecond}/s)`),
    row("delivered", `${json.delivered} (${json.deliveredPerSecond}/s)`),
    row("errors", errors === "" ? "none" : errors),
    row("unanswered", json.unanswered),
    row("lost connections", json.lostConnections),
    row("", ["p50", "p90", "p99", "max"].map((name) => name.padStart(12)).join("")),
    times("send to persisted", json.sendToPersistedMs),
    times("send to delivered", json.sendToDeliveredMs)
  ].join("\n")
}
