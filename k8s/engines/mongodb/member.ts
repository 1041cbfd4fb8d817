/**
 * Beside every mongod of the replica set: makes the set and its users once, adds members that are new, and says to Kubernetes whether its
 * own mongod is a member in order. Whatever it does it looks at first, so that it can be started again at any moment.
 *
 * mongod lets somebody without a user in from its own machine until the first user exists, which is why this runs in the same pod.
 *
 *     SELF            this member, as others reach it: mongodb-0.mongodb:27017
 *     MEMBERS         all members, separated by commas; the first one makes the set
 *     ADMIN_PASSWORD  of the user admin, who may everything
 *     DARDA_PASSWORD  of the user darda, who may read and write the database darda, and ask how the set is
 *     HEALTH_PORT     where GET /readyz answers; 8081
 */
import { type Document, MongoClient, type MongoClientOptions, MongoServerError } from "mongodb"
import { createServer } from "node:http"
import { setTimeout as wait } from "node:timers/promises"

const SET = "rs0"
const DATABASE = "darda"
/** Milliseconds between two looks: while something is missing, and when nothing is. */
const SOON_MS = 2_000
const LATER_MS = 30_000
/** For one question. Longer than a member takes that is busy, shorter than a probe that is asked again. */
const ANSWER_MS = 5_000
/** MongoDB's codes. */
const AUTHENTICATION_FAILED = 18
const USER_NOT_FOUND = 11
const ROLE_EXISTS = 51002

const given = (name: string): string => {
  const value = process.env[name]
  if (value === undefined || value === "") throw new Error(`${name} is not set`)
  return value
}

const self = given("SELF")
const members = given("MEMBERS").split(",")
const adminPassword = given("ADMIN_PASSWORD")
const dardaPassword = given("DARDA_PASSWORD")
const here = `mongodb://127.0.0.1:${self.split(":")[1]}/?directConnection=true`

const say = (level: "info" | "warn", message: string): void =>
  console.log(JSON.stringify({ time: new Date().toISOString(), level, message }))

/** Asks the mongod of this pod, as nobody or as a user. */
const ask = async <A>(question: (client: MongoClient) => Promise<A>, more: MongoClientOptions = {}): Promise<A> => {
  const client = new MongoClient(here, {
    serverSelectionTimeoutMS: ANSWER_MS,
    connectTimeoutMS: ANSWER_MS,
    socketTimeoutMS: 60_000,
    maxPoolSize: 1,
    ...more
  })
  try {
    return await question(client)
  } finally {
    await client.close()
  }
}

const hello = (client: MongoClient): Promise<Document> => client.db("admin").command({ hello: 1 })

const codeOf = (cause: unknown): unknown => (cause instanceof MongoServerError ? cause.code : undefined)

/**
 * Makes the set, of all its members at once: MongoDB refuses that while one of them is away or has a set already. So a first
 * member whose disk was lost cannot begin anew without the others: they take it in again by themselves.
 */
const initiate = (client: MongoClient): Promise<Document> =>
  client.db("admin").command({
    replSetInitiate: { _id: SET, members: members.map((host, _id) => ({ _id, host })) }
  })

const admin: MongoClientOptions = { auth: { username: "admin", password: adminPassword }, authSource: "admin" }
const darda: MongoClientOptions = { auth: { username: "darda", password: dardaPassword }, authSource: DATABASE }

const mayLogIn = async (as: MongoClientOptions): Promise<boolean> => {
  try {
    await ask((client) => client.db(as.authSource).command({ ping: 1 }), as)
    return true
  } catch (cause) {
    if (codeOf(cause) === AUTHENTICATION_FAILED) return false
    throw cause
  }
}

/** The first user, while there is none. */
const createAdmin = async (): Promise<void> => {
  try {
    await ask((client) =>
      client.db("admin").command({ createUser: "admin", pwd: adminPassword, roles: [{ role: "root", db: "admin" }] })
    )
    say("info", "Made the user admin")
  } catch (cause) {
    throw new Error(`The user admin has another password than ADMIN_PASSWORD: ${(cause as Error).message}`, { cause })
  }
}

