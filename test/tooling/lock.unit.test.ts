import { readFileSync } from "node:fs"
import { expect, test } from "vitest"

type Package = { readonly resolved?: string; readonly optionalDependencies?: Record<string, string> }

const text = readFileSync(new URL("../../package-lock.json", import.meta.url), "utf8")
const { packages } = JSON.parse(text) as { packages: Record<string, Package> }

test("the lock file names no registry", () => {
  expect(Object.keys(packages).length).toBeGreaterThan(100)
  expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([])
  expect(text).not.toContain("://registry")
})

test("the lock file has the packages for other systems, without which npm ci refuses it: npm run lock", () => {
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`${path}/node_modules/${name}` in packages) && !(`node_modules/${name}` in packages)
    )
  )
  expect(missing).toEqual([])
})
