/** The roles as an overlay starts them, by the environment that its ConfigMaps and Secrets hold to the letter. The ends' own tests run on the same engines. */
import { MongoClient } from "mongodb"
import { afterAll, beforeAll, expect, test } from "vitest"
import { DardaProcess } from "../support/process.ts"
import { type SharedPods, sharedPods } from "../support/pods.ts"
import { makeGroup, say, talk } from "../support/talk.ts"
import { darda } from "../cli/darda.ts"
import { environmentOf, podOf, roles } from "./cluster.ts"
import { installed } from "./render.ts"

let pods: SharedPods
const started: Array<DardaProcess> = []
beforeAll(() => {
  pods = sharedPods()!
})
afterAll(async () => {
  await Promise.all(started.map((one) => one.dispose()))
})

const start = async (role: string, more: Readonly<Record<string, string>> = {}): Promise<DardaProcess> => {
  const one = await DardaProcess.make(["serve", "--roles", role], { ...pods.environments[role], ...more })
  started.push(one)
  await one.start()
  return one
}

test("are given what the overlay says, but for addresses", () => {
  const objects = installed("dev")
  const wanted = Object.fromEntries(
    roles(objects).map((role): [string, Readonly<Record<string, string>>] => [
      role.metadata.name,
      environmentOf(objects, podOf(role).containers[0]).environment
    ])
  )
  expect(Object.keys(pods.environments).toSorted()).toEqual(["edge", "read", "write"])
  for (const [role, environment] of Object.entries(pods.environments)) {
    for (const [name, value] of Object.entries(wanted[role]!)) {
      if (name === "PORT" || name === "READ_URL") continue
      if (name === "HOST") expect(environment[name]).toBe("127.0.0.1")
      else
        expect(environment[name]!.replace(/127\.0\.0\.1:\d+/, "…")).toBe(
          value.replace(/(?<=@|^)[\w.-]+:\d+(?=\/|$)/, "…")
        )
    }
  }
})

test("serve with them, keep their passwords to themselves, and are what the doctor wants", async () => {
  const read = await start("read")
  const write = await start("write")
  const edge = await start("edge", { READ_URL: read.url })
  const ann = await talk(edge.url, "ann")
  const group = await makeGroup(ann, ["bob"])
  const bob = await talk(edge.url, "bob")
  await say(ann, { conv: group }, "hello")
  await bob.got("event")
  for (const [role, one] of Object.entries({ read, write, edge })) {
    const { code, stdout } = await darda(["doctor"], {
      ...pods.environments[role],
      PORT: String(one.port),
      ...(role === "edge" ? { READ_URL: read.url } : {})
    }).ended
    expect(stdout).not.toContain("✗")
    expect(stdout).toMatch(/✓ MongoDB at .*replica set|! MongoDB at .*a replica set of 1/)
    expect(stdout).toMatch(/✓ RabbitMQ at/)
    expect(stdout).toMatch(/✓ Redis at .*noeviction/)
    expect(stdout).not.toContain("may not ask how the replica set is")
    expect(code).toBe(0)
    for (const secret of pods.secrets) for (const text of [one.output, stdout]) expect(text).not.toContain(secret)
  }
})

test("have engines that let nobody in without a password", async () => {
  const { AMQP_URL, MONGO_URL, REDIS_URL } = pods.environments["write"] as Readonly<Record<string, string>>
  const nobody = (url: string): string => url.replace(/\/\/[^@]*@/, "//")
  const { code, stdout } = await darda(["doctor"], {
    ...pods.environments["write"],
    MONGO_URL: nobody(MONGO_URL!),
    AMQP_URL: nobody(AMQP_URL!),
    REDIS_URL: nobody(REDIS_URL!)
  }).ended
  expect(code).toBe(1)
  for (const engine of ["MongoDB", "RabbitMQ", "Redis"]) expect(stdout).toMatch(new RegExp(`✗ ${engine} at`))
  // Who may only read, and not ask how the set is, is told what is missing.
  const admin = new MongoClient(pods.adminUrl)
  try {
    await admin.db("darda").command({ createUser: "reader", pwd: "reads", roles: [{ role: "read", db: "darda" }] })
    const reader = await darda(["doctor"], {
      ...pods.environments["write"],
      MONGO_URL: MONGO_URL!.replace(/\/\/[^@]*@/, "//reader:reads@")
    }).ended
    expect(reader.stdout).toMatch(
      /✗ MongoDB at .*: the user in MONGO_URL may not insert, update, .* in the database darda/
    )
    await admin.db("darda").command({ grantRolesToUser: "reader", roles: [{ role: "readWrite", db: "darda" }] })
    const writer = await darda(["doctor"], {
      ...pods.environments["write"],
      MONGO_URL: MONGO_URL!.replace(/\/\/[^@]*@/, "//reader:reads@")
    }).ended
    expect(writer.stdout).toMatch(/! MongoDB at .* may not ask how the replica set is/)
    expect(writer.stdout).not.toContain("✗")
  } finally {
    await admin.close()
  }
  // And darda may nothing in other databases, or to other users.
  const client = new MongoClient(MONGO_URL!)
  try {
    await expect(client.db("other").collection("x").insertOne({ a: 1 })).rejects.toThrow(/not authorized/)
    await expect(client.db("darda").command({ usersInfo: 1 })).rejects.toThrow(/not authorized/)
  } finally {
    await client.close()
  }
})
