/** The way to Redis: one connection with bounds, for the adapters that speak to it. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { type EngineAddress, shownUrl, tlsOptions } from "./EngineAddress.ts"
import { metricsWriter } from "./Metrics.ts"
import { tlsTrouble, tlsTroubleAtFirst } from "./tlsTrouble.ts"

/**
 * Redis did not answer, or refused. Of a call that failed with `timeout` or `closed` nobody knows whether it was carried out. `reason` and `cause` never hold
 * arguments of the call: they may be messages of people, or a password.
 */
export class RedisUnavailable extends Schema.TaggedError<RedisUnavailable>()("RedisUnavailable", {
  operation: Schema.String,
  /**
   * What programs tell the cases apart by: ours (`closed`, `timeout`, `busy`, `bad-url`), or the first word of Redis' own answer (`OOM`, `READONLY`,
   * `WRONGPASS`, …).
   */
  code: Schema.String,
  reason: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `Redis did not answer (${this.operation}): ${this.reason}`
  }
}

export interface RedisConnectionOptions {
  readonly address: EngineAddress
  /** For people; `CLIENT LIST` shows it after `darda-`, with hyphens for blanks. */
  readonly name: string
  /** Milliseconds for one call, its wait for a place included; 1,000 unless given. For a connection that blocks: longer than it blocks. */
  readonly timeoutMs?: number
  /** Calls on their way at once, 64 unless given. As many again times 16 may wait for a place; more fail with `busy`. */
  readonly inFlight?: number
}

type Argument = string | number | Buffer

/** A command as it is written: its name (or that of a {@link Script}, with the number of its keys first) and its arguments, of which any may be a list of them. */
export type RedisCommand = readonly [name: string, ...args: ReadonlyArray<Argument | ReadonlyArray<Argument>>]

/** A script that a connection knows: sent by its hash, and whole where the server does not have it (yet, or any more). */
export type Script = (
  client: Redis,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string | number | Buffer>
) => Promise<unknown>

export interface RedisConnection {
  /**
   * Makes a call: `work` writes to the client at once, and its promise is the answer. While there is no connection this fails at once, and it never
   * outlasts the time-out. An interrupted call is carried out all the same, and only its answer is dropped.
   */
  readonly run: <A>(operation: string, work: (client: Redis) => Promise<A>) => Effect.Effect<A, RedisUnavailable>
  /** The same for a loop in which the steps of a fiber would cost as much as what it does: calls back once, unless what it answers is called first. */
  readonly ask: Ask
  /** Defines a script under a name that no command has. All keys of one call must be in one slot. */
  readonly script: (name: string, lua: string) => Script
  /** Whether there is a connection, as far as this end knows. */
  readonly isReady: () => boolean
  /** Why there is no connection, for a person; undefined while there is one. */
  readonly trouble: () => string | undefined
  /**
   * Called with every new connection, the present one included, until the scope closes: what Redis knows of a connection or may have forgotten meanwhile has to be made anew.
   */
  readonly onReady: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
  /** The client itself, for what `run` does not fit: subscriptions. It queues nothing while there is no connection. */
  readonly client: Redis
}

type Ask = <A>(
  operation: string,
  work: (client: Redis) => Promise<A>,
  done: (exit: Exit.Exit<A, RedisUnavailable>) => void
) => () => void

const CLOSED = "the connection was closed"
const TIMEOUT_MS = 1_000
const IN_FLIGHT = 64
/** Calls that may wait for a place, for each that may be on its way. */
const WAITING_EACH = 16
/** A start waits this long for Redis, so that the first calls find it, and then goes on without. */
const FIRST_MS = 2_000
const CONNECT_MS = 3_000
/** A question that must be answered: it finds a connection whose other end is gone also when nothing else is asked. */
const PING_MS = 1_000
const RETRY_FIRST_MS = 50
const RETRY_LAST_MS = 2_000

/**
 * Connects, and connects again for as long as the scope lives. Redis may be away at the start too: then this takes 2 s, and calls fail until it is there. Fails only for
 * an address that is none.
 *
 * A connection on which an answer is due for twice the time-out is given up, whether anything else comes or not: its other end is gone, or stopped, or the way is too
 * narrow to be of use. What is on its way when a connection ends fails, and is never sent again by itself.
 */
