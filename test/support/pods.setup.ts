/** Has the engines of the overlay `dev` ready for the tests of the project `cluster`: started when the first of them asks, and ended with the run. */
import { randomBytes } from "node:crypto"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { binaries } from "../../scripts/services/binaries.ts"
import { testFolder } from "../../scripts/services/folders.ts"
import { type Pods, startPods } from "../k8s/pods.ts"
import { installed } from "../k8s/render.ts"
import { serveOnDemand } from "./onDemand.ts"
import type { SharedPods } from "./pods.ts"

export const setup = async (): Promise<() => Promise<void>> => {
  // Here, where nothing counts the time: a new machine has to fetch them.
  await binaries()
  const folder = join(testFolder, `${process.pid}-pods-${randomBytes(4).toString("hex")}`)
  let pods: Pods | undefined
  const ended = serveOnDemand(folder, async (): Promise<SharedPods> => {
    pods = await startPods(installed("dev"), join(folder, "engines"))
    const { adminUrl, environments, secrets } = pods
    return { adminUrl, environments, secrets }
  })
  process.env["DARDA_TEST_PODS"] = folder
  return async () => {
    await ended()
    await pods?.dispose()
    rmSync(folder, { recursive: true, force: true })
  }
}
