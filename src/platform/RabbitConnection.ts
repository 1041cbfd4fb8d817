/** The way to RabbitMQ: a connection that is made again for as long as it is wanted, for the adapters that publish or consume on it. */
import { connect } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type EngineAddress, shownUrl, tlsOptions } from "./EngineAddress.ts"
import { metricsWriter } from "./Metrics.ts"
import { makeQuietLog, type QuietLog } from "./quietLog.ts"
import { RabbitLink, type RabbitUnavailable, rabbitUnavailable } from "./RabbitLink.ts"
import { Readiness } from "./Readiness.ts"
import { tlsTroubleAtFirst } from "./tlsTrouble.ts"

/** By which both ends find out within 10 to 15 s that the other is gone or stopped, so that a stopped process loses its partitions in time. */
const HEARTBEAT_S = 5
/** One connection, from its first packet until it is open. */
const CONNECT_MS = 10_000
const PAUSE_FIRST_MS = 50
const PAUSE_LAST_MS = 2_000
/** What lasted as long as this begins with the shortest pause again. */
const LASTED_MS = 10_000

export interface RabbitConnectionOptions {
  readonly address: EngineAddress
  /** For people, in logs and in what `rabbitmqctl list_connections` shows: few and fixed. */
  readonly name: string
}

/** A connection that is made when it is first asked for, and again whenever it is lost. */
export interface RabbitConnection {
  /** The connection, once there is one. */
  readonly link: Effect.Effect<RabbitLink>
  /**
   * Runs `use` on the connection, for ever: again on the next one when this is lost, and after a pause that grows when `use` fails or answers a
   * reason. What it answers undefined for was intended, and begins again at once.
   */
  readonly keep: (
    what: string,
    use: (link: RabbitLink) => Effect.Effect<string | undefined, RabbitUnavailable, Scope.Scope>
  ) => Effect.Effect<never>
}

/**
 * Keeps a connection for as long as the scope lives, from when it is first asked for. Tells readiness about it where there is that service. Trouble is logged
 * when it begins and every 30 s.
 */
export const makeRabbitConnection = Effect.fnUntraced(function* (
  options: RabbitConnectionOptions
): Effect.fn.Return<RabbitConnection, never, Scope.Scope> {
  const metrics = yield* metricsWriter
  // Nothing would be said of it until the first time, and so nothing be known.
  metrics.add("busBlocked", 0)
  const quiet = makeQuietLog()
  const wanted = Latch.makeUnsafe(false)
  const connected = Latch.makeUnsafe(false)
  const title = `RabbitMQ at ${shownUrl(options.address)} (${options.name})`
  let current: RabbitLink | undefined
  let isWanted = false
  let trouble = "there is no connection yet"

  const readiness = yield* Effect.serviceOption(Readiness)
  if (Option.isSome(readiness)) {
    const check = Effect.sync(() => (isWanted && current === undefined ? trouble : undefined))
    yield* readiness.value.register(options.name, check)
  }

  /** One connection, from its making to its loss. */
  const once = Effect.gen(function* () {
    const link = yield* connectOnce(options)
    link.onBlocked.add(() => metrics.add("busBlocked", link.isBlocked ? 1 : -1))
    link.onLost = () => {
      current = undefined
      connected.closeUnsafe()
    }
    if (!link.isLost) {
      current = link
      connected.openUnsafe()
      yield* quiet.over(title)
    }
    trouble = yield* Deferred.await(link.lost)
    metrics.update("busReconnects", 1)
    return trouble
  }).pipe(
    Effect.scoped,
    Effect.tapError((error) => Effect.sync(() => void (trouble = error.message)))
  )
  yield* wanted.await.pipe(Effect.andThen(again(quiet, title, once)), Effect.forkScoped)

  const link = Effect.suspend(function attempt(): Effect.Effect<RabbitLink> {
    if (current !== undefined) return Effect.succeed(current)
    isWanted = true
    wanted.openUnsafe()
    return Effect.andThen(connected.await, Effect.suspend(attempt))
  })
  return {
    link,
    keep: (what, use) => {
      const spoken = makeQuietLog()
      return again(
        spoken,
        what,
        Effect.gen(function* () {
          const mine = yield* link
          const ended = yield* Effect.result(Effect.scoped(use(mine)))
          // The connection has said it already, and is waited for.
          if (mine.isLost) return undefined
          return ended._tag === "Success" ? ended.success : ended.failure.message
        })
      )
    }
  }
})

