/** What the doctor checks of the engines that processes share: that they answer, are new enough, and are set up for what is asked of them. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Redis } from "ioredis"
import { asksTls, type EngineAddress, shownUrl, tlsOptions } from "../../platform/EngineAddress.ts"
import { setTrouble } from "../../platform/MongoConnection.ts"
import { vhostTrouble } from "../../platform/RabbitConnection.ts"
import type { EngineAddresses, SettingsValues } from "../../platform/Settings.ts"
import { type EngineName, tlsFilesTrouble, tlsTroubleAtFirst } from "../../platform/tlsTrouble.ts"
import { bad, type Finding, good, note } from "./finding.ts"
import { checkMongo, type MongoFindings } from "./mongo.ts"
import { checkRabbit } from "./rabbit.ts"
import { checkReaders } from "./readers.ts"
import { ANSWER_MS, hidden, ofClock, ofVersion } from "./shared.ts"

/** Older ones lack commands that scripts use. */
const REDIS = [7, 0] as const

/** Findings about all three, asked at the same time, and then about the read processes of READ_URL. */
export const checkEngines = Effect.fnUntraced(function* (engines: EngineAddresses, settings: SettingsValues) {
  const found = { mongo: undefined as MongoFindings | undefined }
  const findings = yield* Effect.all(
    [
      look("MongoDB", "MONGO", engines.mongo, async (address, shown) => {
        found.mongo = await checkMongo(address, shown, settings.partitions)
        return found.mongo.findings
      }),
      look("RabbitMQ", "AMQP", engines.amqp, checkRabbit),
      look("Redis", "REDIS", engines.redis, checkRedis)
    ],
    { concurrency: "unbounded" }
  )
  const kept = found.mongo?.secret
  const secret = settings.clusterSecret ?? (kept === undefined ? undefined : Redacted.make(kept))
  const readers = yield* Effect.promise(() => checkReaders(settings.readUrl, secret, found.mongo?.log))
  return [...findings.flat(), ...readers]
})

type Check = (address: EngineAddress, shown: string) => Promise<ReadonlyArray<Finding>>

const look = (
  name: string,
  engine: EngineName,
  address: EngineAddress,
  check: Check
): Effect.Effect<ReadonlyArray<Finding>> => {
  const shown = `${name} at ${shownUrl(address)}`
  const files = tlsFilesTrouble(engine, address)
  if (files !== undefined) return Effect.succeed([bad(files)])
  return Effect.tryPromise(() => check(address, shown)).pipe(
    Effect.catch(({ cause }) =>
      // What a driver says may repeat the address, with the password in it.
      Effect.succeed([
        bad(
          `${shown}: ${tlsTroubleAtFirst(engine, address, cause) ?? setTrouble(cause) ?? vhostTrouble(cause) ?? hidden(address, (cause as Error).message)}`
        )
      ])
    ),
    Effect.timeoutOrElse({
      duration: 2 * ANSWER_MS,
      orElse: () => Effect.succeed([bad(`${shown}: no answer within ${(2 * ANSWER_MS) / 1000} s`)])
    })
  )
}

const checkRedis: Check = async (address, shown) => {
  const redis = new Redis(Redacted.value(address.url), {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    connectTimeout: ANSWER_MS,
    commandTimeout: ANSWER_MS,
    ...(asksTls(address) ? { tls: tlsOptions(address.tls) } : {})
  })
  let problem: Error | undefined
  redis.on("error", (error: Error) => void (problem ??= error))
  try {
    await redis.connect().catch((error: unknown) => {
      throw problem ?? error
    })
    // The driver goes on, in the database 0, where the one that the URL names is refused.
    if (problem !== undefined) throw problem
    const asked = Date.now()
    const [seconds, micros] = await redis.time()
    const theirs = Number(seconds) * 1000 + Number(micros) / 1000
    const clock = ofClock(shown, theirs, asked, Date.now())
    const info = await redis.info()
    const of = (field: string): string => new RegExp(`^${field}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? ""
    const findings = [ofVersion(shown, of("redis_version"), REDIS), ...clock]
    if (of("redis_mode") === "cluster")
      findings.push(bad(`${shown}: is part of a Redis Cluster, which is not spoken to: name a Redis that stands alone`))
    if (of("role") === "slave") findings.push(bad(`${shown}: is a replica and takes no writes: name its primary`))
    const policy = of("maxmemory_policy")
    findings.push(
      policy === "noeviction"
        ? good(`${shown}: maxmemory-policy noeviction`)
        : bad(
            `${shown}: maxmemory-policy is ${policy}, so it may throw away routes and parts of read models: set noeviction`
          )
    )
    findings.push(...(await rightsOf(redis, shown)))
    if (of("maxmemory") === "0")
      findings.push(note(`${shown}: maxmemory is not set; set it below the machine's memory`))
    return findings
  } finally {
    redis.disconnect()
  }
}

/** What is done with it, by a key that is gone a moment later. Nothing where it is allowed. */
const rightsOf = async (redis: Redis, shown: string): Promise<ReadonlyArray<Finding>> => {
  const key = `darda:doctor:${randomUUID()}`
  try {
    await redis.eval(`redis.call("SET", KEYS[1], 1, "PX", 1) return redis.call("PUBLISH", KEYS[1], "")`, 1, key)
    return []
  } catch (cause) {
    const { message } = cause as Error
    // The latter two say what a script may not.
    if (!/^NOPERM|can't run this command|can't access/.test(message)) return []
    return [
      bad(`${shown}: the user in REDIS_URL may not write keys, publish and run scripts: give it all rights there`)
    ]
  }
}
