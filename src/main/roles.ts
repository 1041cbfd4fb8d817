/** What a process does: each role alone, or several, or all of them in one. */
import * as Effect from "effect/Effect"
import type { EngineAddresses, SettingsValues } from "../platform/Settings.ts"
import { tlsFilesTrouble } from "../platform/tlsTrouble.ts"
import { Failures } from "./run.ts"

export const ROLES = ["edge", "write", "read"] as const

/** `edge`: sockets, HTTP API, web app. `write`: committer and relay. `read`: projector and query API. */
export type Role = (typeof ROLES)[number]

/** The roles of a list such as `edge,read`; the problem where it is none. */
export const parseRoles = (list: string): ReadonlySet<Role> | string => {
  const roles = new Set<Role>()
  for (const name of list.split(",").map((part) => part.trim())) {
    const role = ROLES.find((known) => known === name)
    if (role === undefined)
      return `--roles is "${list}"; allowed: one or more of ${ROLES.join(", ")}, separated by commas`
    roles.add(role)
  }
  return roles
}

/** Refuses roles that cannot be had with these engines. */
export const checkRoles = (
  roles: ReadonlySet<Role>,
  engines: EngineAddresses | undefined,
  readUrls: ReadonlyArray<string>
): Effect.Effect<void, Failures> => {
  if (engines === undefined) {
    if (roles.size === ROLES.length) return Effect.void
    return Effect.fail(
      new Failures([
        `--roles ${[...roles].join(",")} needs engines that processes share: set MONGO_URL, AMQP_URL and REDIS_URL, or leave --roles out`
      ])
    )
  }
  if (roles.has("edge") && !roles.has("read") && readUrls.length === 0) {
    return Effect.fail(
      new Failures(["READ_URL is not set: an edge without the role read asks a read process, such as http://read:8080"])
    )
  }
  return Effect.void
}

/** Refuses files of TLS settings that cannot be used, of the engines that these roles connect to. */
export const checkTlsFiles = (
  settings: SettingsValues,
  engines: EngineAddresses,
  roles: ReadonlySet<Role>
): Effect.Effect<void, Failures> =>
  Effect.suspend(() => {
    // An edge looks into the log for one thing alone: the secret that is kept with it.
    const readsLog = roles.has("write") || roles.has("read") || settings.clusterSecret === undefined
    const problems = [
      readsLog ? tlsFilesTrouble("MONGO", engines.mongo) : undefined,
      tlsFilesTrouble("AMQP", engines.amqp),
      tlsFilesTrouble("REDIS", engines.redis)
    ].filter((problem) => problem !== undefined)
    return problems.length === 0 ? Effect.void : Effect.fail(new Failures(problems))
  })
