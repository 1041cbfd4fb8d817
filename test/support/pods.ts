/**
 * What the overlay `dev` of k8s/ would install, as far as a cluster of tests needs it: engines with its files and passwords, and the environment of each role. The tests of the project
 * `cluster` run on it where kubectl is installed.
 */
import { MongoClient } from "mongodb"
import { randomBytes } from "node:crypto"
import { askFor } from "./onDemand.ts"

type Environment = Readonly<Record<string, string>>

/** What pods.setup.ts tells. */
export interface SharedPods {
  /** By role: the environment of its pods' containers, with the addresses of here. */
  readonly environments: Readonly<Record<string, Environment>>
  /** Every password there is. */
  readonly secrets: ReadonlyArray<string>
  /** Of MongoDB, as its administrator. */
  readonly adminUrl: string
}

const folder = process.env["DARDA_TEST_CLUSTER"] === "1" ? process.env["DARDA_TEST_PODS"] : undefined
let known: SharedPods | undefined

/** Undefined where tests run on engines without passwords. */
export const sharedPods = (): SharedPods | undefined =>
  folder === undefined ? undefined : (known ??= askFor<SharedPods>(folder, "The engines of the overlay dev"))

/** The environments, on a log that nobody else has. Another database is the one thing that differs from what the overlay says, and only where a log of its own is needed. */
export const onFreshLog = async ({ adminUrl, environments }: SharedPods): Promise<SharedPods["environments"]> => {
  const database = `test_${randomBytes(6).toString("hex")}`
  const admin = new MongoClient(adminUrl)
  try {
    await admin.db("darda").command({ grantRolesToUser: "darda", roles: [{ role: "readWrite", db: database }] })
  } finally {
    await admin.close()
  }
  const elsewhere = (environment: Environment): Environment => {
    const url = new URL(environment["MONGO_URL"] as string)
    url.searchParams.set("authSource", url.pathname.slice(1))
    url.pathname = `/${database}`
    return { ...environment, MONGO_URL: url.toString() }
  }
  return Object.fromEntries(Object.entries(environments).map(([role, one]) => [role, elsewhere(one)]))
}
