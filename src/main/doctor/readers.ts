/** What the doctor checks of READ_URL: that read processes answer there, know the same secret, and read the same log. */
import * as Redacted from "effect/Redacted"
import { clusterToken, QUERY_PREFIX } from "../../read-side/QueryApi.ts"
import { bad, type Finding, good, note } from "./finding.ts"
import { ANSWER_MS } from "./shared.ts"

/** Asks each. `log` is the id of the log in MONGO_URL, where it is known. */
export const checkReaders = (
  urls: ReadonlyArray<string>,
  secret: Redacted.Redacted<string> | undefined,
  log: string | undefined
): Promise<ReadonlyArray<Finding>> =>
  Promise.all(
    urls.map(async (url) => {
      const shown = `READ_URL ${new URL(url).host}`
      return secret === undefined
        ? note(`${shown}: not asked, since there is no CLUSTER_SECRET yet`)
        : await checkReader(url, shown, secret, log)
    })
  )

const checkReader = async (
  url: string,
  shown: string,
  secret: Redacted.Redacted<string>,
  log: string | undefined
): Promise<Finding> => {
  try {
    const answer = await fetch(`${url.replace(/\/$/, "")}${QUERY_PREFIX}log`, {
      headers: { authorization: `Bearer ${Redacted.value(clusterToken(secret))}` },
      signal: AbortSignal.timeout(ANSWER_MS)
    })
    if (answer.status === 401) return bad(`${shown}: has another CLUSTER_SECRET; give all processes the same`)
    if (!answer.ok) return bad(`${shown}: answers ${answer.status}: is it a process with the role read, and ready?`)
    const { id } = (await answer.json()) as { readonly id?: unknown }
    if (log !== undefined && id !== log)
      return bad(`${shown}: reads the log ${String(id)}, and MONGO_URL names ${log}: one of the two is wrong`)
    return good(`${shown}: answers queries about the log ${String(id)}`)
  } catch (cause) {
    const error = cause as Error
    return bad(`${shown}: does not answer: ${(error.cause as Error | undefined)?.message ?? error.message}`)
  }
}