/** Again and again, with a pause that grows while it does not last. */
const again = (
  quiet: QuietLog,
  what: string,
  once: Effect.Effect<string | undefined, RabbitUnavailable>
): Effect.Effect<never> => {
  let attempt = 0
  return Effect.forever(
    Effect.suspend(() => {
      const began = performance.now()
      return once.pipe(
        Effect.catch((error) => Effect.succeed<string | undefined>(error.message)),
        Effect.flatMap((trouble) => {
          if (trouble === undefined) return Effect.void
          if (performance.now() - began > LASTED_MS) attempt = 0
          return Effect.andThen(
            quiet.warn(what, `${trouble.replace(/\.+$/, "")}. It is tried again.`),
            pause(attempt++)
          )
        })
      )
    })
  )
}

const pause = (attempt: number): Effect.Effect<void> =>
  Effect.flatMap(Random.next, (random) =>
    Effect.sleep(Math.min(PAUSE_LAST_MS, PAUSE_FIRST_MS * 2 ** Math.min(attempt, 10)) * (0.5 + random / 2))
  )

/** One connection that lives as long as the scope, for who wants an answer now or a reason why there is none. */
export const connectOnce = (
  options: RabbitConnectionOptions
): Effect.Effect<RabbitLink, RabbitUnavailable, Scope.Scope> =>
  Effect.acquireRelease(connectTo(options), (link) => link.end, { interruptible: true })

/** An open connection. One that comes after it was given up waiting for is ended. */
const connectTo = ({ address, name }: RabbitConnectionOptions): Effect.Effect<RabbitLink, RabbitUnavailable> =>
  Effect.callback<RabbitLink, RabbitUnavailable>((resume) => {
    let isWanted = true
    const socket = {
      noDelay: true,
      timeout: CONNECT_MS,
      clientProperties: { connection_name: `darda ${name}` }
    }
    const fail = (error: unknown): void => {
      const known = tlsTroubleAtFirst("AMQP", address, error) ?? vhostTrouble(error)
      resume(Effect.fail(rabbitUnavailable("take a connection", known === undefined ? error : new Error(known))))
    }
    try {
      const { isTls, url } = addressOf(address)
      connect(url, isTls ? { ...socket, ...tlsOptions(address.tls) } : socket).then((model) => {
        const link = new RabbitLink(model)
        if (isWanted) resume(Effect.succeed(link))
        else Effect.runFork(link.end)
      }, fail)
    } catch (error) {
      fail(error)
    }
    return Effect.sync(() => void (isWanted = false))
  }).pipe(
    Effect.timeoutOrElse({
      duration: 2 * CONNECT_MS,
      orElse: () => Effect.fail(rabbitUnavailable("take a connection", new Error("no answer")))
    })
  )

/** What is wrong with the virtual host in the address. After the login only the virtual host is asked for; of what the server answers to that, amqplib says no more than that it was something else. */
export const vhostTrouble = (error: unknown): string | undefined =>
  error instanceof Error && error.message.startsWith("Expected ConnectionOpenOk; got <ConnectionClose")
    ? "it refuses the virtual host that AMQP_URL names as its path: there is none of that name, or this user may not use it"
    : undefined

/** Throws where the address is none, without repeating it. The files of TLS are read for every connection, so that certificates can be changed. */
const addressOf = ({ url }: EngineAddress): { readonly url: string; readonly isTls: boolean } => {
  const parsed = URL.parse(Redacted.value(url))
  if (parsed === null || !/^amqps?:$/.test(parsed.protocol) || parsed.hostname === "") {
    throw new Error("its address must look like amqp://user:password@host:5672/vhost, or amqps:// for TLS")
  }
  if (!parsed.searchParams.has("heartbeat")) parsed.searchParams.set("heartbeat", String(HEARTBEAT_S))
  return { url: parsed.toString(), isTls: parsed.protocol === "amqps:" }
}
