#!/usr/bin/env node
// Plain JavaScript that any node can read: finds a node that can run the TypeScript behind it.
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

const main = new URL("../src/main.ts", import.meta.url)
const own = fileURLToPath(new URL("../node_modules/node/bin/node", import.meta.url))

if (Number.parseInt(process.versions.node, 10) >= 24) {
  await import(main.href)
} else if (existsSync(own)) {
  const args = ["--max-semi-space-size=16", fileURLToPath(main), ...process.argv.slice(2)]
  const child = spawn(own, args, { stdio: "inherit" })
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 1) : 1))
} else {
  console.error(`darda: Node.js 24 or newer is needed, this is ${process.version}; install it, or run: npm ci`)
  process.exitCode = 1
}
