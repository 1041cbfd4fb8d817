/** What `kubectl kustomize` makes of an overlay, and what belongs to it without being in it. */
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseAllDocuments } from "yaml"

/** One object of Kubernetes. Of no type until it is compared with one. */
export type Manifest = ReturnType<typeof JSON.parse>

const project = fileURLToPath(new URL("../../", import.meta.url))

export const overlays = ["dev", "production"] as const
export type Overlay = (typeof overlays)[number]

/** The objects of a YAML stream. */
export const objectsOf = (yaml: string): Array<Manifest> =>
  parseAllDocuments(yaml)
    .map((document) => {
      if (document.errors.length > 0) throw new Error(document.errors.join("\n"))
      return document.toJS()
    })
    .filter((object) => object !== null)

/** The objects of an overlay, as they would be applied. */
export const render = (overlay: Overlay): Array<Manifest> =>
  objectsOf(
    execFileSync("kubectl", ["kustomize", `k8s/overlays/${overlay}`], {
      cwd: project,
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024
    })
  )

/** Secrets that an overlay names and does not hold: those of production, as `scripts/k8s-secrets.ts` makes them. */
export const outsideSecrets = (overlay: Overlay): Array<Manifest> =>
  overlay === "dev"
    ? []
    : JSON.parse(
        execFileSync(process.execPath, [`${project}scripts/k8s-secrets.ts`], { cwd: project, encoding: "utf8" })
      ).items

/** Everything that is there once an overlay is applied. */
export const installed = (overlay: Overlay): Array<Manifest> => [...render(overlay), ...outsideSecrets(overlay)]