export const connectRedis = Effect.fn("RedisConnection.connect")(function* (
  options: RedisConnectionOptions
): Effect.fn.Return<RedisConnection, RedisUnavailable, Scope.Scope> {
  const { address, name } = options
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS
  const place = yield* addressOf(address)
  const shown = shownUrl(address)
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const metrics = yield* metricsWriter
  let lost = false
  /** Whether there was a connection before. */
  let isKnown = false
  let lastError = CLOSED
  /** This connection cannot be in the database that it should be in: what else goes wrong on it says less. */
  let isElsewhere = false

  const client = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis({
        ...place,
        connectionName: `darda-${name.replaceAll(" ", "-")}`,
        lazyConnect: true,
        // What cannot be sent now fails now: reads have the log, and everything else is tried again by who wants it.
        enableOfflineQueue: false,
        autoResendUnfulfilledCommands: false,
        maxRetriesPerRequest: 0,
        connectTimeout: CONNECT_MS,
        socketTimeout: 2 * timeoutMs,
        keepAlive: 10_000,
        // The address may lead to another one since this one became a replica.
        reconnectOnError: (error) => error.message.startsWith("READONLY"),
        retryStrategy: (times) =>
          Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2)
      })
      client.on("error", (error: Error & { readonly command?: { readonly name?: string } }) => {
        if (isElsewhere) return
        if (error.command?.name === "select") {
          // The driver would go on, in the database 0.
          isElsewhere = true
          lastError = `the database ${place.db} that REDIS_URL names cannot be used (${error.message})`
          return client.disconnect(true)
        }
        const tls = isKnown ? tlsTrouble("REDIS", error) : tlsTroubleAtFirst("REDIS", address, error)
        lastError = tls ?? error.message.replace(/\.+$/, "")
      })
      client.on("connect", () => void (isElsewhere = false))
      client.on("close", () => {
        if (lost) return
        lost = true
        metrics.update("redisReconnects", 1)
        runFork(Effect.logWarning(`No connection to Redis at ${shown} (${name}): ${lastError}. It is tried again.`))
      })
      client.on("ready", () => {
        if (lost) runFork(Effect.logInfo(`Connected to Redis at ${shown} again (${name}).`))
        lost = false
        isKnown = true
        lastError = CLOSED
      })
      return client
    }),
    (client) =>
      Effect.sync(() => {
        lost = true
        client.disconnect()
      })
  )
  const ask = makeAsk(client, timeoutMs, options.inFlight ?? IN_FLIGHT, () => {
    lastError = `no answer within ${2 * timeoutMs} ms`
    client.disconnect(true)
  })

  yield* Effect.callback<void>((resume) => {
    const done = () => resume(Effect.void)
    client.once("ready", done)
    client.connect().catch(() => {})
    return Effect.sync(() => client.off("ready", done))
  }).pipe(Effect.timeoutOrElse({ duration: FIRST_MS, orElse: () => Effect.void }))
  yield* Effect.sync(() => {
    if (client.status === "ready") client.ping().catch(() => {})
  }).pipe(Effect.andThen(Effect.sleep(PING_MS)), Effect.forever, Effect.forkScoped)

  return {
    client,
    ask,
    run: (operation, work) =>
      Effect.callback((resume) => {
        const cancel = ask(operation, work, resume)
        return Effect.sync(cancel)
      }),
    isReady: () => client.status === "ready",
    trouble: () => (client.status === "ready" ? undefined : `no connection to Redis at ${shown}: ${lastError}`),
    script: (name, lua) => {
      client.defineCommand(name, { lua })
      return (client, keys, args) =>
        (client as unknown as Record<string, (...args: ReadonlyArray<unknown>) => Promise<unknown>>)[name]!(
          keys.length,
          keys,
          args
        )
    },
    onReady: (listener) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          client.on("ready", listener)
          if (client.status === "ready") listener()
        }),
        () => Effect.sync(() => client.off("ready", listener))
      )
  }
})

/** Sends commands together, in one write, and answers their replies in the same order. Fails with the first one that was refused. */
export const pipelined = async (
  client: Redis,
  commands: ReadonlyArray<RedisCommand>
): Promise<ReadonlyArray<unknown>> => {
  if (commands.length === 1) {
    // Half the cost of a pipeline of one.
    const [name, ...args] = commands[0]!
    const methods = client as unknown as Record<string, (...args: ReadonlyArray<unknown>) => Promise<unknown>>
    return [await methods[name]!(...args)]
  }
  const replies = await settled(client, commands)
  for (const reply of replies) if (reply instanceof Error) throw reply
  return replies
}

/** The same, with an error in the place of each reply that was a refusal. */
export const settled = async (
  client: Redis,
  commands: ReadonlyArray<RedisCommand>
): Promise<ReadonlyArray<unknown>> => {
  const replies = (await client.pipeline(commands as unknown as Array<Array<Argument>>).exec()) ?? []
  return replies.map(([error, reply]) => error ?? reply)
}

