/** What the doctor checks of MongoDB: that transactions are had, that the user may do what is done, and that the log there fits. */
import { type Db, MongoClient } from "mongodb"
import * as Redacted from "effect/Redacted"
import { asksTls, type EngineAddress, tlsOptions } from "../../platform/EngineAddress.ts"
import { databaseNameOf, mongoCode } from "../../platform/MongoConnection.ts"
import { collectionsOf, FORMAT, type LogDoc } from "../../write-side/EventLogMongoFormat.ts"
import { bad, type Finding, good, note } from "./finding.ts"
import { ANSWER_MS, ofClock, ofVersion } from "./shared.ts"

/** Older ones have no bulk write over several collections, which a commit is. */
const LEAST = [8, 0] as const
/** What is done with the log. The role readWrite holds all of it. */
const ACTIONS = ["find", "insert", "update", "remove", "createCollection", "createIndex"] as const

/** MongoDB's code for a user who may not. */
const UNAUTHORIZED = 13

/** What was found, and what it says of the log. */
export interface MongoFindings {
  readonly findings: ReadonlyArray<Finding>
  /** The log's id, where there is one. */
  readonly log?: string
  /** The secret that is kept with it, where there is one. */
  readonly secret?: string
}

/** Looks, and changes nothing. */
export const checkMongo = async (address: EngineAddress, shown: string, partitions: number): Promise<MongoFindings> => {
  const client = new MongoClient(Redacted.value(address.url), {
    serverSelectionTimeoutMS: ANSWER_MS,
    ...(asksTls(address) ? tlsOptions(address.tls) : {})
  })
  try {
    const admin = client.db("admin")
    const { version } = (await admin.command({ buildInfo: 1 })) as unknown as { readonly version: string }
    const asked = Date.now()
    const hello = await admin.command({ hello: 1 })
    const findings = [
      ofVersion(shown, version, LEAST),
      ofSet(shown, hello),
      ...ofClock(shown, (hello["localTime"] as Date).getTime(), asked, Date.now())
    ]
    const db = client.db(databaseNameOf(address))
    const missing = await missingRights(db)
    if (missing.length > 0) {
      findings.push(
        bad(
          `${shown}: the user in MONGO_URL may not ${missing.join(", ")} in the database ${db.databaseName}: grant it the role readWrite there`
        )
      )
      return { findings }
    }
    findings.push(...(await ofMembers(shown, admin)))
    return await checkLog(db, partitions, findings)
  } finally {
    await client.close()
  }
}

const ofSet = (shown: string, hello: Readonly<Record<string, unknown>>): Finding => {
  if (typeof hello["setName"] !== "string")
    return bad(`${shown}: is no replica set, and transactions need one: start it with --replSet and initiate it`)
  const members = (hello["hosts"] as ReadonlyArray<string> | undefined)?.length ?? 0
  return members >= 3
    ? good(`${shown}: replica set of ${members}`)
    : note(
        `${shown}: a replica set of ${members}: with fewer than three, one machine's loss stops it or loses what it acknowledged`
      )
}

/** Members that are out of order, where the user may ask for them. */
const ofMembers = async (shown: string, admin: Db): Promise<ReadonlyArray<Finding>> => {
  try {
    const { members } = (await admin.command({ replSetGetStatus: 1 })) as unknown as {
      readonly members: ReadonlyArray<{ readonly name: string; readonly stateStr: string }>
    }
    return members
      .filter(({ stateStr }) => !["PRIMARY", "SECONDARY", "ARBITER"].includes(stateStr))
      .map(({ name, stateStr }) => note(`${shown}: its member ${name} is ${stateStr.toLowerCase()}: look at its log`))
  } catch (cause) {
    // What else is in the way of an answer is in the way of other questions, too.
    if (mongoCode(cause) !== UNAUTHORIZED) return []
    return [
      note(
        `${shown}: the user in MONGO_URL may not ask how the replica set is, so that the dashboard says nothing of it: docs/operations.md has the role`
      )
    ]
  }
}

interface Privilege {
  readonly resource: { readonly db?: string; readonly collection?: string; readonly anyResource?: boolean }
  readonly actions: ReadonlyArray<string>
}

/** What the user of the connection may not do in this database; nothing where the server asks nobody who they are. */
const missingRights = async (db: Db): Promise<ReadonlyArray<string>> => {
  const { authInfo } = (await db.command({ connectionStatus: 1, showPrivileges: true })) as unknown as {
    readonly authInfo: {
      readonly authenticatedUsers: ReadonlyArray<unknown>
      readonly authenticatedUserPrivileges?: ReadonlyArray<Privilege>
    }
  }
  if (authInfo.authenticatedUsers.length === 0) {
    // Where logins are asked for this fails, which says so.
    await collectionsOf(db).meta.findOne({ _id: "log" })
    return []
  }
  const here = (authInfo.authenticatedUserPrivileges ?? []).filter(
    ({ resource: { anyResource, collection, db: name } }) =>
      anyResource === true || (collection === "" && (name === "" || name === db.databaseName))
  )
  return ACTIONS.filter((action) => !here.some(({ actions }) => actions.includes(action)))
}

const checkLog = async (db: Db, partitions: number, findings: ReadonlyArray<Finding>): Promise<MongoFindings> => {
  const { meta } = collectionsOf(db)
  const found = (await meta.findOne({ _id: "log" })) as LogDoc | null
  const kept = (await meta.findOne({ _id: "secret" })) as { readonly value?: string } | null
  const about = `event log in the database ${db.databaseName}`
  if (found === null)
    return { findings: [...findings, good(`${about}: not there yet; the first start of a writer or reader makes it`)] }
  const finding =
    found.format > FORMAT
      ? bad(`${about}: has format ${found.format}, this Darda reads format ${FORMAT}: start the version that wrote it`)
      : found.partitions === partitions
        ? good(`${about}: ${found.id}, format ${found.format}, ${found.partitions} partitions`)
        : bad(
            `${about}: has ${found.partitions} partitions, PARTITIONS is ${partitions}: set PARTITIONS=${found.partitions}`
          )
  return {
    findings: [...findings, finding],
    log: found.id,
    ...(kept?.value === undefined ? {} : { secret: kept.value })
  }
}
