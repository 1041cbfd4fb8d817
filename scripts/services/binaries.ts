/** Where the servers' executables are. */
import { accessSync, constants, existsSync, realpathSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { mongodFile } from "./mongodFile.ts"

export interface Binaries {
  readonly mongod: string
  readonly redis: string
  /** The folder of RabbitMQ's own scripts. */
  readonly rabbit: string
}

export const inPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

/** Debian's /usr/sbin/rabbitmq-server changes the user: what it calls is taken, or what lies beside a server in PATH. */
const rabbitScripts = (): string | undefined => {
  if (existsSync("/usr/lib/rabbitmq/bin/rabbitmq-server")) return "/usr/lib/rabbitmq/bin"
  const file = inPath("rabbitmq-server")
  return file === undefined ? undefined : dirname(realpathSync(file))
}

/** Finds them, and gets those that are missing. */
export const binaries = async (): Promise<Binaries> => {
  const redis = inPath("redis-server")
  const rabbit = rabbitScripts()
  if (redis === undefined || rabbit === undefined) throw new Error("missing")
  return { mongod: await mongodFile(), redis, rabbit }
}
