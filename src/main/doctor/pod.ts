/** What the doctor checks where a process runs in a container: what it is limited to, how fast names are found, and who has its port. */
import { lookup } from "node:dns/promises"
import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import { join } from "node:path"
import * as Redacted from "effect/Redacted"
import { mebibytes } from "../../platform/DataFolder.ts"
import type { EngineAddresses, SettingsValues } from "../../platform/Settings.ts"
import { type Finding, good, note } from "./finding.ts"

/** A process takes about 150 MB before it does anything. */
const MEMORY_BYTES = 256 * 1024 * 1024
/** Every new connection to an engine waits for its name. */
const SLOW_NAME_MS = 500
const HEALTH_MS = 1_000

const read = (folder: string, file: string): string | undefined => {
  try {
    return readFileSync(join(folder, file), "utf8").trim()
  } catch {
    // No container, or one whose limits cannot be seen.
    return undefined
  }
}

/** The limits of the container, as version 2 of control groups tells them; nothing where there are none. */
export const checkLimits = (folder = "/sys/fs/cgroup"): ReadonlyArray<Finding> => {
  const findings: Array<Finding> = []
  const memory = Number(read(folder, "memory.max"))
  if (Number.isSafeInteger(memory) && memory > 0) {
    const text = `limited to ${mebibytes(memory)} of memory`
    findings.push(
      memory < MEMORY_BYTES
        ? note(`${text}, and at least ${mebibytes(MEMORY_BYTES)} are needed: raise the limit`)
        : good(text)
    )
  }
  const [quota, period] = (read(folder, "cpu.max") ?? "max").split(" ").map(Number)
  if (quota !== undefined && period !== undefined && quota > 0 && period > 0) {
    const stop = (period / 1_000).toFixed(0)
    findings.push(
      note(
        `limited to ${(quota / period).toFixed(1)} processors, which stops everything for up to ${stop} ms when they are used up: ` +
          "request as much, and leave the limit out"
      )
    )
  }
  return findings
}

/** The hosts of an address; MongoDB's may have several. A name behind which others are found (`mongodb+srv`) is none. */
const hostsOf = (url: string): ReadonlyArray<string> =>
  url.startsWith("mongodb+srv:")
    ? []
    : url
        .replace(/^[a-z]+:\/\/([^@/]*@)?/, "")
        .replace(/[/?].*$/, "")
        .split(",")
        .map((host) => host.replace(/:\d+$/, ""))
        .filter((host) => host !== "" && !host.startsWith("[") && isIP(host) === 0)

/** How long the names of the engines take to be found. What is not found at all is the engine's own finding. */
export const checkNames = async (engines: EngineAddresses): Promise<ReadonlyArray<Finding>> => {
  const hosts = new Set([engines.mongo, engines.amqp, engines.redis].flatMap(({ url }) => hostsOf(Redacted.value(url))))
  const found = await Promise.all(
    Array.from(hosts, async (host) => {
      const began = performance.now()
      try {
        await lookup(host)
      } catch {
        return []
      }
      const took = performance.now() - began
      const what = `the name ${host} is found in ${took.toFixed(0)} ms`
      return took > SLOW_NAME_MS ? [note(`${what}: look at the cluster's DNS`)] : [good(what)]
    })
  )
  return found.flat()
}

/** Whether a server of ours has the port: then the doctor looks at a pod that runs, and the port may well be taken. */
export const isServing = async ({ port }: Pick<SettingsValues, "port">): Promise<boolean> => {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(HEALTH_MS) })
    return ((await answer.json()) as { readonly status?: unknown }).status === "ok"
  } catch {
    return false
  }
}
