/**
 * Who may import whom, as a rule of the linter. Paths are relative to the folder that is linted, with forward slashes.
 * Packages are named as they are written.
 */
import { posix, relative, sep } from "node:path"

/** What is used of the linter's syntax tree and of what it gives to a rule. */
type Source = { readonly type: string; readonly value?: unknown } | null
type Node = { readonly source: Source; readonly importKind?: string; readonly exportKind?: string }
type Context = {
  readonly cwd: string
  readonly filename: string
  report(problem: { readonly node: Source; readonly message: string }): void
}

/** What each area may import besides itself. Tests, benchmarks and scripts may import everything. */
const allowed: Record<string, ReadonlyArray<string>> = {
  domain: [],
  platform: ["domain"],
  "write-side": ["domain", "platform"],
  "read-side": ["domain", "platform"],
  edge: ["domain", "platform", "write-side", "read-side"],
  client: ["domain"],
  web: ["client", "domain"],
  main: ["domain", "platform", "write-side", "read-side", "edge", "client"]
}

/** What the read side may see of the write side: the log, and the bus that its events come by. */
const readPorts = ["src/write-side/EventLog.ts", "src/write-side/EventBus.ts"]
/** What browsers may load of the domain; everything else there they may name as a type. */
const browserFiles = ["src/domain/ids.ts", "src/domain/protocol/limits.ts", "src/domain/protocol/close-codes.ts"]
const adapter = /(?:Sqlite|Mongo|Rabbit|Redis|InProcess|Http)\.ts$/
const engine = /^(?:node:sqlite|amqplib|ioredis|mongodb)$/
const worker = /\.worker\.ts$/

const areaOf = (path: string): string | undefined =>
  path === "src/main.ts" ? "main" : (/^src\/([^/]+)\//.exec(path)?.[1] ?? /^(web)\//.exec(path)?.[1])

/** Why the file `from` may not import `to`; undefined if it may. `type` is an import that leaves nothing at run time. */
export const refusal = (from: string, to: string, type: boolean): string | undefined => {
  const area = areaOf(from)
  if (area === undefined) return undefined
  if (!/^(?:src|web|test|bench|scripts|bin)\//.test(to)) return packageRefusal(area, from, to, type)
  const target = areaOf(to)
  if (target === undefined) return `${area} may not import ${to}: it is no part of what runs`
  if (area !== target && !allowed[area]?.includes(target) && !(area === "read-side" && readPorts.includes(to))) {
    return `${area} may not import ${target}`
  }
  if (type) return undefined
  if ((area === "client" || area === "web") && target === "domain" && !browserFiles.includes(to)) {
    return `${area} runs in browsers: of ${to} it may import types only`
  }
  if (browserFiles.includes(from) && !browserFiles.includes(to))
    return `browsers load ${from}: it may import types only`
  if (adapter.test(to) && area !== "main" && !adapter.test(from) && !worker.test(from)) {
    return `${to} is an adapter, and adapters are chosen in src/main: import its port`
  }
  return undefined
}

const packageRefusal = (area: string, from: string, to: string, type: boolean): string | undefined => {
  if (to === "effect" && area !== "web")
    return 'the barrel costs start-up time: import * as Effect from "effect/Effect"'
  if (type) return undefined
  if (area === "client" || browserFiles.includes(from)) return `browsers load ${from}: it may depend on no package`
  if (engine.test(to) && /^(?:domain|edge|web)$/.test(area)) return `${area} may not know the engine ${to}`
  return undefined
}

const create = (context: Context) => {
  const from = relative(context.cwd, context.filename).split(sep).join("/")
  const check = ({ source, importKind, exportKind }: Node) => {
    if (source?.type !== "Literal" || typeof source.value !== "string") return
    const to = source.value.startsWith(".") ? posix.join(posix.dirname(from), source.value) : source.value
    const message = refusal(from, to, importKind === "type" || exportKind === "type")
    if (message !== undefined) context.report({ node: source, message })
  }
  return {
    ImportDeclaration: check,
    ImportExpression: check,
    ExportNamedDeclaration: check,
    ExportAllDeclaration: check
  }
}

export default { meta: { name: "darda" }, rules: { boundaries: { create } } }
