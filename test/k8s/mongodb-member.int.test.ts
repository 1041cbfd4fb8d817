/** What runs beside each mongod in Kubernetes, on three real mongod with logins: it makes the set and its users, once, and never a second set. */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, onTestFinished, test } from "vitest"
import { binaries } from "../../scripts/services/binaries.ts"
import { freePort } from "../../scripts/services/ports.ts"
import { eventually } from "../../scripts/services/processes.ts"
import { Child } from "./child.ts"

const script = fileURLToPath(new URL("../../k8s/engines/mongodb/member.ts", import.meta.url))

/** A process that ends with its test. */
const child = (...args: ConstructorParameters<typeof Child>): Child => {
  const started = new Child(...args)
  onTestFinished(() => started.dispose())
  return started
}

class Member {
  mongod!: Child
  beside!: Child
  readonly folder: string
  readonly port: number
  readonly health: number

  constructor(folder: string, port: number, health: number) {
    this.folder = folder
    this.port = port
    this.health = health
  }

  async startMongod(keyFile: string): Promise<void> {
    mkdirSync(this.folder, { recursive: true })
    const { mongod } = await binaries()
    this.mongod = child(mongod, [
      ...["--dbpath", this.folder, "--port", `${this.port}`, "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"],
      ...["--replSet", "rs0", "--keyFile", keyFile, "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"],
      ...["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"],
      ...["--setParameter", "diagnosticDataCollectionEnabled=false"]
    ])
  }

  startBeside(settings: Record<string, string>): void {
    this.beside = child(process.execPath, [script], {
      ...settings,
      SELF: `127.0.0.1:${this.port}`,
      HEALTH_PORT: `${this.health}`
    })
  }

  async ready(): Promise<boolean> {
    try {
      return (await fetch(`http://127.0.0.1:${this.health}/readyz`)).ok
    } catch {
      return false
    }
  }
}

const LONG = 60_000

test("makes a set of three with logins, once; takes in what was lost, and follows the passwords and members that it is given", async () => {
  const folder = mkdtempSync(join(tmpdir(), "darda-mongodb-"))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const keyFile = join(folder, "key")
  writeFileSync(keyFile, randomBytes(96).toString("base64"), { mode: 0o400 })
  const members: Array<Member> = []
  for (const name of ["a", "b", "c"]) members.push(new Member(join(folder, name), await freePort(), await freePort()))
  const [first, second, third] = members as [Member, Member, Member]
  const list = (some: ReadonlyArray<Member>) => some.map(({ port }) => `127.0.0.1:${port}`).join(",")
  const settings = { MEMBERS: list([first, second]), ADMIN_PASSWORD: "for admins", DARDA_PASSWORD: "for darda" }
  const until = async (what: string, is: () => Promise<boolean>) => {
    if (await eventually(LONG, is)) return
    throw new Error(
      `${what}: not within ${LONG / 1000} s\n${members.map(({ beside }) => beside?.output ?? "").join("\n")}`
    )
  }
  const logIn = async (password: string): Promise<MongoClient> => {
    const client = new MongoClient(
      `mongodb://darda:${encodeURIComponent(password)}@${list([first, second])}/darda?replicaSet=rs0`,
      { serverSelectionTimeoutMS: 2_000 }
    )
    onTestFinished(() => client.close())
    await client.db().collection("kept").findOne()
    return client
  }
  const works = (password: string) =>
    logIn(password).then(
      () => true,
      () => false
    )

  // Two of them, the second of which comes late: nothing is made of one alone.
  first.startBeside(settings)
  await first.startMongod(keyFile)
  await until("refused", () => Promise.resolve(first.beside.output.includes("it is tried again")))
  expect(await first.ready()).toBe(false)
  await second.startMongod(keyFile)
  second.startBeside(settings)
  await until("in order", async () => (await first.ready()) && (await second.ready()))
  await until("a user", () => works("for darda"))
  const client = await logIn("for darda")
  await client
    .db()
    .collection("kept")
    .insertOne({ a: 1 }, { writeConcern: { w: 2 } })

  // The user may nothing but the database of Darda; whoever has no password may nothing.
  await expect(client.db("other").collection("x").insertOne({ a: 1 })).rejects.toThrow(/not authorized/)
  // And ask how the set is, not what others do in it.
  await until("asked", () =>
    Promise.resolve(first.beside.output.concat(second.beside.output).includes("Let the user darda ask"))
  )
  const { members: states } = await client.db("admin").command({ replSetGetStatus: 1 })
  expect(states.map(({ stateStr }: { stateStr: string }) => stateStr).toSorted()).toEqual(["PRIMARY", "SECONDARY"])
  await expect(client.db("admin").command({ currentOp: 1, $all: true })).rejects.toThrow(/not authorized/)
  const nobody = new MongoClient(`mongodb://${list([first, second])}/darda?replicaSet=rs0`)
  onTestFinished(() => nobody.close())
  await expect(nobody.db().collection("kept").findOne()).rejects.toThrow(/requires authentication/)

  // The disk of the first is lost: it makes no set of its own, the others take it in.
  await first.mongod.end("SIGKILL")
  await first.beside.end("SIGTERM")
  rmSync(first.folder, { recursive: true })
  first.startBeside(settings)
  await first.startMongod(keyFile)
  await until("taken in", () => first.ready())
  expect(first.beside.output).not.toContain("Made the set")
  await until("a primary", () => works("for darda"))
  expect(await (await logIn("for darda")).db().collection("kept").countDocuments()).toBe(1)

  // A third, and another password, with a new start as a change of the settings brings it.
  const changed = { ...settings, MEMBERS: list(members), DARDA_PASSWORD: "another" }
  await third.startMongod(keyFile)
  for (const member of [first, second]) await member.beside.end("SIGTERM")
  for (const member of members) member.startBeside(changed)
  await until("three in order", async () => (await Promise.all(members.map((member) => member.ready()))).every(Boolean))
  await until("the new password", () => works("another"))
  expect(await works("for darda")).toBe(false)
}, 180_000)
