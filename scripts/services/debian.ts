/** Debian's packages, without the services that come with them. */
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { failure, inPath, run } from "./run.ts"

export const canInstall = (): boolean => process.getuid?.() === 0 && existsSync("/etc/debian_version")

/** What the scripts of a package ask whether they may start its service; 101 is no. */
const POLICY = "/usr/sbin/policy-rc.d"
const REFUSED = 101
/** Where a policy of this machine that would allow it lies meanwhile. */
const ASIDE = `${POLICY}.before-darda`
const OURS = `#!/bin/sh\n# Put here while darda's services are installed.\nexit ${REFUSED}\n`

const APT_MS = 15 * 60_000
/** Another apt-get may be at work. */
const APT = ["-o", "DPkg::Lock::Timeout=600", "-qq"]

/** Installs the packages as root. Their services are neither started nor enabled; a policy of this machine is left as it was. */
export const install = async (packages: ReadonlyArray<string>, services: ReadonlyArray<string> = []): Promise<void> => {
  console.error(`Installing ${packages.join(" and ")} with apt-get`)
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  const apt = (...args: ReadonlyArray<string>) => run("apt-get", [...APT, ...args], { env, timeout: APT_MS })
  const restore = await forbidServices(services)
  // RabbitMQ brings Erlang, and that a port mapper for everyone.
  const sockets = inPath("epmd") === undefined ? ["epmd.service", "epmd.socket"] : []
  try {
    await apt("update")
    await apt("install", "-y", "--no-install-recommends", ...packages)
    // Nor at the next start of the machine.
    if (inPath("update-rc.d") !== undefined) {
      for (const service of services) await run("update-rc.d", [service, "disable"])
    }
    if (inPath("systemctl") !== undefined && inPath("epmd") !== undefined && sockets.length > 0)
      await run("systemctl", ["disable", "--quiet", ...sockets])
  } catch (cause) {
    throw new Error(`apt-get could not install ${packages.join(" and ")}: ${failure(cause)}`, { cause })
  } finally {
    restore()
  }
}

const refuses = async (service: string): Promise<boolean> => {
  try {
    await run(POLICY, [service, "start"])
    return false
  } catch (cause) {
    return ((cause as Error).cause as { readonly code?: unknown }).code === REFUSED
  }
}

/** Until the answer is called, packages may not start their services. */
const forbidServices = async (services: ReadonlyArray<string>): Promise<() => void> => {
  // Ours is left where a former call was killed.
  const present = existsSync(POLICY) && readFileSync(POLICY, "utf8") !== OURS
  if (present && (await Promise.all(services.map(refuses))).every(Boolean)) return () => {}
  if (present) renameSync(POLICY, ASIDE)
  writeFileSync(POLICY, OURS)
  chmodSync(POLICY, 0o755)
  const restore = (): void => {
    process.removeListener("exit", restore)
    if (existsSync(ASIDE)) renameSync(ASIDE, POLICY)
    else rmSync(POLICY, { force: true })
  }
  process.once("exit", restore)
  return restore
}
