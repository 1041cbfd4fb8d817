/** A RabbitMQ of the current user, with its own Erlang port mapper: nothing of it is shared with others on this machine. */
import { connect } from "amqplib"
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import type { Program } from "./processes.ts"

export interface RabbitPorts {
  readonly amqp: number
  /** Where rabbitmqctl reaches it. */
  readonly dist: number
  readonly epmd: number
}

export const rabbitPorts = (ports: Record<string, number>): RabbitPorts => ({
  amqp: ports["rabbitmq"] as number,
  dist: ports["rabbitmq-dist"] as number,
  epmd: ports["epmd"] as number
})

/** Listens on loopback only; the port mapper is started on its own, so that it can be ended on its own. */
const ERLANG = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
const NODE = "darda@localhost"

const environment = (folder: string, ports: RabbitPorts): NodeJS.ProcessEnv => ({
  PATH: process.env["PATH"],
  LANG: "C.UTF-8",
  HOME: folder,
  // The script becomes the server instead of watching over it.
  RUNNING_UNDER_SYSTEMD: "true",
  ERL_EPMD_ADDRESS: "127.0.0.1",
  ERL_EPMD_PORT: `${ports.epmd}`,
  RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
  RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
  RABBITMQ_CONF_ENV_FILE: join(folder, "rabbitmq-env.conf"),
  RABBITMQ_CTL_ERL_ARGS: ERLANG,
  RABBITMQ_DIST_PORT: `${ports.dist}`,
  RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
  RABBITMQ_GENERATED_CONFIG_DIR: join(folder, "generated"),
  RABBITMQ_LOGS: "-",
  RABBITMQ_LOG_BASE: join(folder, "log"),
  RABBITMQ_MNESIA_BASE: join(folder, "mnesia"),
  RABBITMQ_NODENAME: NODE,
  RABBITMQ_SCHEMA_DIR: join(folder, "schema"),
  RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: ERLANG
})

export const epmdProgram = (ports: RabbitPorts): Program => ({
  command: "epmd",
  args: ["-port", `${ports.epmd}`, "-address", "127.0.0.1"],
  env: { PATH: process.env["PATH"] }
})

/** Writes its settings into the folder, which is there. `scripts` is the folder of RabbitMQ's own scripts, `more` are further lines of rabbitmq.conf. */
export const rabbitProgram = (
  scripts: string,
  folder: string,
  ports: RabbitPorts,
  more: ReadonlyArray<string> = []
): Program => {
  const cookie = join(folder, ".erlang.cookie")
  // Erlang would make one itself, of a weak source; whoever knows it may run code as this user.
  if (!existsSync(cookie)) writeFileSync(cookie, randomBytes(24).toString("hex"), { mode: 0o400 })
  const settings = [`listeners.tcp.1 = 127.0.0.1:${ports.amqp}`, "log.connection.level = warning", ...more]
  writeFileSync(join(folder, "rabbitmq.conf"), settings.map((line) => `${line}\n`).join(""))
  writeFileSync(join(folder, "enabled_plugins"), "[].\n")
  return { command: join(scripts, "rabbitmq-server"), args: [], env: environment(folder, ports) }
}

export const amqpUrl = ({ amqp }: RabbitPorts): string => `amqp://127.0.0.1:${amqp}`

/** Whether it takes a connection; fails when it is older than 3.10. */
export const rabbitAnswers = async (ports: RabbitPorts): Promise<boolean> => {
  let version: string
  try {
    const connection = await connect(amqpUrl(ports), { timeout: 5000 })
    // Without a listener, a server that ends right now would end this process too.
    connection.on("error", () => {})
    version = String(connection.connection.serverProperties.version)
    await connection.close()
  } catch {
    return false
  }
  const [major = 0, minor = 0] = version.split(".").map(Number)
  if (major < 3 || (major === 3 && minor < 10))
    throw new Error(`RabbitMQ ${version} is too old: 3.10 or newer is needed`)
  return true
}

/** Runs rabbitmqctl (or another of the scripts) and gives what it prints; fails with what it complains of. At most a minute. */
export const rabbitCtl = async (
  scripts: string,
  folder: string,
  ports: RabbitPorts,
  args: ReadonlyArray<string>
): Promise<string> => {
  const env = environment(folder, ports)
  const { stdout } = await promisify(execFile)(join(scripts, "rabbitmqctl"), args, { env, timeout: 60_000 })
  return stdout
}
