// Renews package-lock.json: `npm run lock`, after any change of a dependency.
//
// npm leaves out of the lock the packages for other systems which its registry does not offer, and then `npm ci`
// refuses that lock as incomplete, or installs one without the binaries that another system needs. They are put back
// here by name and exact version. Their system is part of their name.
import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"

type Package = {
  version?: string
  dev?: boolean
  optionalDependencies?: Record<string, string>
  [field: string]: unknown
}

const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const processors = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64", "wasm32"]

/** The `os`, `cpu` and `libc` fields of a package named like `@oxlint/binding-linux-arm64-musl`. */
const systemOf = (name: string): object => {
  if (name === "fsevents") return { os: ["darwin"] }
  const words = name.split(/[-/]/)
  const os = systems.filter((system) => words.includes(system))
  const cpu = processors.filter((processor) => words.includes(processor))
  const libc = words.includes("musl") ? { libc: ["musl"] } : words.includes("gnu") ? { libc: ["glibc"] } : {}
  if (cpu.length === 0 || (os.length === 0 && cpu[0] !== "wasm32")) {
    throw new Error(`package-lock.json lacks ${name}, and its name does not say for which system it is`)
  }
  return { ...(os.length > 0 ? { os } : {}), cpu, ...libc }
}

const npmWritesLock = () => execFileSync("npm", ["install", "--package-lock-only"], { stdio: "inherit" })

npmWritesLock()
const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as { packages: Record<string, Package> }
for (const [path, { dev, optionalDependencies = {} }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const places = [`${path}/node_modules/${name}`, `node_modules/${name}`]
    if (places.some((place) => lock.packages[place] !== undefined)) continue
    if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`package-lock.json lacks ${name}@${version} of ${path}`)
    lock.packages[`node_modules/${name}`] = {
      version,
      ...(dev === true ? { dev } : {}),
      optional: true,
      ...systemOf(name)
    }
  }
}
writeFileSync("package-lock.json", JSON.stringify(lock, null, 2))
npmWritesLock()
