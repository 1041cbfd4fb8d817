/** Where the servers' executables are. */
import { existsSync, realpathSync } from "node:fs"
import { dirname } from "node:path"
import { canInstall, install } from "./debian.ts"
import { exclusive } from "./lock.ts"
import { mongodFile } from "./mongodFile.ts"
import { inPath } from "./run.ts"

export interface Binaries {
  readonly mongod: string
  readonly redis: string
  /** The folder of RabbitMQ's own scripts. */
  readonly rabbit: string
}

const DEBIAN_SCRIPTS = "/usr/lib/rabbitmq/bin"

/** Debian's /usr/sbin/rabbitmq-server changes the user: what it calls is taken, or what lies beside a server in PATH. */
const rabbitScripts = (): string | undefined => {
  if (existsSync(`${DEBIAN_SCRIPTS}/rabbitmq-server`)) return DEBIAN_SCRIPTS
  const file = inPath("rabbitmq-server")
  return file === undefined ? undefined : dirname(realpathSync(file))
}

const redisServer = (): string | undefined => inPath("redis-server")

const missingPackages = (): ReadonlyArray<string> => [
  ...(redisServer() === undefined ? ["redis-server"] : []),
  ...(rabbitScripts() === undefined ? ["rabbitmq-server"] : [])
]

/** Finds them, and gets those that are missing: minutes, once on a machine. Linux only. */
export const binaries = async (): Promise<Binaries> => {
  if (process.platform !== "linux" || inPath("setpriv") === undefined)
    throw new Error("The engines run as plain processes on Linux with util-linux only: use docker-compose.yml here")
  const missing = missingPackages()
  if (missing.length > 0) {
    if (!canInstall())
      throw new Error(
        `Install ${missing.join(" and ")} (on Debian: apt-get install ${missing.join(" ")}), then try again`
      )
    await exclusive("installing", async () => {
      // Another checkout may have done it meanwhile.
      const still = missingPackages()
      if (still.length > 0) await install(still, still)
    })
  }
  const [redis, rabbit] = [redisServer(), rabbitScripts()]
  if (redis === undefined || rabbit === undefined)
    throw new Error(`apt-get installed ${missing.join(" and ")}, and still there is no such program in PATH`)
  return { mongod: await mongodFile(), redis, rabbit }
}
