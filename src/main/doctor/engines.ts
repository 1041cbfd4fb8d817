/** What the doctor checks of the engines that processes share: that they answer, are new enough, and are set up for what is asked of them. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { connect } from "amqplib"
import { Redis } from "ioredis"
import { MongoClient } from "mongodb"
import { type EngineAddress, shownUrl, tlsOptions } from "../../platform/EngineAddress.ts"
import type { EngineAddresses } from "../../platform/Settings.ts"
import { bad, type Finding, good, note } from "./finding.ts"

/** How long an engine may take to answer the doctor, in milliseconds. */
const ANSWER_MS = 5_000

/** Older ones have no bulk write over several collections, which a commit is. */
const MONGO = [8, 0] as const
/** Older ones have no single active consumer on quorum queues that can be relied on. */
const RABBIT = [3, 10] as const
/** Older ones lack commands that scripts use. */
const REDIS = [7, 0] as const

/** Findings about all three, asked at the same time. */
export const checkEngines = (engines: EngineAddresses): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.map(
    Effect.all(
      [
        look("MongoDB", engines.mongo, checkMongo),
        look("RabbitMQ", engines.amqp, checkRabbit),
        look("Redis", engines.redis, checkRedis)
      ],
      { concurrency: "unbounded" }
    ),
    (found) => found.flat()
  )

type Check = (address: EngineAddress, shown: string) => Promise<ReadonlyArray<Finding>>

const look = (name: string, address: EngineAddress, check: Check): Effect.Effect<ReadonlyArray<Finding>> => {
  const shown = `${name} at ${shownUrl(address)}`
  return Effect.tryPromise(() => check(address, shown)).pipe(
    Effect.catch(({ cause }) =>
      // What a driver says may repeat the address, with the password in it.
      Effect.succeed([bad(`${shown}: ${hidden(address, (cause as Error).message)}`)])
    ),
    Effect.timeoutOrElse({
      duration: 2 * ANSWER_MS,
      orElse: () => Effect.succeed([bad(`${shown}: no answer within ${(2 * ANSWER_MS) / 1000} s`)])
    })
  )
}

const hidden = (address: EngineAddress, message: string): string =>
  message.replaceAll(Redacted.value(address.url), shownUrl(address)).replace(/\/\/[^@/\s]*@/g, "//")

const isOlder = (version: string, [major, minor]: readonly [number, number]): boolean => {
  const [has = 0, hasMinor = 0] = version.split(".").map(Number)
  return has < major || (has === major && hasMinor < minor)
}

const ofVersion = (shown: string, version: string, least: readonly [number, number]): Finding =>
  isOlder(version, least)
    ? bad(`${shown}: is version ${version}; at least ${least.join(".")} is needed: upgrade it`)
    : good(`${shown}: version ${version}`)

const checkMongo: Check = async (address, shown) => {
  const client = new MongoClient(Redacted.value(address.url), {
    serverSelectionTimeoutMS: ANSWER_MS,
    ...(/[?&](tls|ssl)=true/.test(Redacted.value(address.url)) ? tlsOptions(address.tls) : {})
  })
  try {
    const hello = await client.db("admin").command({ hello: 1 })
    const { version } = (await client.db("admin").command({ buildInfo: 1 })) as unknown as { readonly version: string }
    const findings = [ofVersion(shown, version, MONGO)]
    if (typeof hello["setName"] !== "string") {
      findings.push(
        bad(`${shown}: is no replica set, and transactions need one: start it with --replSet and initiate it`)
      )
    } else {
      const members = (hello["hosts"] as ReadonlyArray<string> | undefined)?.length ?? 0
      findings.push(
        members >= 3
          ? good(`${shown}: replica set of ${members}`)
          : note(
              `${shown}: a replica set of ${members}: with fewer than three, one machine's loss stops it or loses what it acknowledged`
            )
      )
    }
    return findings
  } finally {
    await client.close()
  }
}

const checkRabbit: Check = async (address, shown) => {
  const url = Redacted.value(address.url)
  const connection = await connect(url, {
    timeout: ANSWER_MS,
    ...(url.startsWith("amqps:") ? tlsOptions(address.tls) : {})
  })
  let blocked: string | undefined
  connection.on("error", () => {}).on("blocked", (reason: string) => void (blocked = reason))
  try {
    const properties = (connection as unknown as { connection: { serverProperties: { version?: string } } }).connection
      .serverProperties
    // An alarm is told on the first publish, which a channel stands for here.
    const channel = await connection.createChannel()
    await channel.close()
    const findings = [ofVersion(shown, properties.version ?? "0", RABBIT)]
    if (blocked !== undefined)
      findings.push(bad(`${shown}: takes nothing (${blocked}): make room, or raise its limits`))
    return findings
  } finally {
    await connection.close()
  }
}

const checkRedis: Check = async (address, shown) => {
  const url = Redacted.value(address.url)
  const redis = new Redis(url, {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    connectTimeout: ANSWER_MS,
    commandTimeout: ANSWER_MS,
    ...(url.startsWith("rediss:") ? { tls: tlsOptions(address.tls) } : {})
  })
  let problem: Error | undefined
  redis.on("error", (error: Error) => void (problem ??= error))
  try {
    await redis.connect().catch((error: unknown) => {
      throw problem ?? error
    })
    const info = await redis.info()
    const of = (field: string): string => new RegExp(`^${field}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? ""
    const findings = [ofVersion(shown, of("redis_version"), REDIS)]
    const policy = of("maxmemory_policy")
    findings.push(
      policy === "noeviction"
        ? good(`${shown}: maxmemory-policy noeviction`)
        : bad(
            `${shown}: maxmemory-policy is ${policy}, so it may throw away routes and parts of read models: set noeviction`
          )
    )
    if (of("maxmemory") === "0")
      findings.push(note(`${shown}: maxmemory is not set; set it below the machine's memory`))
    return findings
  } finally {
    redis.disconnect()
  }
}
