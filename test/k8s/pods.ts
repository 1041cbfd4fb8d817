/**
 * What an overlay would install, on this machine: its engines with its files and passwords, and the environment that each role is given. What is
 * another here are addresses, since nobody resolves the names of a cluster, and folders.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { binaries } from "../../scripts/services/binaries.ts"
import { freePort } from "../../scripts/services/ports.ts"
import { eventually } from "../../scripts/services/processes.ts"
import { epmdProgram, rabbitPorts, rabbitProgram } from "../../scripts/services/rabbitmq.ts"
import { Child } from "./child.ts"
import { environmentOf, named, podOf, roles } from "./cluster.ts"
import type { Manifest } from "./render.ts"

const member = fileURLToPath(new URL("../../k8s/engines/mongodb/member.ts", import.meta.url))
const READY_MS = 120_000

type Environment = Readonly<Record<string, string>>

export interface Pods {
  /** By role: what the pods' containers get, with the addresses of here. Without PORT and READ_URL, which follow from where roles listen. */
  readonly environments: Readonly<Record<string, Environment>>
  /** Every password there is. */
  readonly secrets: ReadonlyArray<string>
  /** Of MongoDB, as its administrator. */
  readonly adminUrl: string
  /** Where RabbitMQ tells Prometheus about itself. */
  readonly rabbitMetricsPort: number
  readonly dispose: () => Promise<void>
}

/** Starts the engines of an overlay with one of each. `folder` is an empty one. */
export const startPods = async (objects: ReadonlyArray<Manifest>, folder: string): Promise<Pods> => {
  const children: Array<Child> = []
  const start = (...args: ConstructorParameters<typeof Child>): Child => {
    const child = new Child(...args)
    children.push(child)
    return child
  }
  const dispose = async (): Promise<void> => {
    await Promise.all(children.map((child) => child.dispose()))
  }
  const until = async (what: string, is: () => boolean | Promise<boolean>): Promise<void> => {
    if (await eventually(READY_MS, is)) return
    throw new Error(`${what} did not start:\n${children.map(({ output }) => output.slice(-2_000)).join("\n")}`)
  }
  try {
    const mongo = await startMongo(objects, join(folder, "mongodb"), start, until)
    const rabbit = await startRabbit(objects, join(folder, "rabbitmq"), start, until)
    const redis = await startRedis(objects, join(folder, "redis"), start, until)
    const places: ReadonlyArray<readonly [string, string]> = [
      ["0.0.0.0", "127.0.0.1"],
      ["mongodb-0.mongodb:27017", mongo.place],
      ["rabbitmq:5672", rabbit.place],
      ["redis:6379", redis]
    ]
    const here = (value: string): string => places.reduce((text, [there, place]) => text.replace(there, place), value)
    const environments = roles(objects).map((role) => {
      const { environment } = environmentOf(objects, podOf(role).containers[0])
      const entries = Object.entries(environment)
        .filter(([name]) => name !== "PORT" && name !== "READ_URL")
        .map(([name, value]) => [name, here(value)])
      return [role.metadata.name, Object.fromEntries(entries)]
    })
    const secrets = objects
      .filter(({ kind }) => kind === "Secret")
      .flatMap(({ data }) => Object.entries<string>(data))
      // A name is none.
      .filter(([key]) => !key.endsWith("_USER"))
      .map(([, value]) => Buffer.from(value, "base64").toString())
    return {
      environments: Object.fromEntries(environments),
      secrets,
      adminUrl: mongo.adminUrl,
      rabbitMetricsPort: rabbit.metrics,
      dispose
    }
  } catch (cause) {
    await dispose()
    throw cause
  }
}

type Start = (...args: ConstructorParameters<typeof Child>) => Child
type Until = (what: string, is: () => boolean | Promise<boolean>) => Promise<void>

const containerOf = (objects: ReadonlyArray<Manifest>, workload: string, name: string): Manifest =>
  podOf(named(objects, "StatefulSet", workload)).containers.find((one: Manifest) => one.name === name)

/** A file of the ConfigMap or Secret that a workload mounts under that name. */
const fileOf = (objects: ReadonlyArray<Manifest>, workload: string, volume: string, file: string): string => {
  const { configMap, secret } = podOf(named(objects, "StatefulSet", workload)).volumes.find(
    ({ name }: Manifest) => name === volume
  )
  return configMap === undefined
    ? Buffer.from(named(objects, "Secret", secret.secretName).data[file], "base64").toString()
    : named(objects, "ConfigMap", configMap.name).data[file]
}