/**
 * Places for calls, taken in the order in which they come, and given back when Redis has answered or the connection has ended. An answer that is not there after twice
 * the time-out is a reason to give up the connection.
 */
const makeAsk = (client: Redis, timeoutMs: number, places: number, giveUp: () => void): Ask => {
  let free = places
  const waiting = new Set<() => void>()
  const release = (): void => {
    for (const next of waiting) {
      waiting.delete(next)
      return next()
    }
    free++
  }
  return <A>(
    operation: string,
    work: (client: Redis) => Promise<A>,
    resume: (exit: Exit.Exit<A, RedisUnavailable>) => void
  ) => {
    const fail = (code: string, reason: string): void =>
      resume(Exit.fail(new RedisUnavailable({ operation, code, reason, cause: undefined })))
    if (client.status !== "ready") {
      fail("closed", "there is no connection")
      return noop
    }
    if (free === 0 && waiting.size >= places * WAITING_EACH) {
      fail("busy", "too many calls wait for it already")
      return noop
    }
    /** Its answer is of no use any more. */
    let isOver = false
    let late: NodeJS.Timeout | undefined
    const start = (): void => {
      if (client.status !== "ready") {
        clearTimeout(timer)
        fail("closed", "there is no connection any more")
        return release()
      }
      const done = (exit: Exit.Exit<A, RedisUnavailable>): void => {
        clearTimeout(timer)
        clearTimeout(late)
        try {
          if (!isOver) resume(exit)
        } finally {
          release()
        }
      }
      attempt(() => work(client)).then(
        (value) => done(Exit.succeed(value)),
        (error: unknown) => done(error instanceof TypeError ? Exit.die(error) : Exit.fail(refused(operation, error)))
      )
    }
    const timer = setTimeout(() => {
      if (!waiting.delete(start)) late = setTimeout(giveUp, timeoutMs)
      isOver = true
      fail("timeout", `no answer within ${timeoutMs} ms`)
    }, timeoutMs)
    if (free > 0) {
      free--
      start()
    } else waiting.add(start)
    return () => {
      isOver = true
      clearTimeout(timer)
      waiting.delete(start)
    }
  }
}

const noop = (): void => {}

/** What is thrown before there is a promise is as what it is rejected with. */
const attempt = async <A>(work: () => Promise<A>): Promise<A> => await work()

/** What an error of the driver comes to, without what it puts there: the command with all its arguments. */
export const refused = (operation: string, error: unknown): RedisUnavailable => {
  const { message, name } = error instanceof Error ? error : new Error(String(error))
  // Of a command that it does not know Redis repeats the arguments.
  const said = message.replace(/, with args beginning with.*/s, "")
  if (name !== "ReplyError") {
    const reason = "the connection ended before the answer came"
    return new RedisUnavailable({ operation, code: "closed", reason, cause: new Error(said) })
  }
  // Redis 6 says within a sentence of its own what a script's command was refused for.
  const code = said.includes("-OOM ") ? "OOM" : (/^[A-Z]+/.exec(said)?.[0] ?? "ERR")
  return new RedisUnavailable({ operation, code, reason: said, cause: new Error(said) })
}

/** What the URL says, taken apart here: the driver would take any option of its own from the URL's query. */
const addressOf = ({ tls, url }: EngineAddress) =>
  Effect.try({
    try: () => {
      const { hostname, password, pathname, port, protocol, username } = new URL(Redacted.value(url))
      const db = pathname === "" || pathname === "/" ? 0 : Number(pathname.slice(1))
      if (!/^rediss?:$/.test(protocol) || hostname === "" || !Number.isInteger(db)) throw new Error("not a Redis URL")
      return {
        host: hostname.replace(/^\[(.*)\]$/, "$1"),
        port: port === "" ? 6379 : Number(port),
        db,
        ...(username === "" ? {} : { username: decodeURIComponent(username) }),
        ...(password === "" ? {} : { password: decodeURIComponent(password) }),
        ...(protocol === "rediss:" ? { tls: tlsOptions(tls) } : {})
      }
    },
    catch: (cause) =>
      new RedisUnavailable({
        operation: "connect",
        code: "bad-url",
        // Never the URL, and never the parser's words, which repeat it.
        reason:
          cause instanceof Error && "_tag" in cause
            ? cause.message
            : "its address must look like redis://user:password@host:6379/0, or rediss:// for TLS",
        cause: undefined
      })
  })