const createDarda = (client: MongoClient): Promise<void> =>
  setUser(client, "updateUser", "Gave the user darda the password that it should have").catch((cause: unknown) => {
    if (codeOf(cause) === USER_NOT_FOUND) return setUser(client, "createUser", "Made the user darda")
    throw cause
  })

const setUser = async (client: MongoClient, command: "createUser" | "updateUser", done: string): Promise<void> => {
  const roles = [{ role: "readWrite", db: DATABASE }]
  await client.db(DATABASE).command({ [command]: "darda", pwd: dardaPassword, roles })
  say("info", done)
}

/** What Darda measures of the set: a role of its own, since MongoDB's for that (clusterMonitor) also shows what others ask. */
const ASKS = { role: "dardaAsks", db: "admin" }

/** Lets darda ask how the set is: one who was made by an earlier version, too. */
const letAsk = async (client: MongoClient): Promise<void> => {
  const { users } = await client.db(DATABASE).command({ usersInfo: "darda" })
  const has = (users as ReadonlyArray<{ readonly roles: ReadonlyArray<typeof ASKS> }>).some(({ roles }) =>
    roles.some(({ role }) => role === ASKS.role)
  )
  if (has) return
  const privileges = [{ resource: { cluster: true }, actions: ["serverStatus", "replSetGetStatus"] }]
  try {
    await client.db(ASKS.db).command({ createRole: ASKS.role, privileges, roles: [] })
  } catch (cause) {
    if (codeOf(cause) !== ROLE_EXISTS) throw cause
  }
  await client.db(DATABASE).command({ grantRolesToUser: "darda", roles: [ASKS] })
  say("info", "Let the user darda ask how the set is")
}

/** Members that the set lacks, one at a time as MongoDB wants it. None is ever removed: that is for a person to do. */
const addMembers = async (client: MongoClient): Promise<boolean> => {
  const config = (await client.db("admin").command({ replSetGetConfig: 1 }))["config"] as {
    version: number
    members: ReadonlyArray<{ readonly _id: number; readonly host: string }>
  }
  const host = members.find((host) => !config.members.some((member) => member.host === host))
  if (host === undefined) return true
  const _id = Math.max(...config.members.map((member) => member._id)) + 1
  const more = { ...config, version: config.version + 1, members: [...config.members, { _id, host }] }
  await client.db("admin").command({ replSetReconfig: more })
  say("info", `Took ${host} into the set`)
  return false
}

/** Looks once, and does what is missing; answers whether nothing is left to do. */
const look = async (): Promise<boolean> => {
  const state = await ask(hello)
  if (state["setName"] === undefined) {
    if (self !== members[0] || state["isreplicaset"] !== true) return false
    await ask(initiate)
    say("info", `Made the set of ${members.join(", ")}`)
    return false
  }
  // Users and members are the primary's to write. Who follows it looks often, since it may be the next.
  if (state["isWritablePrimary"] !== true) return false
  if (!(await mayLogIn(admin))) await createAdmin()
  if (!(await mayLogIn(darda))) await ask(createDarda, admin)
  await ask(letAsk, admin)
  return await ask(addMembers, admin)
}

/** Whether this mongod may be counted on: it is primary, or follows one. */
const inOrder = async (): Promise<boolean> => {
  const state = await ask(hello)
  return state["isWritablePrimary"] === true || state["secondary"] === true
}

const server = createServer((request, response) => {
  const answer = (status: number, text: string) => response.writeHead(status).end(`${text}\n`)
  if (request.url !== "/readyz") return void answer(404, "ask for /readyz")
  inOrder().then(
    (yes) => answer(yes ? 200 : 503, yes ? "in order" : "neither primary nor secondary"),
    (cause: unknown) => answer(503, (cause as Error).message)
  )
}).listen(Number(process.env["HEALTH_PORT"] ?? 8081))

let going = true
const stopped = new AbortController()
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => {
    going = false
    stopped.abort()
    server.close()
    server.closeAllConnections()
  })
}

let complaint = ""
while (going) {
  let pause = SOON_MS
  try {
    if (await look()) pause = LATER_MS
    complaint = ""
  } catch (cause) {
    // Said once, not every two seconds.
    const message = (cause as Error).message
    if (message !== complaint) say("warn", `${message}; it is tried again`)
    complaint = message
  }
  await wait(pause, undefined, { signal: stopped.signal }).catch(() => {})
}