const startMongo = async (
  objects: ReadonlyArray<Manifest>,
  folder: string,
  start: Start,
  until: Until
): Promise<{ readonly place: string; readonly adminUrl: string }> => {
  const [port, health] = [await freePort(), await freePort()]
  const place = `127.0.0.1:${port}`
  mkdirSync(join(folder, "data"), { recursive: true })
  writeFileSync(join(folder, "key"), fileOf(objects, "mongodb", "secret", "keyfile"), { mode: 0o400 })
  const paths: Readonly<Record<string, string>> = {
    "/data/db": join(folder, "data"),
    "/key/keyfile": join(folder, "key")
  }
  const [, ...args] = containerOf(objects, "mongodb", "mongod").command as ReadonlyArray<string>
  const { mongod } = await binaries()
  start(mongod, [
    ...args
      .filter((arg) => arg !== "--bind_ip_all")
      .map((arg) => Object.entries(paths).reduce((text, [there, path]) => text.replace(there, path), arg)),
    ...["--bind_ip", "127.0.0.1", "--port", `${port}`, "--quiet"]
  ])
  const { environment } = environmentOf(objects, containerOf(objects, "mongodb", "member"))
  const beside = { SELF: place, MEMBERS: place, HEALTH_PORT: `${health}` }
  const child = start(process.execPath, [member], { ...environment, ...beside })
  await until("MongoDB", () => child.output.includes("Let the user darda ask"))
  const password = encodeURIComponent(environment["ADMIN_PASSWORD"] ?? "")
  return { place, adminUrl: `mongodb://admin:${password}@${place}/?replicaSet=rs0&authSource=admin` }
}

const startRabbit = async (
  objects: ReadonlyArray<Manifest>,
  folder: string,
  start: Start,
  until: Until
): Promise<{ readonly place: string; readonly metrics: number }> => {
  const [amqp, dist, epmd, metrics] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const ports = rabbitPorts({ rabbitmq: amqp, "rabbitmq-dist": dist, epmd })
  const { rabbit } = await binaries()
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, ".erlang.cookie"), fileOf(objects, "rabbitmq", "secret", "erlang-cookie"), { mode: 0o400 })
  const program = rabbitProgram(rabbit, folder, ports)
  const here = [
    `listeners.tcp.1 = 127.0.0.1:${amqp}`,
    `prometheus.tcp.port = ${metrics}`,
    "prometheus.tcp.ip = 127.0.0.1"
  ]
  writeFileSync(
    join(folder, "rabbitmq.conf"),
    [fileOf(objects, "rabbitmq", "config", "rabbitmq.conf"), ...here, ""].join("\n")
  )
  writeFileSync(join(folder, "enabled_plugins"), fileOf(objects, "rabbitmq", "config", "enabled_plugins"))
  const { environment } = environmentOf(objects, containerOf(objects, "rabbitmq", "rabbitmq"))
  const { RABBITMQ_DEFAULT_PASS, RABBITMQ_DEFAULT_USER } = environment
  const ports_ = epmdProgram(ports)
  start(ports_.command, ports_.args, ports_.env)
  const child = start(program.command, program.args, { ...program.env, RABBITMQ_DEFAULT_PASS, RABBITMQ_DEFAULT_USER })
  await until("RabbitMQ", () => /startup complete/i.test(child.output))
  return { place: `127.0.0.1:${amqp}`, metrics }
}

const startRedis = async (
  objects: ReadonlyArray<Manifest>,
  folder: string,
  start: Start,
  until: Until
): Promise<string> => {
  const port = await freePort()
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "auth.conf"), fileOf(objects, "redis", "secret", "auth.conf"), { mode: 0o400 })
  const conf = fileOf(objects, "redis", "config", "redis.conf")
    .replace("/secret/auth.conf", join(folder, "auth.conf"))
    .replace("dir /data", `dir ${folder}`)
  writeFileSync(join(folder, "redis.conf"), conf)
  const { redis } = await binaries()
  const child = start(redis, [join(folder, "redis.conf"), "--port", `${port}`, "--bind", "127.0.0.1"])
  await until("Redis", () => child.output.includes("Ready to accept connections"))
  return `127.0.0.1:${port}`
}
