/**
 * Objects against the types of the Kubernetes models. The validators of the models let fields pass that they do not know; the compiler does
 * not, where an object is a literal that `satisfies` its type.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Manifest } from "./render.ts"

const project = fileURLToPath(new URL("../../", import.meta.url))
const tsc = `${project}node_modules/typescript/bin/tsc`

/** Groups that are no part of Kubernetes itself. */
const packages: ReadonlyArray<readonly [suffix: string, name: string]> = [
  ["gateway.networking.k8s.io", "@kubernetes-models/gateway-api"],
  ["monitoring.coreos.com", "@kubernetes-models/prometheus-operator"]
]

const moduleOf = ({ apiVersion, kind }: Manifest): string => {
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : ""
  const models = packages.find(([suffix]) => suffix === group)?.[1] ?? "kubernetes-models"
  return `${models}/${apiVersion}/${kind}`
}

/** What the compiler says against these objects, one line each; nothing when they are right. */
export const typeProblems = (objects: ReadonlyArray<Manifest>): ReadonlyArray<string> => {
  mkdirSync(`${project}artifacts`, { recursive: true })
  // In the project, so that the models are found.
  const folder = mkdtempSync(`${project}artifacts/k8s-types-`)
  try {
    const source = objects.map((object, index) =>
      [
        `import type { I${object.kind} as T${index} } from "${moduleOf(object)}"`,
        // On one line, so that a line number says which object is meant.
        `;(${JSON.stringify(object)}) satisfies T${index}`
      ].join("\n")
    )
    writeFileSync(`${folder}/objects.ts`, source.join("\n"))
    const compilerOptions = {
      target: "ES2024",
      module: "NodeNext",
      moduleResolution: "NodeNext",
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      skipLibCheck: true
    }
    writeFileSync(`${folder}/package.json`, `{ "type": "module" }`)
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions, files: ["objects.ts"] }))
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", folder, "--pretty", "false"], {
      cwd: folder,
      encoding: "utf8",
      timeout: 120_000
    })
    if (status === 0) return []
    const lines = stdout.split("\n").filter((line) => line.trim() !== "")
    if (lines.length === 0) return [`the compiler ended with ${status}: ${stderr}`]
    return lines.map((line) => {
      const number = /^objects\.ts\((\d+),/.exec(line)?.[1]
      if (number === undefined) return line
      const object = objects[(Number(number) - 1) >> 1]
      return `${object.kind}/${object.metadata.name}: ${line.replace(/^[^:]*: /, "")}`
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
