/** The way to MongoDB: one client with bounds, for the adapters that speak to it. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type Db, MongoClient, MongoError, MongoServerError, MongoServerSelectionError } from "mongodb"
import { asksTls, type EngineAddress, shownUrl, TlsFileUnreadable, tlsOptions } from "./EngineAddress.ts"
import { tlsTrouble, tlsTroubleAtFirst } from "./tlsTrouble.ts"

/** The address is none, or a file of its TLS cannot be read. Trying again does not help. */
export class MongoAddressUnusable extends Schema.TaggedError<MongoAddressUnusable>()("MongoAddressUnusable", {
  reason: Schema.String
}) {
  override get message(): string {
    return `MongoDB cannot be reached: ${this.reason}`
  }
}

export interface MongoConnection {
  readonly client: MongoClient
  /** The one that the address names, `darda` unless it names one. */
  readonly db: Db
  /** The address without user and password. */
  readonly where: string
  readonly address: EngineAddress
}

/** How long a call looks for a primary before it fails. */
const SELECT_MS = 5_000
/** How long making a connection, or a member's answer to the driver's own questions, may take. */
const CONNECT_MS = 3_000
/** How often members are asked how they are, when nothing is heard of them. With the former a stopped primary is found out within 5 s. */
const HEARTBEAT_MS = 2_000
/** How long a member may leave one call unanswered: longer than {@link MAJORITY_MS}. */
const ANSWER_MS = 8_000
/** How long a write waits for a majority before it says that it does not know. */
export const MAJORITY_MS = 5_000
const MAX_CONNECTIONS = 20

/**
 * Makes a client that lives as long as the scope. It connects when it is first used, and again whenever it has to; calls fail while there is no primary.
 * Reads see what a majority holds, as the primary knows it; writes are answered when a majority has them in its journal.
 */
export const connectMongo = (
  address: EngineAddress
): Effect.Effect<MongoConnection, MongoAddressUnusable, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const url = Redacted.value(address.url)
        const client = new MongoClient(url, {
          appName: "darda",
          readPreference: "primary",
          readConcern: { level: "majority" },
          writeConcern: { w: "majority", j: true, wtimeoutMS: MAJORITY_MS },
          serverSelectionTimeoutMS: SELECT_MS,
          waitQueueTimeoutMS: SELECT_MS,
          connectTimeoutMS: CONNECT_MS,
          heartbeatFrequencyMS: HEARTBEAT_MS,
          socketTimeoutMS: ANSWER_MS,
          maxPoolSize: MAX_CONNECTIONS,
          ignoreUndefined: true,
          ...(asksTls(address) ? tlsOptions(address.tls) : {})
        })
        return {
          client,
          db: client.db(databaseNameOf(address)),
          where: shownUrl(address),
          address
        }
      },
      catch: (cause) =>
        new MongoAddressUnusable({
          reason:
            cause instanceof TlsFileUnreadable
              ? cause.message
              : // Never the parser's words alone: it may repeat the address, with the password in it.
                `its address must look like mongodb://user:password@host:27017/darda?replicaSet=rs0 (${hidden(cause)})`
        })
    }),
    ({ client }) => Effect.ignore(Effect.tryPromise(() => client.close()))
  )

/** The database that the address names, `darda` unless it names one. */
export const databaseNameOf = (address: EngineAddress): string => {
  const named = /^[a-z+]+:\/\/[^/]*\/([^?]+)/.exec(Redacted.value(address.url))?.[1]
  return named === undefined ? "darda" : decodeURIComponent(named)
}

/** Without what the driver and the server repeat: the address with its password, the command with what people wrote. */
const hidden = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause))
    .replace(/\/\/[^@/\s]*@/g, "//")
    .replace(/ to execute command .*/s, "")
    .replace(/\.+$/, "")
    .slice(0, 300)

/** What is wrong with the name of the set in the address. The driver leaves out members of other sets, and then knows of none. */
export const setTrouble = (cause: unknown): string | undefined => {
  if (!(cause instanceof MongoServerSelectionError) || cause.reason === undefined) return undefined
  const { servers, setName } = cause.reason
  return servers.size === 0 && setName !== null
    ? `no member of a replica set ${setName} was found: look at replicaSet in MONGO_URL`
    : undefined
}

/** What went wrong, for people, in a part of a sentence. */
export const mongoReason = (cause: unknown): string =>
  mongoTlsTrouble(cause) ??
  setTrouble(cause) ??
  (cause instanceof MongoServerSelectionError
    ? `no primary was found within ${SELECT_MS / 1000} s (${hidden(cause)})`
    : hidden(cause))

/** The same for the first calls, where more can be said of how it is reached. */
export const mongoReasonAtFirst = (address: EngineAddress, cause: unknown): string =>
  tlsTroubleAtFirst("MONGO", address, cause) ?? mongoReason(cause)

/** What is wrong with TLS, where that is why it cannot be reached. */
export const mongoTlsTrouble = (cause: unknown): string | undefined => tlsTrouble("MONGO", cause)

/** The server's number for what went wrong: 11000 for a duplicate key, 13 for missing rights, …; undefined for what is no answer of a server. */
export const mongoCode = (cause: unknown): number | undefined =>
  cause instanceof MongoServerError && typeof cause.code === "number" ? cause.code : undefined

/** Whether the driver or the server put this label on an error: by them alone it is known what may be tried again. */
export const isLabelled = (
  cause: unknown,
  label: "TransientTransactionError" | "UnknownTransactionCommitResult"
): boolean => cause instanceof MongoError && cause.hasErrorLabel(label)
